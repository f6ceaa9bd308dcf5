"""Where dumps rest: a few verbs over a place for files."""

from typing import BinaryIO, Protocol

from app.storages.checksum import sha256_of
from app.storages.local import LocalStorage, Staged, Stored

__all__ = ["LocalStorage", "Staged", "Storage", "Stored", "sha256_of"]


class Storage(Protocol):
    """What every place for dumps can do.

    A dump has its final name only when it is whole. Errors are StorageError,
    ObjectMissing and StorageFull.
    """

    def stage(self, name: str) -> Staged:
        """Reserve a private place for the dump `name` while it is written."""

    def publish(self, staged: Staged, manifest: bytes) -> None:
        """Make a whole dump durable and give it its final name; never overwrite."""

    def make_durable(self) -> None:
        """Make sure that the names of published dumps survive a power cut."""

    def open_staged(self, staged: Staged) -> BinaryIO:
        """Open what was written so far for reading."""

    def discard(self, staged: Staged) -> None:
        """Remove what was staged, unless it was published, and end the reservation."""

    def open(self, name: str) -> BinaryIO:
        """Open a published dump for reading."""

    def is_being_read(self, name: str) -> bool:
        """Whether somebody has a published dump open, as far as can be seen from here."""

    def manifest(self, name: str) -> bytes:
        """The manifest of a dump."""

    def replace_manifest(self, name: str, manifest: bytes) -> None:
        """Give a published dump a new manifest, in one step."""

    def delete(self, name: str) -> None:
        """Remove a dump and then its manifest; what is gone already is no error."""

    def list(self) -> dict[str, Stored]:
        """The published dumps by name."""

    def free_space(self) -> int:
        """How many bytes can still be written."""
