"""Column types that mean the same on SQLite and on PostgreSQL."""

import enum
from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, String
from sqlalchemy.exc import DataError
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """An aware time in UTC. SQLite forgets the zone; here it comes back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


def _clock() -> datetime:
    """The machine's clock; tests put another one here."""
    return datetime.now(UTC)


def now() -> datetime:
    """This moment, in UTC and whole milliseconds, as it is kept and shown."""
    moment = _clock()
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def moment_text(moment: datetime | None) -> str | None:
    """2026-11-23T12:59:30.123Z"""
    if moment is None:
        return None
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def camel_case(name: str) -> str:
    """The key of a column in JSON: serverVersion for server_version."""
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


class Word(TypeDecorator[enum.Enum]):
    """A member of an enum, kept by its value.

    A word that is none tells of a damaged catalogue, and is an error of the
    database: faces know what to say of that.
    """

    impl = String
    cache_ok = True

    def __init__(self, kind: type[enum.Enum], length: int = 16) -> None:
        super().__init__(length)
        self.kind = kind

    def process_bind_param(self, value: enum.Enum | None, _dialect: Dialect) -> str | None:
        return None if value is None else str(self.kind(value).value)

    def process_result_value(self, value: str | None, _dialect: Dialect) -> enum.Enum | None:
        if value is None:
            return None
        try:
            return self.kind(value)
        except ValueError as error:
            raise DataError(None, None, error) from error
