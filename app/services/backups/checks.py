"""Compare every dump with its manifest and its row, and rebuild rows and manifests."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, or_, select
from sqlalchemy.exc import SQLAlchemyError

from app.errors import AppError
from app.extensions import db, writing
from app.models import DatabaseBackup, Status
from app.models.types import camel_case
from app.services.backups.manifests import (
    EDITABLE,
    build_manifest,
    database_id_in,
    distrusted,
    facts_in,
    facts_of,
    is_signed,
    read_manifest,
)
from app.services.databases.configured import storage
from app.services.proofs.records import record_reading
from app.storages import sha256_of


class Verdict(enum.Enum):
    """How a dump, its manifest and its row agree."""

    WHOLE = "whole"
    CHANGED = "CHANGED"  # neither manifest nor row fits the dump
    NOT_READABLE = "NOT READABLE"
    MANIFEST = "MANIFEST"  # only the manifest differs
    CATALOGUE = "CATALOGUE"  # only the row differs
    UNKNOWN = "not in the catalogue"


@dataclass(frozen=True)
class Check:
    """The result for one dump."""

    filename: str
    verdict: Verdict
    finding: str

    @property
    def in_words(self) -> str:
        """The verdict and the finding, in one line."""
        return f"{self.verdict.value}: {self.finding}" if self.finding else self.verdict.value

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong; a dump without a row may belong to another panel."""
        return self.verdict in (Verdict.WHOLE, Verdict.UNKNOWN)


def check_backups() -> Iterator[Check]:
    """Read every dump and its manifest, oldest first, and compare both with the catalogue."""
    completed = select(DatabaseBackup.filename).where(
        DatabaseBackup.status == Status.COMPLETED,
        DatabaseBackup.delete_requested_at.is_(None),
    )
    names = set(db.session.scalars(completed)) | storage().names()
    db.session.commit()
    for filename in sorted(names):
        recorded = _recorded(filename)
        if not _is_being_made(recorded):
            yield _check(filename, recorded)


def rebuild() -> Iterator[Check]:
    """Rebuild rows from the manifests that fit their dumps.

    A manifest is rewritten where only dump and row agree, or where it is not signed with
    the present SECRET_KEY. A row from an unsigned manifest is that of a foreign dump.
    Yields the results of the checks; changed dumps are left as they are.
    """
    for check in check_backups():
        if check.verdict in (Verdict.CATALOGUE, Verdict.UNKNOWN):
            yield _rewrite_row(check)
            continue
        if check.verdict is Verdict.MANIFEST or (
            check.verdict is Verdict.WHOLE and not _is_signed(check.filename)
        ):
            row = db.session.scalar(_by_name(check.filename))
            if row is not None and row.is_completed and storage().has(row.filename):
                storage().replace_manifest(check.filename, build_manifest(row))
            db.session.commit()
        yield check


def _by_name(filename: str) -> Select[DatabaseBackup]:
    return select(DatabaseBackup).where(DatabaseBackup.filename == filename)


def _recorded(filename: str) -> dict[str, Any] | None:
    """The facts of the row; None without a row, empty if it cannot be read."""
    try:
        row = db.session.scalar(_by_name(filename))
        if row is None:
            return None
        return facts_of(row) | {
            "status": row.status.value,
            "isClaimed": bool(row.claimed_by),
            "isStale": row.manifest_stale,
        }
    except (ValueError, LookupError, TypeError, AttributeError, SQLAlchemyError):
        return {}
    finally:
        db.session.rollback()


def _is_being_made(recorded: dict[str, Any] | None) -> bool:
    if not recorded:
        return False
    return recorded["status"] == Status.PENDING.value and bool(recorded["isClaimed"])


