"""Uploads: dumps of others, as far as they have come.

How much of one has come is the length of its file and nothing else, so that
a crash at any moment leaves an offset to go on from.
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
from app.storages.telling import not_a_link, telling

KEPT = 24 * 3600  # seconds after the last part

_PREFIX = "upload_"
_ID = re.compile(r"[a-z0-9]{1,32}")


class Uploads:
    """A folder's uploads, by their ids."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, upload_id: str) -> Path:
        """Where it lies. Raises NotFound for what is no id, StorageError behind a link."""
        if not _ID.fullmatch(upload_id):
            raise NotFound("no upload has this id")
        return not_a_link(self._folder) / f"{_PREFIX}{upload_id}"

    def begin(self, upload_id: str) -> None:
        """Make room for one. Raises StorageError."""
        with telling("the upload cannot begin"):
            path = self.path_of(upload_id)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(locks.create_locked(path))

    def append(self, upload_id: str, offset: int, blocks: Iterable[bytes]) -> int:
        """Add a part where the last one ended; returns how many bytes have come, durably.

        A part that does not come whole leaves nothing. Raises NotFound,
        Conflict for another offset or beside another writer, StorageError.
        """
        with telling("the upload cannot be written"):
            descriptor = self._locked(upload_id)
            try:
                found = os.fstat(descriptor).st_size
                if found != offset:
                    raise Conflict(
                        f"the upload goes on at byte {found}, not at {offset}",
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
        """How many bytes have come. Raises NotFound."""
        try:
            return self.path_of(upload_id).lstat().st_size
        except FileNotFoundError:
            raise NotFound("no upload has this id", hint="It may be over; start again.") from None

    def open(self, upload_id: str) -> BinaryIO:
        """What has come, for reading. Raises NotFound, StorageError."""
        self.received(upload_id)
        with telling("the upload cannot be read"):
            return self.path_of(upload_id).open("rb")

    def remove(self, upload_id: str) -> None:
        """Forget it; one that is gone is no error."""
        with telling("the upload cannot be removed"):
            self.path_of(upload_id).unlink(missing_ok=True)

    def remove_old(self) -> list[str]:
        """Remove those to which nothing was added for a day; returns their ids."""
        gone = []
        with telling("old uploads cannot be removed"):
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
