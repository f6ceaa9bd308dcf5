"""Send a dump, or a range of it, as a file of the server."""

import base64
import io
import os
from typing import BinaryIO

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import wrap_file

from app.models import DatabaseBackup


class FilePart:
    """A part of a file with the interface of a file.

    Waitress sends it like any file, so a slow client of a range keeps a socket busy, and
    not a thread as with the range wrapper of Werkzeug.
    """

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length = file, start, length
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._length - self.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._length}[whence]
        self._file.seek(self._start + base + offset)
        return self.tell()

    def tell(self) -> int:
        return self._file.tell() - self._start

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()


def dump_response(backup: DatabaseBackup, file: BinaryIO) -> Response:
    """The response with a dump (RFC 9110, 13 and 14; RFC 9530, Repr-Digest).

    It closes the file. A request for several ranges gets the whole dump, as RFC 9110
    allows.
    """
    response = Response(mimetype="application/octet-stream")
    digest = base64.b64encode(bytes.fromhex(backup.sha256)).decode()
    response.headers["Content-Disposition"] = f'attachment; filename="{backup.filename}"'
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Repr-Digest"] = f"sha-256=:{digest}:"
    response.set_etag(backup.sha256)
    if request.if_none_match.contains_weak(backup.sha256):
        file.close()
        response.status_code = 304
        return response
    try:
        start, stop = _requested_part(backup)
    except RequestedRangeNotSatisfiable:
        file.close()
        raise
    if (start, stop) != (0, backup.size) or _is_range_requested(backup):
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{backup.size}"
    response.content_length = stop - start
    if request.method == "HEAD":
        file.close()
        return response
    part = FilePart(file, start, stop - start)
    response.response = wrap_file(request.environ, part, io.DEFAULT_BUFFER_SIZE * 8)  # type: ignore[arg-type]
    response.direct_passthrough = True
    return response


def _is_range_requested(backup: DatabaseBackup) -> bool:
    """Whether one range of this dump is requested (If-Range compares strongly)."""
    wanted = request.range
    return (
        request.method == "GET"
        and wanted is not None
        and wanted.units == "bytes"
        and len(wanted.ranges) == 1
        and request.headers.get("If-Range", f'"{backup.sha256}"') == f'"{backup.sha256}"'
    )


def _requested_part(backup: DatabaseBackup) -> tuple[int, int]:
    """Start and end of the response. Raises RequestedRangeNotSatisfiable."""
    whole = (0, backup.size)
    if not _is_range_requested(backup) or request.range is None:
        return whole
    start, _ = request.range.ranges[0]
    if start is not None and start < -backup.size:
        return whole  # more last bytes than there are
    part = request.range.range_for_length(backup.size)
    if part is None:
        raise RequestedRangeNotSatisfiable(length=backup.size)
    return part
