"""What the catalogue's database says, in words that name the cause and what to do."""

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
_FULL = ("the disk of the catalogue is full", "Make room on it. What was begun is undone.")
_FORM = (
    "the catalogue has not the form that this version needs",
    "Restart the panel, which upgrades the catalogue; flask doctor examines it.",
)
_LOCKED = ("the catalogue is locked by another program", "Try again in a moment.")
_CLOSED = (
    "the catalogue cannot be opened or written",
    "Check BACKSTOP_CATALOGUE_URL, the owner and rights of the instance folder, and its disk.",
)
_DAMAGED = (
    "the catalogue is damaged",
    "flask backup rebuild sets it aside and makes it anew from the manifests.",
)
_BROKEN = (
    "the disk of the catalogue has failed to read or write",
    "Is it full or damaged? The system's log says more.",
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
    """An error of the catalogue as people can be told it: the first known cause in its chain.

    What follows a full disk often speaks of something else: SQLite has rolled back
    by then, and a table that was made meanwhile is missing.
    """
    chain = list(_chain(error))
    for cause in reversed(chain):
        if told := _told(cause):
            message, hint = told
            return AppError(message, detail=f"{_line(cause)}.", hint=hint)
    return AppError(
        "the catalogue cannot be used just now",
        detail=f"{_line(chain[0])}.",
        hint="Is its server away, or BACKSTOP_CATALOGUE_URL wrong? flask doctor examines it.",
    )


def _told(error: BaseException) -> tuple[str, str] | None:
    """Message and hint for one error of a driver."""
    if isinstance(error, postgresql.DiskFull):
        return _FULL
    if isinstance(error, postgresql.UndefinedTable | postgresql.UndefinedColumn):
        return _FORM
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    return _FORM if str(error).startswith(_LACKING) else _BY_CODE.get(code & 0xFF)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, drivers' errors unwrapped."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found.orig if isinstance(found, DBAPIError) and found.orig else found
        found = found.__cause__ or found.__context__


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
