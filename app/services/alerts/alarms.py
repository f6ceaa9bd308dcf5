"""Alarms: opened once, closed when the trouble is over, without storms of messages.

A look compares the troubles with the open alarms. Changes and their messages are
written in one transaction, so a process that dies sends nothing twice and loses
nothing.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from app.errors import InvalidInput, StorageError
from app.extensions import db, writing
from app.models import Alarm, Fact
from app.models.types import moment_text
from app.services.alerts import news
from app.services.alerts.conditions import Trouble, find_troubles, missing_files
from app.services.alerts.conditions.trouble import one_line
from app.services.alerts.deliveries import Message, queue

logger = logging.getLogger(__name__)

QUIET = timedelta(minutes=15)  # between two messages about a trouble that comes and goes
MAX_LIMIT = 200  # alarms in one answer
_FORGOTTEN = timedelta(days=365)
#: Repeated when there are more.
_GROWING = (Fact.FILE_MISSING, Fact.FILE_DAMAGED, Fact.UNGUARDED, Fact.COPY_LOST)
_AGAIN = timedelta(hours=1)  # at the earliest
_BAND = 5  # alarms shown on each page
_TURN = 0x62616B73  # of an advisory lock: one process at a time opens and closes


@dataclass(frozen=True)
class _Seen:
    """What one look found, and the kinds that it did not check."""

    troubles: dict[tuple[Fact, str], Trouble]
    unseen: frozenset[Fact]

    def covers(self, alarm: Alarm) -> bool:
        return alarm.kind not in self.unseen


def look(at: datetime, *, files: bool = True, has_news: bool | None = None) -> None:
    """Open and close alarms as things stand, and queue the messages for the notifiers.

    `files`: whether to look for missing files too, which lists the storage. `has_news`:
    whether a job has ended that nobody has looked at, if the caller knows.
    """
    if has_news is None:
        has_news = news.has_news()
    seen = _see(at, files)
    is_due = has_news or bool(_changes(seen, _open_alarms(), at))
    db.session.commit()
    if not is_due:
        return
    with writing() as session:
        if session.connection().dialect.name == "postgresql":
            session.execute(select(func.pg_advisory_xact_lock(_TURN)))
        # Again: another process may have been quicker.
        seen = _see(at, files)
        alarms = _open_alarms()
        messages = [
            _change(session, alarms.get(key), seen.troubles.get(key), at)
            for key in _changes(seen, alarms, at)
        ]
        queue(session, [*filter(None, messages), *news.take_news(session, at)], at)


def list_open() -> list[Alarm]:
    """The newest few open alarms: cheap enough for each page."""
    return _listed(_BAND, Alarm.closed_at.is_(None))


def list_alarms(*, limit: int = 50, is_open: bool | None = None) -> list[Alarm]:
    """The newest alarms, open or past or both. Raises InvalidInput."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}")
    if is_open is None:
        return _listed(limit)
    return _listed(limit, Alarm.closed_at.is_(None) if is_open else Alarm.closed_at.is_not(None))


def forget_old(at: datetime) -> None:
    """Remove alarms that were resolved long ago."""
    with writing() as session:
        session.execute(delete(Alarm).where(Alarm.closed_at < at - _FORGOTTEN))


def _listed(limit: int, *conditions: ColumnElement[bool]) -> list[Alarm]:
    newest = select(Alarm).where(*conditions).order_by(Alarm.opened_at.desc(), Alarm.id.desc())
    return list(db.session.scalars(newest.limit(limit)))


def _see(at: datetime, files: bool) -> _Seen:
    troubles = {(trouble.kind, trouble.subject[:600]): trouble for trouble in find_troubles(at)}
    if not files:
        return _Seen(troubles, frozenset({Fact.FILE_MISSING}))
    try:
        troubles |= {(trouble.kind, trouble.subject[:600]): trouble for trouble in missing_files()}
    except StorageError as error:
        logger.warning("files not looked for error=%r", error.message)
        return _Seen(troubles, frozenset({Fact.FILE_MISSING}))
    return _Seen(troubles, frozenset())


def _open_alarms() -> dict[tuple[Fact, str], Alarm]:
    alarms = db.session.scalars(select(Alarm).where(Alarm.closed_at.is_(None)))
    return {(alarm.kind, alarm.subject): alarm for alarm in alarms}


def _changes(
    seen: _Seen, alarms: dict[tuple[Fact, str], Alarm], at: datetime
) -> list[tuple[Fact, str]]:
    """Alarms to open, to close, to reword, and to send."""
    return [
        *(key for key in seen.troubles if key not in alarms),
        *(
            key
            for key, alarm in alarms.items()
            if seen.covers(alarm)
            and (
                key not in seen.troubles
                or alarm.title != _title(seen.troubles[key])
                or _is_due(alarm, at)
            )
        ),
    ]


def _change(
    session: Session, alarm: Alarm | None, trouble: Trouble | None, at: datetime
) -> Message | None:
    """Open, reword or close an alarm; the message about that, if one is due."""
    if trouble is None:
        assert alarm is not None  # noqa: S101 - one of them is why it changes
        return _close(alarm, at)
    if alarm is None:
        alarm = Alarm(
            kind=trouble.kind,
            subject=trouble.subject[:600],
            opened_at=trouble.since or at,
        )
        if trouble.database is not None:
            alarm.database_id = trouble.database.id
            alarm.server = trouble.database.server
            alarm.database = trouble.database.dbname
        session.add(alarm)
        logger.warning("alarm opened kind=%s subject=%r", trouble.kind.value, trouble.subject)
    alarm.title, alarm.body = _title(trouble), trouble.body
    session.flush()
    if not _is_due(alarm, at):
        return None
    alarm.told_at, alarm.told = at, alarm.title
    return _message(alarm, alarm.title, alarm.body)


def _close(alarm: Alarm, at: datetime) -> Message | None:
    alarm.closed_at = at
    logger.info("alarm closed kind=%s subject=%r", alarm.kind.value, alarm.subject)
    if alarm.told_at is None:
        return None
    lasted = f"From {moment_text(alarm.opened_at)} to {moment_text(at)}."
    return _message(alarm, f"Resolved: {alarm.title}", f"{lasted}\n{alarm.body}")


def _message(alarm: Alarm, title: str, body: str) -> Message:
    state, level = ("opened", "failure") if alarm.is_open else ("closed", "success")
    key = f"{state}:{alarm.id}:{moment_text(alarm.closed_at or alarm.told_at)}"
    return Message(key, alarm.kind, level, title, body, alarm.server, alarm.database)


def _is_due(alarm: Alarm, at: datetime) -> bool:
    """Whether to send a message about an open alarm, for the first time or again."""
    if alarm.told_at is not None:
        grew = alarm.kind in _GROWING and alarm.title != alarm.told
        return grew and alarm.told_at <= at - _AGAIN
    # The same trouble may have come and gone a short while ago.
    latest = select(func.max(Alarm.told_at)).where(
        Alarm.kind == alarm.kind, Alarm.subject == alarm.subject
    )
    last = db.session.scalar(latest)
    return last is None or last <= at - QUIET


def _title(trouble: Trouble) -> str:
    return one_line(trouble.title)[:255]
