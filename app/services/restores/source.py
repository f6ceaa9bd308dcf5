"""The backup that a restore is made from, each part of it read once, and where it goes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.extensions import db
from app.models import Database, DatabaseBackup, Proof
from app.postgres.archive import Entry, read_entries
from app.services.backups.listing import get_backup
from app.services.databases.configured import storage
from app.services.databases.connections import can_be_reached
from app.services.databases.lookup import default_database, find_database, get_database
from app.services.proofs.records import best_proofs


@dataclass(frozen=True)
class Source:
    """A backup as it was when it was read: a commit does not reload its row."""

    backup: DatabaseBackup
    #: The guarded database that a restore may replace, or on whose server it works.
    database: Database
    is_elsewhere: bool = False  # nobody has chosen that; its own cannot be reached

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


def get_source(filename: str, to: str = "") -> Source:
    """The backup of this name, to restore it to its own database or another one.

    Without a choice, an import and a backup whose database cannot be reached any more go to
    the server of the default one. Raises NotFound, InvalidInput.
    """
    backup = get_backup(filename)
    _ = backup.contents  # a detached row cannot load it later
    db.session.expunge(backup)
    if to:
        return Source(backup, get_database(to))
    own = find_database(backup.database_id)
    if own is not None and can_be_reached(own):
        return Source(backup, own)
    return Source(backup, default_database(), is_elsewhere=not backup.foreign)
