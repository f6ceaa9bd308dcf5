"""Search the audit log, newest first, or export all of it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from sqlalchemy import ColumnElement, or_, select

from app.errors import InvalidInput
from app.extensions import MAX_SEARCHED, containing, db
from app.models import ActOutcome, AuditEntry
from app.models.types import moment_text
from app.services.audit.log import cleaned, read_batches, row_of

MAX_LIMIT = 200  # entries in one answer

WORDS = ("actor", "action", "outcome", "from", "to", "q")


@dataclass(frozen=True)
class Filters:
    """Conditions on entries; empty ones do not apply. See `read_filters`."""

    actor: str = ""  # the whole name
    action: str = ""  # all of it, or the resource alone: backup
    outcome: str = ""
    since: str = ""  # in the format of an entry
    until: str = ""
    text: str = ""  # in subject, origin or detail


@dataclass(frozen=True)
class Page:
    """Some entries, newest first, and the cursor of the next older ones."""

    entries: list[AuditEntry]
    next_before: int | None


def read_filters(query: Mapping[str, str], zone: tzinfo = UTC) -> Filters:
    """Filters from the parameters of a query: actor, action, outcome, from, to, q.

    Times are ISO 8601, in `zone` unless they name another; a date as `to` includes that day.
    Raises InvalidInput.
    """
    given = {name: query.get(name, "").strip() for name in WORDS}
    for name, word in given.items():
        if len(word) > MAX_SEARCHED:
            raise InvalidInput(f"{name} has at most {MAX_SEARCHED} characters")
    words = {name: cleaned(word, MAX_SEARCHED) for name, word in given.items()}
    if words["outcome"] and words["outcome"] not in [outcome.value for outcome in ActOutcome]:
        raise InvalidInput("outcome must be done, refused or failed")
    return Filters(
        actor=words["actor"],
        action=words["action"],
        outcome=words["outcome"],
        since=moment_text(read_time(words["from"], "from", zone)) or "",
        until=moment_text(read_time(words["to"], "to", zone)) or "",
        text=words["q"],
    )


def list_entries(
    filters: Filters | None = None, *, before: str | int | None = None, limit: int = 50
) -> Page:
    """The newest entries, at most `limit`; `before` is the `next_before` of a page.

    Raises InvalidInput for an invalid limit or cursor.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}")
    chosen = select(AuditEntry).where(*_wanted(filters or Filters())).order_by(AuditEntry.id.desc())
    if before:
        if not re.fullmatch(r"[0-9]{1,18}", str(before)):
            raise InvalidInput(
                "before is not a cursor", hint="Take it from nextBefore in the previous answer."
            )
        chosen = chosen.where(AuditEntry.id < int(before))
    entries = list(db.session.scalars(chosen.limit(limit + 1)))
    return Page(entries[:limit], entries[limit - 1].id if len(entries) > limit else None)


def export_lines(filters: Filters | None = None) -> Iterator[str]:
    """The entries as JSON lines, oldest first, in batches."""
    for batch in read_batches(*_wanted(filters or Filters())):
        yield "".join(f"{json.dumps(row_of(entry), default=repr)}\n" for entry in batch)


def _wanted(filters: Filters) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if filters.actor:
        wanted.append(AuditEntry.actor == filters.actor)
    if filters.action:
        of_resource = AuditEntry.action.startswith(f"{filters.action}.", autoescape=True)
        wanted.append(or_(AuditEntry.action == filters.action, of_resource))
    if filters.outcome:
        wanted.append(AuditEntry.outcome == filters.outcome)
    if filters.since:
        wanted.append(AuditEntry.at >= filters.since)
    if filters.until:
        wanted.append(AuditEntry.at < filters.until)
    if filters.text:
        # One search in all of them takes half the time on a long log.
        searched = AuditEntry.subject + "\n" + AuditEntry.origin + "\n" + AuditEntry.detail
        wanted.append(containing(searched, filters.text))
    return wanted


def read_time(value: str, name: str, zone: tzinfo = UTC) -> datetime | None:
    """The time in the parameter `name`; a date as `to` includes that day. Raises InvalidInput."""
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if len(value) == len("2026-11-23") and name == "to":
            moment += timedelta(days=1)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{name} is not a valid time", hint="Write it as 2026-11-23 or 2026-11-23T13:30Z."
        ) from error
