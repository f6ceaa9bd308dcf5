"""Is every dump still what it was when it was made?"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select

from app.errors import AppError
from app.extensions import db
from app.models import BackupStatus, DatabaseBackup
from app.services.databases import storage
from app.services.manifests import Proof, proof_of, read_manifest
from app.storages import sha256_of


@dataclass(frozen=True)
class Check:
    """What was found of one dump."""

    filename: str
    is_good: bool
    finding: str


def check_backups() -> Iterator[Check]:
    """Read every completed backup and its manifest, oldest first, and compare."""
    rows = db.session.execute(
        select(
            DatabaseBackup.filename,
            DatabaseBackup.size,
            DatabaseBackup.sha256,
            DatabaseBackup.oldest_reader,
        )
        .where(
            DatabaseBackup.status == BackupStatus.COMPLETED,
            DatabaseBackup.delete_requested_at.is_(None),
        )
        .order_by(DatabaseBackup.created_at)
    ).all()
    db.session.commit()
    for filename in sorted(_without_row()):
        yield Check(filename, is_good=True, finding="not in the catalogue, and not compared")
    for filename, size, sha256, oldest_reader in rows:
        finding = _finding(filename, Proof(size, sha256, oldest_reader or 0))
        yield Check(filename, not finding, finding or "whole")


def _without_row() -> set[str]:
    """Dumps that no row knows: of another panel, or of a catalogue that was lost."""
    known = set(db.session.scalars(select(DatabaseBackup.filename)))
    db.session.commit()
    return set(storage().list()) - known


def _finding(filename: str, recorded: Proof) -> str:
    """What is wrong with a dump or its manifest; empty if nothing is."""
    try:
        with storage().open(filename) as file:
            if sha256_of(file) != recorded.sha256:
                return "CHANGED: its checksum is not the recorded one; do not restore it"
    except (AppError, OSError) as error:
        return f"NOT READABLE: {error}"
    try:
        if proof_of(read_manifest(storage().manifest(filename))) == recorded:
            return ""
        reason = "it tells of another dump"
    except (AppError, OSError) as error:
        reason = str(error)
    return f"MANIFEST: the dump is whole, but its manifest is not: {reason}"
