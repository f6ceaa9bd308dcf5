"""The audit: every act of a person or a script, in a chain that nobody can mend unseen.

Each entry carries the SHA-256 of itself together with the hash of the entry
before. Who can write to the catalogue can make the whole chain anew, so keep
the newest hash elsewhere: the log tells it with each entry.
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

NO_HASH = "0" * 64  # what the first entry has before it

# Any number that all panels agree on; see pg_advisory_xact_lock.
_CHAIN_LOCK = 0x61756469747300
_HEX = set("0123456789abcdef")
_BATCH = 1000  # entries read at once

#: What keeps entries from being changed, and how it is asked for: name and text.
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
_SHORT = ("id", "actor", "face", "action", "subject", "outcome")  # for who reads along
_HASHED = [each.name for each in AuditEntry.__table__.columns if each.name != "hash"]


def record(act: Act) -> None:
    """Append an act that has ended to the chain; one writer at a time.

    Nothing where it was refused, or failed, just so before, and is to be quiet about that.
    """
    told: dict[str, Any] = {name: cleaned(getattr(act, name), most) for name, most in _MOST.items()}
    outcome = act.outcome or ActOutcome.DONE
    told |= {"face": act.face.value, "outcome": outcome.value}
    if _is_repeated(act, told):  # without the lock first: there may be a flood of them
        return
    with writing() as session:
        if db.engine.dialect.name == "postgresql":
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CHAIN_LOCK})
        if _is_repeated(act, told):
            return
        newest = select(AuditEntry.id, AuditEntry.hash).order_by(AuditEntry.id.desc()).limit(1)
        last_id, last_hash = session.execute(newest).first() or (0, NO_HASH)
        told |= {"id": last_id + 1, "at": moment_text(now()), "previous_hash": last_hash}
        told = {name: told[name] for name in _HASHED} | {"hash": _hash_of(told)}
        session.add(AuditEntry(**told))
    whole = " ".join(f"{key}={value!r}" for key, value in row_of(told).items())
    short = " ".join(str(told[name]) for name in _SHORT if told[name])
    logger.info("audit %s", whole, extra={"short": f"audit {short}"})


def record_unattended(
    action: str,
    actor: str,
    *,
    subject: str = "",
    outcome: ActOutcome = ActOutcome.DONE,
    detail: str = "",
) -> None:
    """Append what a worker has done by itself; the actor is the schedule that wanted it."""
    act = Act(action, Trigger.SCHEDULE, actor, socket.gethostname(), subject, detail=detail)
    act.outcome = outcome
    record(act)


def cleaned(value: str, most: int) -> str:
    """At most so many characters, what cannot be printed as an escape such as \\n."""
    value = value[: most + 1]
    value = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in value
    )
    return value if len(value) <= most else f"{value[: most - 1]}…"


def row_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """An entry as API, terminal and export show it; all but its hash is what is hashed."""
    return {"previousHash" if name == "previous_hash" else name: told[name] for name in told}


def read_batches(*wanted: ColumnElement[bool]) -> Iterator[list[dict[str, Any]]]:
    """Entries in their order, some at a time and not as objects: memory stays flat."""
    ordered = select(*AuditEntry.__table__.columns).where(*wanted)
    ordered = ordered.order_by(AuditEntry.id).limit(_BATCH)
    batch = [dict(each) for each in db.session.execute(ordered).mappings()]
    while batch:
        db.session.commit()  # a slow reader must not hold a transaction open
        yield batch
        newer = ordered.where(AuditEntry.id > batch[-1]["id"])
        batch = [dict(each) for each in db.session.execute(newer).mappings()]


def verify(expected_head: str = "") -> tuple[int, str]:
    """Read the whole chain; returns how many entries there are, and the newest's hash.

    `expected_head` is a hash that was the newest at some time: with it, also a
    cut-off end is found. Raises VerificationError, telling the first entry that
    is not as it was recorded, or which guard of the table is gone, and
    InvalidInput for what is no hash.
    """
    expected_head = expected_head.strip().lower()
    if expected_head and (len(expected_head) != len(NO_HASH) or set(expected_head) - _HEX):
        raise InvalidInput("this is no hash of an entry", hint="It has 64 digits from 0 to f.")
    last_id, last_hash = 0, NO_HASH
    is_head_found = expected_head in ("", NO_HASH)
    for batch in read_batches():
        for told in batch:
            wrong = _wrong_with(told, last_id, last_hash)
            if wrong:
                raise _broken(wrong)
            last_id, last_hash = told["id"], told["hash"]
            is_head_found = is_head_found or last_hash == expected_head
    if not is_head_found:
        raise _broken(f"No entry has the hash that you kept; the newest is entry {last_id}")
    if gone := _missing_guards():
        raise _broken(f"All entries are as recorded, but their table lacks {', '.join(gone)}")
    return last_id, last_hash


def _missing_guards() -> list[str]:
    """The triggers that refuse to change an entry, as far as they are gone or switched off."""
    dialect = db.engine.dialect.name
    rows = db.session.execute(text(_GUARDS_THERE[dialect])).all()
    there = {name: told for name, told in rows}  # noqa: C416 - rows are no pairs for mypy
    db.session.commit()
    wanted = _GUARDS[dialect]
    return [f"the trigger {name}" for name in wanted if "RAISE" not in (there.get(name) or "")]


def _wrong_with(told: dict[str, Any], last_id: int, last_hash: str) -> str:
    if told["id"] < 1:
        return f"Entry {told['id']} was put in: the first one has number 1"
    if told["id"] > last_id + 1:
        missing = told["id"] - last_id - 1
        which = f"Entry {last_id + 1} is" if missing == 1 else f"Entries from {last_id + 1} on are"
        return f"{which} missing before entry {told['id']}"
    if _hash_of(told) != told["hash"]:
        return f"Entry {told['id']} is not what was recorded: it was changed or exchanged"
    if told["previous_hash"] != last_hash:
        return f"Entry {told['id']} does not follow entry {last_id}: one of them was put in"
    return ""


def _broken(wrong: str) -> VerificationError:
    return VerificationError(
        "the audit's chain is broken",
        detail=f"{wrong}.",
        hint="Somebody has written to the catalogue past the panel. Keep a copy of it; an older"
        " copy, an export or the log tells what stood there.",
    )


def _hash_of(told: dict[str, Any]) -> str:
    row = row_of({name: told[name] for name in _HASHED})
    canonical = json.dumps(row, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _is_repeated(act: Act, told: dict[str, str]) -> bool:
    if act.quiet_since is None or told["outcome"] == ActOutcome.DONE.value:
        return False
    same = {name: told[name] for name in ("origin", "action", "outcome", "detail")}
    chosen = select(AuditEntry.id).filter_by(**same)
    chosen = chosen.where(AuditEntry.at >= moment_text(act.quiet_since)).limit(1)
    return db.session.scalar(chosen) is not None
