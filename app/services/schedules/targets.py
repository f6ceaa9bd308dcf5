"""What a scheduled restore makes, and what runs in it: checked before a schedule is saved."""

import logging
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import select

from app.errors import ConnectError, InvalidInput
from app.extensions import db
from app.models import Database, Schedule, Task
from app.postgres.databases import neighbour, serving
from app.services.access.sign_in import Confirm
from app.services.databases.connections import reached
from app.services.restores.refresh import checked_target, find_others, not_ours

logger = logging.getLogger(__name__)

MAX_SQL = 20_000  # characters
MAX_KEPT = 10  # replaced databases of one schedule


@dataclass(frozen=True)
class Consent:
    """The name that was typed to let a schedule replace a database, and who makes sure of it."""

    typed: str
    confirm: Confirm


def check(schedule: Schedule, database: Database) -> None:
    """Bring target and SQL of a schedule into the form in which they are kept.

    Raises InvalidInput if they do not fit the schedule.
    """
    schedule.sql = _checked_sql(schedule.sql)
    if not 0 <= schedule.keep_last <= MAX_KEPT:
        raise InvalidInput(f"a schedule keeps 0 to {MAX_KEPT} replaced databases")
    if schedule.task is not Task.RESTORE:
        if schedule.target or schedule.sql:
            raise InvalidInput("only a schedule that restores has a target and SQL")
        return
    schedule.target = checked_target(schedule.target, database)
    other = _find_same(schedule, database)
    if other is not None:
        raise InvalidInput(
            f'schedule {other.name} of {other.database.name} makes database "{schedule.target}"',
            hint="Choose another name.",
        )


def find_replaceable(
    target: str, database: Database, consent: Consent, schedule: Schedule | None = None
) -> int | None:
    """The OID of a database that others made, and that an admin lets the schedule replace.

    None if there is no such database, or the server cannot be reached: then the first run
    refuses one. Raises InvalidInput unless its name was typed, and what `confirm` raises.
    """
    target = checked_target(target, database)
    try:
        with (
            reached(database) as live,
            serving(neighbour(live), application_name="backstop look") as server,
        ):
            oid = find_others(server, target, schedule)
    except ConnectError as error:
        logger.warning("target not looked at database=%r error=%r", target, error.message)
        return None
    if oid is None:
        return None
    if consent.typed.strip() != target:
        raise not_ours(target)
    consent.confirm()
    return oid


def in_words(schedule: Schedule) -> str:
    """What a scheduled restore does, for the audit; empty for other tasks."""
    if schedule.task is not Task.RESTORE:
        return ""
    words = f"into {schedule.target}, keep last {schedule.keep_last}"
    if schedule.replaceable is not None:
        words += f", may replace the database with the OID {schedule.replaceable}"
    if schedule.sql:
        digest = sha256(schedule.sql.encode()).hexdigest()
        words += f", SQL of {len(schedule.sql)} characters (SHA-256 {digest}): {schedule.sql}"
    return words


def _checked_sql(sql: str) -> str:
    sql = sql.replace("\r\n", "\n").strip()
    if len(sql) > MAX_SQL:
        raise InvalidInput(f"the SQL must not be longer than {MAX_SQL:,} characters")
    if "\0" in sql or any("\ud800" <= character <= "\udfff" for character in sql):
        raise InvalidInput("the SQL has a character that PostgreSQL does not accept")
    return sql


def _find_same(schedule: Schedule, database: Database) -> Schedule | None:
    """Another schedule with the same target."""
    same = (
        select(Schedule)
        .join(Database)
        .where(
            Database.server == database.server,
            Schedule.task == Task.RESTORE,
            Schedule.target == schedule.target,
            Schedule.id != schedule.id,
        )
    )
    return db.session.scalar(same.limit(1))
