"""Find the databases that we guard.

Rows are returned detached: they stay readable after a commit, and no transaction of the
catalogue stays open because of them.
"""

import logging
import re
from collections.abc import Iterable

from sqlalchemy import ColumnElement, Select, and_, false, or_, select
from sqlalchemy.exc import IntegrityError

from app.errors import Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.models import Database, State
from app.services.databases.configured import Address, address_in_environment
from app.services.databases.connections import is_in_environment

logger = logging.getLogger(__name__)


def choose_database(name: str | None = None) -> Database:
    """The database of this name, or the default one. Raises NotFound, InvalidInput."""
    return get_database(name) if name else default_database()


def get_database(name: str) -> Database:
    """The database of this name. Raises NotFound, which lists the names."""
    database = _detached(select(Database).where(Database.name == name))
    if database is None:
        raise NotFound(f"no database is named {name[:63]!r}", hint=listed_names())
    return database


def find_database(database_id: str | None) -> Database | None:
    """The database of this id, if there is one."""
    return _detached(select(Database).where(Database.id == database_id)) if database_id else None


def database_of(database_id: str | None) -> Database:
    """The database of this id. Raises NotFound, as for the imports, which have none."""
    database = find_database(database_id)
    if database is None:
        raise NotFound("it belongs to none of the databases")
    return database


def default_database() -> Database:
    """The one of DATABASE_URL, or the sample; else the only one that is not retired.

    Raises InvalidInput, which lists the names, if it must be named.
    """
    ours = database_at(address_in_environment())
    if ours.state is not State.RETIRED:
        return ours
    others = list_databases()
    if len(others) != 1:
        raise InvalidInput("which database? There is no default", hint=listed_names())
    return others[0]


def guarded(database: Database | None) -> Database:
    """This database, or the default one. Raises Conflict if it is retired."""
    database = database or default_database()
    if state_of(database) is State.RETIRED:
        raise Conflict(
            f"{database.name} is retired, so it is not backed up any more",
            hint=f"Back it up again: flask database resume {database.name}.",
        )
    return database


def database_at(address: Address) -> Database:
    """The database at an address, as an old row or a manifest names it.

    If none is there, it gets a row, which counts as retired while DATABASE_URL names another.
    """
    return _detached(_at(address)) or _make(address)


def list_databases(*, with_retired: bool = False) -> list[Database]:
    """All databases by name."""
    chosen = select(Database).order_by(Database.name)
    if not with_retired:
        chosen = chosen.where(not_retired())
    return _read(chosen)


def state_of(database: Database) -> State:
    """Its state; one that DATABASE_URL no longer names counts as retired."""
    is_gone = database.from_environment and not is_in_environment(database)
    return State.RETIRED if is_gone else database.state


def not_retired() -> ColumnElement[bool]:
    """In a query: whether a database is active or paused."""
    return and_(Database.state != State.RETIRED, is_known())


def is_active() -> ColumnElement[bool]:
    """In a query: whether the schedules of a database run."""
    return and_(Database.state == State.ACTIVE, is_known())


def is_known() -> ColumnElement[bool]:
    """In a query: whether this process can reach it: by a URL of its own, or DATABASE_URL."""
    return or_(Database.from_environment.is_(false()), has_address(address_in_environment()))


def has_address(address: Address) -> ColumnElement[bool]:
    """In a query: whether a database has this address."""
    return and_(Database.server == address.server, Database.dbname == address.dbname)


def _at(address: Address) -> Select[Database]:
    """Its own row comes first, then one with a URL."""
    return (
        select(Database)
        .where(has_address(address))
        .order_by(Database.from_environment.desc())
        .limit(1)
    )


def _detached(chosen: Select[Database]) -> Database | None:
    return next(iter(_read(chosen)), None)


def _read(chosen: Select[Database]) -> list[Database]:
    session = db.session()
    was_open = session.in_transaction()
    databases = list(session.scalars(chosen))
    for database in databases:
        session.expunge(database)
    if not was_open:
        session.commit()
    return databases


def _make(address: Address) -> Database:
    """Give a database without a URL of its own a row, with a name made of its name there."""
    try:
        with writing() as session:
            database = Database(**address._asdict(), from_environment=True)
            taken = set(session.scalars(select(Database.name)))
            database.name = free_name(address.dbname, taken)
            session.add(database)
    except IntegrityError:
        logger.info("another process was quicker database=%r", address.dbname)
    made = _detached(_at(address))
    assert made is not None  # noqa: S101 - rows of databases are never deleted
    return made


def free_name(dbname: str, taken: set[str]) -> str:
    """A name that is not taken, made of a database's name on its server."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", dbname.lower()).lstrip("-_")[:50] or "database"
    numbered = (f"{plain}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (plain, *numbered) if name not in taken)


def listed_names() -> str:
    """The names of the databases as a hint, for errors."""
    names = [database.name for database in list_databases()]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""  # noqa: PLR2004
    return f"The databases are {', '.join(names[:20])}{more}." if names else "Add one first."


def split_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Schema and name of tables; the first dot divides them."""
    return [(schema, name) for schema, _, name in (text.partition(".") for text in names)]
