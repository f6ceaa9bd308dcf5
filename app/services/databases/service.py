"""The databases that we guard: find, add, edit, pause and retire them."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from sqlalchemy import ColumnElement, Select, and_, false, or_, select
from sqlalchemy.exc import IntegrityError

from app.errors import ConfigurationError, Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.models import Database, DatabaseBackup, State, Status
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.ssh_host import parse_ssh_host
from app.readers import compression
from app.sealing import seal
from app.services.audit.acting import acting, tell
from app.services.databases.configured import Address, address_in_environment
from app.services.databases.connections import is_in_environment

logger = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MAX_DATABASES = 1_000
_MAX_LEFT_OUT = 1_000  # tables


# Find. Rows are returned detached: they stay readable after a commit, and no transaction of
# the catalogue stays open because of them.


def choose_database(name: str | None = None) -> Database:
    """The database of this name, or the default one. Raises NotFound, InvalidInput."""
    return get_database(name) if name else default_database()


def get_database(name: str) -> Database:
    """The database of this name. Raises NotFound, which lists the names."""
    database = _detached(select(Database).where(Database.name == name))
    if database is None:
        raise NotFound(f"no database is named {name[:63]!r}", hint=_names())
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
        raise InvalidInput("which database? There is no default", hint=_names())
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
    return or_(Database.from_environment.is_(false()), _has(address_in_environment()))


def _has(address: Address) -> ColumnElement[bool]:
    return and_(Database.server == address.server, Database.dbname == address.dbname)


def _at(address: Address) -> Select[Database]:
    """Its own row comes first, then one with a URL."""
    return select(Database).where(_has(address)).order_by(Database.from_environment.desc()).limit(1)


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


def _names() -> str:
    names = [database.name for database in list_databases()]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""  # noqa: PLR2004
    return f"The databases are {', '.join(names[:20])}{more}." if names else "Add one first."


# Change


@dataclass(frozen=True)
class Changes:
    """The new values of a database; None leaves the old one."""

    name: str | None = None
    url: str | None = None  # a secret
    ssh_url: str | None = None  # of an SSH host on the way; empty: none
    ssh_identity_file: str | None = None
    ssh_host_key: str | None = None
    compression: str | None = None  # empty: the panel's
    without_rows_of: tuple[str, ...] | None = None
    max_age: int | None = None  # seconds; 0: the panel's


@acting
def add_database(name: str, url: str, changes: Changes | None = None, *, by: str) -> Database:
    """Guard another database; nothing is asked of its server yet.

    Raises InvalidInput, or Conflict if the name or the database itself is taken.
    """
    name = _checked_name(name)
    database = unsaved_database(url, changes)
    database.name, database.created_by = name, by[:255]
    try:
        with writing() as session:
            _refuse_same(database)
            if len(session.scalars(select(Database.id)).all()) >= MAX_DATABASES:
                raise Conflict(f"the limit of {MAX_DATABASES} databases is reached")
            session.add(database)
    except IntegrityError as error:
        raise _taken(name) from error
    tell(subject=database.name, detail=f"{database.dbname} on {database.server}")
    logger.info("database added name=%r by=%r", database.name, by)
    return get_database(name)


def unsaved_database(url: str, changes: Changes | None = None) -> Database:
    """A database at a URL that has no name and no row yet. Raises InvalidInput."""
    database = Database()
    _point_at(database, url)
    if changes is not None:
        _apply(changes, database)
    return database


@acting
def edit_database(name: str, changes: Changes, *, by: str) -> Database:
    """Change a database. A new host or password changes nothing else.

    Raises NotFound, InvalidInput, and Conflict if a name or database is taken, or if its
    URL is changed while a backup of it is pending.
    """
    try:
        with writing() as session:
            database = _row(name)
            if changes.name is not None:
                database.name = _checked_name(changes.name)
            if changes.url:
                _refuse_while_pending(database)
                _point_at(database, changes.url)
                _refuse_same(database)
            _apply(changes, database)
            session.flush()
            new_name = database.name
    except IntegrityError as error:
        raise _taken(changes.name or name) from error
    changed = [field.name for field in fields(changes) if getattr(changes, field.name) is not None]
    tell(subject=new_name, detail=f"changed: {', '.join(changed) or 'nothing'}")
    logger.info("database edited name=%r by=%r", new_name, by)
    return get_database(new_name)


@acting
def pause_database(name: str, *, by: str) -> Database:
    """Stop the schedules of a database; a backup on demand stays possible. Raises NotFound."""
    return _set_state(name, State.PAUSED, by)


@acting
def resume_database(name: str, *, by: str) -> Database:
    """Back up a paused or retired database again. Raises NotFound, Conflict."""
    if state_of(get_database(name)) is State.RETIRED:
        _refuse_unreachable(get_database(name))
    return _set_state(name, State.ACTIVE, by)


@acting
def retire_database(name: str, *, by: str) -> Database:
    """Never back up a database again; its backups stay. Raises NotFound, Conflict."""
    _refuse_while_pending(get_database(name))
    return _set_state(name, State.RETIRED, by)


def _set_state(name: str, state: State, by: str) -> Database:
    with writing():
        _row(name).state = state
    tell(subject=name, detail=state.value)
    logger.info("database is %s name=%r by=%r", state.value, name, by)
    return get_database(name)


def _row(name: str) -> Database:
    database = db.session.scalar(select(Database).where(Database.name == name).with_for_update())
    if database is None:
        raise NotFound(f"no database is named {name[:63]!r}", hint=_names())
    return database


def _checked_name(name: str) -> str:
    if NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name[:63]!r} is not a valid name of a database",
            hint="Up to 63 lower-case letters, digits, - and _; the first is a letter or digit.",
        )
    return name


def check_url(url: str) -> Conninfo:
    """The parts of a connection URL of a database. Raises InvalidInput, without a secret."""
    try:
        info = parse_url(url, called="the connection URL")
    except ConfigurationError as error:
        raise InvalidInput(error.message, detail=error.detail, hint=error.hint) from error
    if not (info.parameters.get("host") or info.parameters.get("hostaddr")):
        raise InvalidInput(
            "the connection URL names no host",
            hint="It looks like postgresql://user:password@host:5432/database.",
        )
    return info


def _point_at(database: Database, url: str) -> None:
    info = check_url(url)
    database.url, database.from_environment = seal(url.strip()), False
    database.server, database.dbname = info.server[:255], info.database[:255]


def _refuse_same(database: Database) -> None:
    """Raise Conflict if another one that is not retired has the same address."""
    with db.session.no_autoflush:
        address = Address(database.server, database.dbname)
        others = select(Database.name).where(not_retired(), _has(address))
        other = db.session.scalar(others.where(Database.id != (database.id or "")))
    if other is not None:
        raise Conflict(
            f"{database.dbname} on {database.server} is guarded already, as {other}",
            hint=f"Edit {other} instead.",
        )


def _refuse_while_pending(database: Database) -> None:
    pending = select(DatabaseBackup.filename).where(
        DatabaseBackup.database_id == database.id, DatabaseBackup.status == Status.PENDING
    )
    if (filename := db.session.scalar(pending)) is not None:
        raise Conflict(
            f"{filename} of {database.name} is still being made",
            hint="Wait until it has ended, or cancel it.",
        )


def _refuse_unreachable(database: Database) -> None:
    if database.from_environment and not is_in_environment(database):
        raise Conflict(
            f"DATABASE_URL no longer names {database.name}",
            hint=f"Give it a URL of its own: flask database edit {database.name} --url -.",
        )


def _apply(changes: Changes, database: Database) -> None:
    """Raises InvalidInput."""
    for name in ("ssh_url", "ssh_identity_file", "ssh_host_key"):
        if (value := getattr(changes, name)) is not None:
            setattr(database, name, value.strip())
    if database.ssh_url:
        parse_ssh_host(database.ssh_url, database.ssh_identity_file, database.ssh_host_key)
    if changes.compression is not None:
        try:
            database.compression = compression(changes.compression) if changes.compression else ""
        except ValueError as error:
            raise InvalidInput(f"the compression {error}") from error
    if changes.without_rows_of is not None:
        database.without_rows_of = checked_tables(changes.without_rows_of)
    if changes.max_age is not None:
        if changes.max_age < 0:
            raise InvalidInput("the age of the newest good backup must not be negative")
        database.max_age = changes.max_age or None


def split_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Schema and name of tables; the first dot divides them."""
    return [(schema, name) for schema, _, name in (text.partition(".") for text in names)]


def checked_tables(names: Iterable[str]) -> list[str]:
    """Names of tables without repetitions. Raises InvalidInput."""
    tables = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if len(tables) > _MAX_LEFT_OUT:
        raise InvalidInput(f"rows of at most {_MAX_LEFT_OUT} tables can be left out")
    for name in tables:
        if "." not in name or not name.isprintable() or len(name) > 130:  # noqa: PLR2004
            raise InvalidInput(
                f"{name[:130]!r} is not the name of a table",
                hint="Write the schema too, as in public.events.",
            )
    return tables


def _taken(name: str) -> Conflict:
    return Conflict(f"a database is named {name} already", hint="Choose another name.")
