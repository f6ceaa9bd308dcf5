"""Uploads of foreign dumps, which may be interrupted and resumed.

The offset of an upload is the length of its file alone, so it survives a crash.
"""

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from app import locks
from app.errors import Conflict, NotFound
from app.storages.files import not_a_link, storage_errors

KEPT = 24 * 3600  # seconds after the last part

_PREFIX = "upload_"
_ID = re.compile(r"[a-z0-9]{1,32}")


class Uploads:
    """The uploads in a folder, by id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, upload_id: str) -> Path:
        """The path of an upload. Raises NotFound for an invalid id, StorageError behind a link."""
        if not _ID.fullmatch(upload_id):
            raise NotFound("no upload has this id")
        return not_a_link(self._folder) / f"{_PREFIX}{upload_id}"

    def begin(self, upload_id: str) -> None:
        """Create an empty upload. Raises StorageError."""
        with storage_errors("the upload cannot begin"):
            path = self.path_of(upload_id)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(locks.create_locked(path))

    def append(self, upload_id: str, offset: int, blocks: Iterable[bytes]) -> int:
        """Add a part where the last one ended; return how many bytes are durable.

        An incomplete part leaves nothing. Raises NotFound, StorageError, and Conflict
        for another offset or while another part is being written.
        """
        with storage_errors("the upload cannot be written"):
            descriptor = self._locked(upload_id)
            try:
                received = os.fstat(descriptor).st_size
                if received != offset:
                    raise Conflict(
                        f"the upload goes on at byte {received}, not at {offset}",
                        hint="Ask for its offset, and send what comes then.",
                    )
                try:
                    os.lseek(descriptor, offset, os.SEEK_SET)
                    for block in blocks:
                        rest = memoryview(block)
                        while rest:
                            rest = rest[os.write(descriptor, rest) :]
                    os.fsync(descriptor)
                except BaseException:
                    os.ftruncate(descriptor, offset)
                    raise
                return os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)

    def received(self, upload_id: str) -> int:
        """How many bytes have arrived. Raises NotFound."""
        try:
            return self.path_of(upload_id).lstat().st_size
        except FileNotFoundError:
            raise NotFound("no upload has this id", hint="It may be over; start again.") from None

    def open(self, upload_id: str) -> BinaryIO:
        """Open the upload for reading. Raises NotFound, StorageError."""
        self.received(upload_id)
        with storage_errors("the upload cannot be read"):
            return self.path_of(upload_id).open("rb")

    def remove(self, upload_id: str) -> None:
        """Remove an upload, if there is one."""
        with storage_errors("the upload cannot be removed"):
            self.path_of(upload_id).unlink(missing_ok=True)

    def remove_old(self) -> list[str]:
        """Remove uploads that did not grow for a day; return their ids."""
        gone = []
        with storage_errors("old uploads cannot be removed"):
            for path in not_a_link(self._folder).glob(f"{_PREFIX}*"):
                with suppress(FileNotFoundError):
                    if path.lstat().st_mtime < time.time() - KEPT and locks.remove_unlocked(path):
                        gone.append(path.name.removeprefix(_PREFIX))
        return gone

    def _locked(self, upload_id: str) -> int:
        try:
            return locks.lock(self.path_of(upload_id))
        except FileNotFoundError:
            raise NotFound("no upload has this id", hint="It may be over; start again.") from None
        except BlockingIOError:
            raise Conflict(
                "another part of this upload is being written", hint="Send one after the other."
            ) from None
