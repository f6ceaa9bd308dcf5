"""Send a dump, or a range of it: as a file of the server, or from a store."""

import base64
import io
import os
from threading import BoundedSemaphore
from typing import BinaryIO, Protocol

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import wrap_file

from app.errors import Busy, ObjectMissing
from app.services.backups import service
from app.services.copies.download import StoredCopy, open_copy, open_plain_copy
from app.services.restores.schema import open_schema

_AT_ONCE = 2  # downloads from stores: each one keeps a thread of the web server busy

_slots = BoundedSemaphore(_AT_ONCE)


class Offered(Protocol):
    """What can be downloaded."""

    @property
    def filename(self) -> str:
        """How it is saved."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def sha256(self) -> str:
        """In hex."""


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


def backup_response(filename: str) -> Response:
    """The response with the dump of a backup, from a store where the file is gone.

    Raises as `open_backup` and `copy_response`.
    """
    try:
        backup, file = service.open_backup(filename)
    except ObjectMissing:
        if (stored := open_plain_copy(filename)) is None:
            raise
        return _from_store(stored)
    try:
        response, part = _answer(backup)
    except RequestedRangeNotSatisfiable:
        file.close()
        raise
    if part is None:
        file.close()
        return response
    body = FilePart(file, part.start, len(part))
    response.response = wrap_file(request.environ, body, io.DEFAULT_BUFFER_SIZE * 8)  # type: ignore[arg-type]
    response.direct_passthrough = True
    return response


def copy_response(copy_id: str) -> Response:
    """The response with the object of a copy, as it lies in its store.

    Raises Busy while too many are sent, and as `open_copy`.
    """
    return _from_store(open_copy(copy_id))


def _from_store(stored: StoredCopy) -> Response:
    response, part = _answer(stored)
    if part is None:
        return response
    if not _slots.acquire(blocking=False):
        raise Busy(
            f"{_AT_ONCE} downloads from stores are under way",
            retry_after=30,
            hint="Wait until one has ended, or fetch the copy.",
        )
    response.call_on_close(_slots.release)
    try:
        response.response = stored.read(part.start, len(part))
    except BaseException:
        response.close()
        raise
    return response


def _answer(offered: Offered) -> tuple[Response, range | None]:
    """The response, and which bytes its body has (RFC 9110, 13 and 14; RFC 9530, Repr-Digest).

    None: it has no body. A request for several ranges gets the whole, as RFC 9110 allows.
    Raises RequestedRangeNotSatisfiable.
    """
    response = Response(mimetype="application/octet-stream")
    digest = base64.b64encode(bytes.fromhex(offered.sha256)).decode()
    response.headers["Content-Disposition"] = f'attachment; filename="{offered.filename}"'
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Repr-Digest"] = f"sha-256=:{digest}:"
    response.set_etag(offered.sha256)
    if request.if_none_match.contains_weak(offered.sha256):
        response.status_code = 304
        return response, None
    part = _requested_part(offered)
    if len(part) != offered.size or _is_range_requested(offered):
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{offered.size}"
    response.content_length = len(part)
    return response, None if request.method == "HEAD" else part


def _is_range_requested(offered: Offered) -> bool:
    """Whether one range of it is requested (If-Range compares strongly)."""
    wanted = request.range
    return (
        request.method == "GET"
        and wanted is not None
        and wanted.units == "bytes"
        and len(wanted.ranges) == 1
        and request.headers.get("If-Range", f'"{offered.sha256}"') == f'"{offered.sha256}"'
    )


def _requested_part(offered: Offered) -> range:
    """The bytes of the response. Raises RequestedRangeNotSatisfiable."""
    whole = range(offered.size)
    if not _is_range_requested(offered) or request.range is None:
        return whole
    start, _ = request.range.ranges[0]
    if start is not None and start < -offered.size:
        return whole  # more last bytes than there are
    part = request.range.range_for_length(offered.size)
    if part is None:
        raise RequestedRangeNotSatisfiable(length=offered.size)
    return range(*part)


def schema_response(filename: str) -> Response:
    """The schema of a backup as plain text. Raises as `open_schema`."""
    schema = open_schema(filename)
    charset = schema.codec.replace("_", "-")  # as browsers spell it
    response = Response(
        wrap_file(request.environ, schema.file), content_type=f"text/plain; charset={charset}"
    )
    response.call_on_close(schema.file.close)
    return response
