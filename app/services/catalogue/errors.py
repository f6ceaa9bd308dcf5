"""Explain errors of the catalogue's database: the cause, and what to do."""

from collections.abc import Iterator
from sqlite3 import (
    SQLITE_BUSY,
    SQLITE_CANTOPEN,
    SQLITE_CORRUPT,
    SQLITE_FULL,
    SQLITE_IOERR,
    SQLITE_LOCKED,
    SQLITE_NOTADB,
    SQLITE_PERM,
    SQLITE_READONLY,
)

from psycopg2 import errors as postgresql
from sqlalchemy.exc import DBAPIError

from app.errors import AppError

_LACKING = ("no such table", "no such column")
_FULL = ("the disk of the catalogue is full", "Free some space. The last action was undone.")
_SCHEMA = (
    "the catalogue does not have the schema of this version",
    "Restart the panel, which upgrades the catalogue; flask doctor checks it.",
)
_LOCKED = ("the catalogue is locked by another program", "Try again in a moment.")
_CLOSED = (
    "the catalogue cannot be opened or written",
    "Check BACKSTOP_CATALOGUE_URL, the owner and rights of the instance folder, and its disk.",
)
_DAMAGED = (
    "the catalogue is damaged",
    "flask backup rebuild sets it aside and rebuilds it from the manifests.",
)
_BROKEN = (
    "the disk of the catalogue has failed to read or write",
    "Is it full or damaged? The system log says more.",
)
_BY_CODE = {
    SQLITE_BUSY: _LOCKED,
    SQLITE_LOCKED: _LOCKED,
    SQLITE_PERM: _CLOSED,
    SQLITE_READONLY: _CLOSED,
    SQLITE_CANTOPEN: _CLOSED,
    SQLITE_CORRUPT: _DAMAGED,
    SQLITE_NOTADB: _DAMAGED,
    SQLITE_FULL: _FULL,
    SQLITE_IOERR: _BROKEN,
}


def explain(error: BaseException) -> AppError:
    """Explain an error of the catalogue by the first known cause in its chain.

    After a full disk the last error often names something else: SQLite has rolled back,
    and a table that was created meanwhile is missing.
    """
    chain = list(_chain(error))
    for cause in reversed(chain):
        if known := _known(cause):
            message, hint = known
            return AppError(message, detail=f"{_line(cause)}.", hint=hint)
    return AppError(
        "the catalogue cannot be used now",
        detail=f"{_line(chain[0])}.",
        hint="Is its server down, or BACKSTOP_CATALOGUE_URL wrong? flask doctor checks it.",
    )


def _known(error: BaseException) -> tuple[str, str] | None:
    """The message and the hint for one error of a driver."""
    if isinstance(error, postgresql.DiskFull):
        return _FULL
    if isinstance(error, postgresql.LockNotAvailable):
        return _LOCKED
    if isinstance(error, postgresql.UndefinedTable | postgresql.UndefinedColumn):
        return _SCHEMA
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    return _SCHEMA if str(error).startswith(_LACKING) else _BY_CODE.get(code & 0xFF)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes; errors of drivers are unwrapped."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause.orig if isinstance(cause, DBAPIError) and cause.orig else cause
        cause = cause.__cause__ or cause.__context__


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
