"""What copies lie in a store, as their marks say; anybody may have written those.

The marks are read one by one, and what they say waits in a file: memory stays flat however
many there are.
"""

import heapq
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import IO

from app.encryption import Identity
from app.errors import InvalidInput, ObjectMissing, VerificationError
from app.services.backups.manifests import facts_in, is_signed, read_manifest
from app.services.copies.mark import Mark, Measured, mark_key, read_mark
from app.storages.local import NAME
from app.stores import Store

_LARGEST = 64 * 1024**2  # bytes of a mark; one of 300,000 tables has less
_MOST_NAMED = 20  # marks that cannot be used
_MOST_DATABASES = 1000  # that are counted; all others together
_TRIED = 20  # copies that are looked at for a good one


@dataclass(frozen=True)
class FoundCopy:
    """A copy as its mark describes it; empty texts where that is encrypted."""

    filename: str
    key: str
    size: int
    sha256: str
    dump_sha256: str
    is_encrypted: bool
    dumped_at: str  # as datetime.isoformat writes it, in UTC
    server: str = ""
    database: str = ""
    is_signed: bool = False  # its manifest, with our SECRET_KEY
    is_known: bool = False  # what its manifest says


@dataclass
class Inventory:
    """The copies in a store, counted."""

    file: IO[str]
    copies: int = 0
    size: int = 0  # bytes
    encrypted: int = 0
    unknown: int = 0  # without an identity that fits
    unsigned: int = 0
    databases: dict[tuple[str, str], int] = field(default_factory=dict)
    bad: int = 0
    bad_named: list[str] = field(default_factory=list)

    def add(self, copy: FoundCopy) -> None:
        """Count a copy, and keep it in the file."""
        self.file.write(json.dumps(asdict(copy)) + "\n")
        self.copies += 1
        self.size += copy.size
        self.encrypted += copy.is_encrypted
        self.unknown += not copy.is_known
        self.unsigned += copy.is_known and not copy.is_signed
        at = (copy.server, copy.database)
        if at not in self.databases and len(self.databases) >= _MOST_DATABASES:
            at = ("", "")
        self.databases[at] = self.databases.get(at, 0) + 1

    def add_bad(self, filename: str, reason: str) -> None:
        """Count a mark that cannot be used."""
        self.bad += 1
        if len(self.bad_named) < _MOST_NAMED:
            self.bad_named.append(f"{filename}: {reason}")

    def all_copies(self) -> Iterator[FoundCopy]:
        """The copies in no particular order."""
        self.file.seek(0)
        for line in self.file:
            yield FoundCopy(**json.loads(line))

    def newest(self, database: str) -> list[FoundCopy]:
        """The newest copies of a database, by its name there, or of any; signed ones first."""
        chosen = (copy for copy in self.all_copies() if database in ("", copy.database))
        return heapq.nlargest(_TRIED, chosen, key=_rank)


def _rank(copy: FoundCopy) -> tuple[bool, str, str]:
    return copy.is_signed, copy.dumped_at, copy.filename


@contextmanager
def take_inventory(
    store: Store,
    identities: Sequence[Identity],
    on_mark: Callable[[int], None] = lambda _: None,
) -> Iterator[Inventory]:
    """The copies in a store, for the time of the block.

    `on_mark` gets 1 for each mark. Raises StorageError.
    """
    with tempfile.TemporaryFile("w+", encoding="ascii") as file:
        inventory = Inventory(file)
        for item in store.list():
            filename = item.key.removesuffix(".json")
            if item.key != mark_key(filename) or not NAME.fullmatch(filename):
                continue
            try:
                inventory.add(_look(store, filename, item.modified, identities))
            except (VerificationError, ObjectMissing) as error:
                inventory.add_bad(filename, error.message)
            on_mark(1)
        yield inventory


def _look(
    store: Store, filename: str, modified: datetime, identities: Sequence[Identity]
) -> FoundCopy:
    mark = read_mark(store, filename, largest=_LARGEST)
    if store.size(mark.key) != mark.stored.size:
        raise ObjectMissing(f"{mark.key} is missing, or not whole")
    copy = FoundCopy(
        filename=filename,
        key=mark.key,
        size=mark.stored.size,
        sha256=mark.stored.sha256,
        dump_sha256=mark.dump.sha256,
        is_encrypted=mark.is_encrypted,
        dumped_at=(_moment_in(filename) or modified).isoformat(),
    )
    manifest = _manifest(mark, identities)
    return copy if manifest is None else _described(copy, mark, manifest)


def _manifest(mark: Mark, identities: Sequence[Identity]) -> bytes | None:
    """The manifest of the backup; None where no identity fits."""
    if mark.is_encrypted and not identities:
        return None
    try:
        return mark.manifest_of_backup(identities)
    except InvalidInput:
        return None


def _described(copy: FoundCopy, mark: Mark, manifest: bytes) -> FoundCopy:
    content = read_manifest(manifest)
    facts = facts_in(content)
    if (Measured(facts.size, facts.sha256), facts.filename) != (mark.dump, mark.filename):
        raise VerificationError("the manifest contradicts itself")
    return replace(
        copy,
        dumped_at=facts.created_at.isoformat(),
        server=facts.server,
        database=facts.database,
        is_signed=is_signed(content),
        is_known=True,
    )


def _moment_in(filename: str) -> datetime | None:
    """The time in the name of a backup."""
    try:
        return datetime.strptime(filename, "backup_%Y-%m-%dT%H-%M-%S-%fZ.dump").replace(tzinfo=UTC)
    except ValueError:
        return None
