"""The audit log: every act of a person or a script, in a chain of hashes.

Each entry has the SHA-256 of itself and the hash of the previous entry. Whoever can write
to the catalogue can rewrite the whole chain, so keep the newest hash elsewhere: the
program's log shows it with each entry.
"""

import hashlib
import json
import logging
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, select, text

from app.errors import InvalidInput, VerificationError
from app.extensions import db, writing
from app.models import ActOutcome, AuditEntry, Trigger
from app.models.types import moment_text, now
from app.services.audit.acting import Act

logger = logging.getLogger(__name__)

NO_HASH = "0" * 64  # the previous hash of the first entry

# Any number, the same in all panels; see pg_advisory_xact_lock.
_CHAIN_LOCK = 0x61756469747300
_HEX = set("0123456789abcdef")
_BATCH = 1000  # entries read at once

#: The triggers that refuse changes of entries, and the query for their name and source.
_GUARDS = {
    "sqlite": ("audit_entries_no_update", "audit_entries_no_delete"),
    "postgresql": ("audit_entries_append_only",),
}
_GUARDS_THERE = {
    "sqlite": "SELECT name, sql FROM sqlite_master"
    " WHERE type = 'trigger' AND tbl_name = 'audit_entries'",
    "postgresql": "SELECT tgname, prosrc FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid"
    " WHERE tgrelid = 'audit_entries'::regclass AND tgenabled <> 'D'",
}
_MOST = {"actor": 255, "origin": 255, "action": 100, "subject": 255, "detail": 1000}
_SHORT = ("id", "actor", "face", "action", "subject", "outcome")  # for people who watch a terminal
_HASHED = [column.name for column in AuditEntry.__table__.columns if column.name != "hash"]


def record(act: Act) -> None:
    """Append an act that has ended to the chain; one writer at a time.

    A refusal or failure that repeats itself since `quiet_since` is left out.
    """
    entry: dict[str, Any] = {
        name: cleaned(getattr(act, name), most) for name, most in _MOST.items()
    }
    outcome = act.outcome or ActOutcome.DONE
    entry |= {"face": act.face.value, "outcome": outcome.value}
    if _is_repeated(act, entry):  # first without the lock: there may be a flood of them
        return
    with writing() as session:
        if db.engine.dialect.name == "postgresql":
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CHAIN_LOCK})
        if _is_repeated(act, entry):
            return
        newest = select(AuditEntry.id, AuditEntry.hash).order_by(AuditEntry.id.desc()).limit(1)
        last_id, last_hash = session.execute(newest).first() or (0, NO_HASH)
        entry |= {"id": last_id + 1, "at": moment_text(now()), "previous_hash": last_hash}
        entry = {name: entry[name] for name in _HASHED} | {"hash": _hash_of(entry)}
        session.add(AuditEntry(**entry))
    whole = " ".join(f"{key}={value!r}" for key, value in row_of(entry).items())
    short = " ".join(str(entry[name]) for name in _SHORT if entry[name])
    logger.info("audit %s", whole, extra={"short": f"audit {short}"})


def record_unattended(
    action: str,
    actor: str,
    *,
    subject: str = "",
    outcome: ActOutcome = ActOutcome.DONE,
    detail: str = "",
) -> None:
    """Append an act of a worker; the actor is its schedule."""
    act = Act(action, Trigger.SCHEDULE, actor, socket.gethostname(), subject, detail=detail)
    act.outcome = outcome
    record(act)


def cleaned(value: str, most: int) -> str:
    """At most so many characters, what cannot be printed as an escape such as \\n."""
    value = value[: most + 1]
    value = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in value
    )
    return value if len(value) <= most else f"{value[: most - 1]}…"


