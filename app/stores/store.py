"""What every store of copies can do, and how its objects are named."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from app.errors import ObjectMissing
from app.stores.address import StoreAddress

CHUNK = 1024 * 1024  # bytes that are read or written at once

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._@+=,-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_LONGEST_KEY = 800  # bytes; S3 allows 1,024, with the prefix


@dataclass(frozen=True)
class StoredObject:
    """One object of a listing. Others may have chosen its key: never join it to a path."""

    key: str
    size: int  # bytes
    modified: datetime


@dataclass(frozen=True)
class Protections:
    """What the service does for its objects; None where it does not tell."""

    versioning: bool | None = None  # a replaced or removed object can be brought back
    object_lock: bool | None = None  # objects can be kept from being removed
    aborts_unfinished: bool | None = None  # uploads that never ended are removed by a rule


class Store(Protocol):
    """A place for copies. Every method raises StorageError or one of its kinds."""

    @property
    def address(self) -> StoreAddress:
        """Where it is."""

    def put(self, key: str, chunks: Iterable[bytes], *, expected_size: int = 0) -> int:
        """Write an object, replacing one of the same key; return its size in bytes.

        The key appears only once the object is complete. What `chunks` raises comes out,
        and nothing is left. `expected_size` allows for objects of more than 78 GiB.
        """

    def put_new(self, key: str, content: bytes) -> None:
        """Write a small object, if there is none of this key. Raises ObjectExists.

        After a broken connection, that may be the object which this very call has written:
        read it to know.
        """

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes from `start`, at most `length`. Raises ObjectMissing at once.

        The connection ends with the iterator, also if that is closed before its end.
        """

    def size(self, key: str) -> int | None:
        """The size of an object in bytes; None if there is none."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """All objects whose keys begin with `prefix`, in no particular order."""

    def delete(self, key: str) -> None:
        """Remove an object, if there is one. Raises ObjectLocked."""

    def remove_unfinished(self, older_than: timedelta) -> int:
        """Remove what uploads have left that began, or last grew, so long ago; return how many.

        An upload that still runs is ended by it, so allow more than the longest one takes.
        """

    def protections(self) -> Protections:
        """What the service does for its objects."""


def checked(key: str) -> str:
    """The same key. Raises ObjectMissing for one that we never write: it could be a path."""
    if not is_key(key):
        raise ObjectMissing("no object of ours has such a key")
    return key


def is_key(key: str) -> bool:
    """Whether we may have written it."""
    return len(key) <= _LONGEST_KEY and _KEY.fullmatch(key) is not None


def folder_of(prefix: str) -> str | None:
    """The folder, with its final slash, that holds all keys with this prefix.

    None if no key of ours can have it.
    """
    folder, slash, _ = prefix.rpartition("/")
    if folder and not _KEY.fullmatch(folder):
        return None
    return f"{folder}{slash}" if folder or not slash else None