def _check(filename: str, recorded: dict[str, Any] | None) -> Check:
    try:
        with storage().open(filename) as file:
            size, _, sha256 = file.seek(0, 2), file.seek(0), sha256_of(file)
    except (AppError, OSError) as error:
        if recorded is not None and _recorded(filename) is None:
            return Check(filename, Verdict.WHOLE, "deleted meanwhile")
        return Check(filename, Verdict.NOT_READABLE, str(error))
    content, reason = _manifest(filename)
    manifest_fits = bool(content) and (size, sha256) == (content["size"], content["sha256"])
    kept = recorded or {"size": None, "sha256": None}
    is_as_recorded = (size, sha256) == (kept["size"], kept["sha256"])
    if manifest_fits and not reason:
        check = _compare(filename, recorded, content)
        if check.verdict is not Verdict.CATALOGUE or not is_as_recorded or is_signed(content):
            return check
        reason = "it differs from its row, and is not signed by this panel"
    if is_as_recorded:
        reason = reason or "it describes another dump"
        return Check(
            filename, Verdict.MANIFEST, f"the dump is whole, but its manifest is not: {reason}"
        )
    if recorded is None and not content:
        return Check(filename, Verdict.UNKNOWN, f"and not compared: {reason}")
    if not manifest_fits:
        reason = "its checksum is not the recorded one; do not restore it"
    return Check(filename, Verdict.CHANGED, reason)


def _manifest(filename: str) -> tuple[dict[str, Any], str]:
    """The content of the manifest, and what is wrong with it."""
    try:
        content = read_manifest(storage().manifest(filename))
        facts_in(content)
    except (AppError, OSError) as error:
        return {}, str(error)
    return content, "" if content["filename"] == filename else "the manifest describes another dump"


def _compare(filename: str, recorded: dict[str, Any] | None, content: dict[str, Any]) -> Check:
    """Compare a dump that fits its manifest with its row."""
    if recorded is None:
        whose = "" if is_signed(content) else ", with a manifest that this panel has not signed"
        return Check(filename, Verdict.UNKNOWN, f"and whole{whose}")
    if not recorded:
        return Check(filename, Verdict.CATALOGUE, "the dump is whole, but its row cannot be read")
    expected = content | {"status": Status.COMPLETED.value}
    if recorded["isStale"]:  # the manifest lacks the last edit
        expected |= {key: recorded[key] for key in map(camel_case, EDITABLE)}
    differing = [key for key in recorded if key in expected and recorded[key] != expected[key]]
    if differing:
        finding = "the dump is whole, but its row differs: " + ", ".join(differing)
        return Check(filename, Verdict.CATALOGUE, finding)
    return Check(filename, Verdict.WHOLE, "")


def _is_signed(filename: str) -> bool:
    try:
        return is_signed(read_manifest(storage().manifest(filename)))
    except (AppError, OSError):
        return True  # nothing to sign


def _rewrite_row(check: Check) -> Check:
    filename = check.filename
    try:
        content = read_manifest(storage().manifest(filename))
        manifest = facts_in(content)
    except (AppError, OSError):
        return check  # unknown, without a valid manifest
    is_ours = is_signed(content)
    columns = (manifest if is_ours else distrusted(manifest)).columns()
    columns["database_id"] = database_id_in(manifest)
    with writing() as session:
        same_id = select(DatabaseBackup.filename).where(DatabaseBackup.id == columns["id"])
        other = session.scalar(same_id)
        if other not in (None, filename) and storage().has(other):
            return Check(filename, Verdict.CHANGED, f"its manifest has the id of {other}")
        same = or_(DatabaseBackup.id == columns["id"], DatabaseBackup.filename == filename)
        edited = [getattr(DatabaseBackup, name) for name in EDITABLE]
        kept = select(DatabaseBackup.log, DatabaseBackup.manifest_stale, *edited)
        was = session.execute(kept.where(same)).first()
        if was is not None and was.manifest_stale:  # edited since the manifest was written
            columns |= {name: getattr(was, name) for name in EDITABLE}
        session.execute(delete(DatabaseBackup).where(same))
        row = DatabaseBackup(status=Status.COMPLETED, **columns)
        if was is not None:
            row.log, row.manifest_stale = was.log, was.manifest_stale
        row.manifest_stale = row.manifest_stale or not is_ours
        session.add(row)
        session.flush()
        record_reading(session, row)
    return check