def row_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry as API, terminal and export show it; the hash covers all but itself."""
    return {"previousHash" if name == "previous_hash" else name: entry[name] for name in entry}


def read_batches(*wanted: ColumnElement[bool]) -> Iterator[list[dict[str, Any]]]:
    """Entries in order, as batches of rows, so that memory stays constant."""
    ordered = select(*AuditEntry.__table__.columns).where(*wanted)
    ordered = ordered.order_by(AuditEntry.id).limit(_BATCH)
    batch = [dict(row) for row in db.session.execute(ordered).mappings()]
    while batch:
        db.session.commit()  # a slow reader must not hold a transaction open
        yield batch
        newer = ordered.where(AuditEntry.id > batch[-1]["id"])
        batch = [dict(row) for row in db.session.execute(newer).mappings()]


def verify(expected_head: str = "") -> tuple[int, str]:
    """Read the whole chain; return the number of entries, and the newest hash.

    With `expected_head`, a hash that was once the newest, a cut-off end is found too.
    Raises VerificationError with the first wrong entry or the missing guards of the
    table, InvalidInput for an invalid hash.
    """
    expected_head = expected_head.strip().lower()
    if expected_head and (len(expected_head) != len(NO_HASH) or set(expected_head) - _HEX):
        raise InvalidInput("not a valid hash of an entry", hint="It has 64 digits from 0 to f.")
    last_id, last_hash = 0, NO_HASH
    is_head_found = expected_head in ("", NO_HASH)
    for batch in read_batches():
        for entry in batch:
            wrong = _wrong_with(entry, last_id, last_hash)
            if wrong:
                raise _broken(wrong)
            last_id, last_hash = entry["id"], entry["hash"]
            is_head_found = is_head_found or last_hash == expected_head
    if not is_head_found:
        raise _broken(f"No entry has the given hash; the newest is entry {last_id}")
    if gone := _missing_guards():
        raise _broken(f"All entries are as recorded, but their table lacks {', '.join(gone)}")
    return last_id, last_hash


def _missing_guards() -> list[str]:
    """The triggers against changes that are missing or disabled."""
    dialect = db.engine.dialect.name
    rows = db.session.execute(text(_GUARDS_THERE[dialect])).all()
    there = {name: source for name, source in rows}  # noqa: C416 - rows are no pairs for mypy
    db.session.commit()
    wanted = _GUARDS[dialect]
    return [f"the trigger {name}" for name in wanted if "RAISE" not in (there.get(name) or "")]


def _wrong_with(entry: dict[str, Any], last_id: int, last_hash: str) -> str:
    if entry["id"] < 1:
        return f"Entry {entry['id']} was inserted: the first one has number 1"
    if entry["id"] > last_id + 1:
        missing = entry["id"] - last_id - 1
        which = f"Entry {last_id + 1} is" if missing == 1 else f"Entries from {last_id + 1} on are"
        return f"{which} missing before entry {entry['id']}"
    if _hash_of(entry) != entry["hash"]:
        return f"Entry {entry['id']} was changed or replaced"
    if entry["previous_hash"] != last_hash:
        return f"Entry {entry['id']} does not follow entry {last_id}: one of them was inserted"
    return ""


def _broken(wrong: str) -> VerificationError:
    return VerificationError(
        "the chain of the audit log is broken",
        detail=f"{wrong}.",
        hint="Somebody wrote to the catalogue without the panel. Keep a copy of it; an older copy,"
        " an export or the log shows the original entries.",
    )


def _hash_of(entry: dict[str, Any]) -> str:
    row = row_of({name: entry[name] for name in _HASHED})
    canonical = json.dumps(row, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _is_repeated(act: Act, entry: dict[str, str]) -> bool:
    if act.quiet_since is None or entry["outcome"] == ActOutcome.DONE.value:
        return False
    same = {name: entry[name] for name in ("origin", "action", "outcome", "detail")}
    chosen = select(AuditEntry.id).filter_by(**same)
    chosen = chosen.where(AuditEntry.at >= moment_text(act.quiet_since)).limit(1)
    return db.session.scalar(chosen) is not None
