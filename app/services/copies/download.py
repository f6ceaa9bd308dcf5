"""Copies as they lie in their stores, for a download: encrypted ones stay encrypted."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import Conflict
from app.extensions import db
from app.models import Copy
from app.services.copies.marked import MarkedCopy, find_marked, good_copies
from app.services.copies.service import get_copy
from app.services.copies.transfer import exactly


@dataclass(frozen=True)
class StoredCopy:
    """The object of a copy."""

    copy: MarkedCopy

    @property
    def filename(self) -> str:
        """How it is saved."""
        mark = self.copy.mark
        return f"{mark.filename}.age" if mark.is_encrypted else mark.filename

    @property
    def size(self) -> int:
        """In bytes."""
        return self.copy.mark.stored.size

    @property
    def sha256(self) -> str:
        """In hex."""
        return self.copy.mark.stored.sha256

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """A part of it.

        Raises ObjectMissing and StorageError at once; the whole of a damaged one raises
        VerificationError at its end.
        """
        chunks = self.copy.target.read(self.copy.mark.key, start, length)
        if length < self.size:
            return chunks
        return exactly(chunks, self.copy.mark.stored, self.copy.what)


def open_copy(copy_id: str) -> StoredCopy:
    """A copy to download. Raises NotFound, Conflict if it is not whole, and as `find_marked`."""
    if not get_copy(copy_id).is_good:
        raise Conflict("there is no whole copy to download")
    return StoredCopy(find_marked(copy_id))


def open_plain_copy(filename: str) -> StoredCopy | None:
    """A copy of a backup that is not encrypted, if there is one. Raises as `find_marked`."""
    plain = good_copies(filename).where(Copy.is_encrypted.is_(False))
    copy = db.session.scalar(plain.limit(1))
    return StoredCopy(find_marked(copy.id)) if copy is not None else None
