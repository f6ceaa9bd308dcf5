"""The backup that a restore is made from; each part of it is read once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.extensions import db
from app.models import DatabaseBackup, Proof
from app.postgres.archive import Entry, read_entries
from app.services.backups.listing import get_backup
from app.services.databases.configured import storage
from app.services.proofs.records import best_proofs


@dataclass(frozen=True)
class Source:
    """A backup as it was when it was read: a commit does not reload its row."""

    backup: DatabaseBackup

    @property
    def filename(self) -> str:
        return self.backup.filename

    @property
    def contents(self) -> dict[str, Any]:
        """What the backup holds, as its manifest lists it."""
        return self.backup.contents or {}

    @cached_property
    def proof(self) -> Proof | None:
        """The proof that the lists show for it."""
        proof = best_proofs([self.backup]).get(self.backup.id)
        if proof is not None:
            db.session.expunge(proof)
        return proof

    @cached_property
    def entries(self) -> list[Entry]:
        """The table of contents of its dump. Raises ObjectMissing, DumpError."""
        with storage().open(self.filename) as file:
            return read_entries(file)


def get_source(filename: str) -> Source:
    """The backup of this name, to restore from. Raises NotFound."""
    backup = get_backup(filename)
    source = Source(backup)
    _ = source.contents  # a detached row cannot load it later
    db.session.expunge(backup)
    return source
