"""Add, edit, pause and retire the databases that we guard."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.errors import ConfigurationError, Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.models import Database, DatabaseBackup, State, Status
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.ssh_host import parse_ssh_host
from app.readers import MOST_DUMP_JOBS, compression
from app.sealing import seal
from app.services.audit.acting import acting, tell
from app.services.databases.configured import Address
from app.services.databases.connections import is_in_environment
from app.services.databases.lookup import (
    get_database,
    has_address,
    listed_names,
    not_retired,
    state_of,
)

logger = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MAX_DATABASES = 1_000
_ADDRESS_OF_FORM = "new"  # of the page that adds one
_MAX_LEFT_OUT = 1_000  # tables


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
    skips_counting: bool | None = None  # of rows, beside the dump
    dump_jobs: int | None = None  # sessions that copy tables at once; 0: the panel's
    max_age: int | None = None  # seconds; 0: the panel's


@acting
def add_database(name: str, url: str, changes: Changes | None = None, *, by: str) -> Database:
    """Guard another database; nothing is asked of its server yet.

    Raises InvalidInput, or Conflict if the name or the database itself is taken.
    """
    name = checked_name(name)
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
                database.name = checked_name(changes.name)
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
    database = get_database(name)
    if state_of(database) is State.RETIRED:
        _refuse_unreachable(database)
        _refuse_same(database)
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
        raise NotFound(f"no database is named {name[:63]!r}", hint=listed_names())
    return database


def checked_name(name: str, word: str = "database") -> str:
    """The same name of a database or the like. Raises InvalidInput."""
    if NAME.fullmatch(name) is None or name == _ADDRESS_OF_FORM:
        raise InvalidInput(
            f"{name[:63]!r} is not a valid name of a {word}",
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
        others = select(Database.name).where(not_retired(), has_address(address))
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
        parse_ssh_host(
            database.ssh_url, database.ssh_identity_file or "", database.ssh_host_key or ""
        )
    if changes.compression is not None:
        try:
            database.compression = compression(changes.compression) if changes.compression else ""
        except ValueError as error:
            raise InvalidInput(f"the compression {error}") from error
    if changes.without_rows_of is not None:
        database.without_rows_of = checked_tables(changes.without_rows_of)
    if changes.skips_counting is not None:
        database.skips_counting = changes.skips_counting
    _apply_numbers(changes, database)


def _apply_numbers(changes: Changes, database: Database) -> None:
    """Raises InvalidInput."""
    if changes.dump_jobs is not None:
        if not 0 <= changes.dump_jobs <= MOST_DUMP_JOBS:
            raise InvalidInput(f"a dump can have 1 to {MOST_DUMP_JOBS} jobs")
        database.dump_jobs = changes.dump_jobs or None
    if changes.max_age is not None:
        if changes.max_age < 0:
            raise InvalidInput("the age of the newest good backup must not be negative")
        database.max_age = changes.max_age or None


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
