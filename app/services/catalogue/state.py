"""Create, upgrade and check the catalogue."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg2
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import Engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from app.config import ROOT, settings
from app.errors import AppError, ConfigurationError
from app.extensions import Model, db
from app.models.types import now
from app.postgres.connection import guarded_session
from app.postgres.conninfo import Conninfo, parse_url
from app.services.catalogue.errors import explain
from app.services.catalogue.upgrades import find_copies

logger = logging.getLogger(__name__)


def prepare_catalogue(say: Callable[[str], None] | None = None) -> None:
    """Create the catalogue, or upgrade it; fast if it is current.

    `say` gets the lines of an upgrade. Raises ConfigurationError if the catalogue cannot be
    opened, is of a newer Backstop, or is the database that is backed up.
    """
    _refuse_the_database_itself()
    migrations = _migrations()
    migrations.attributes["say"] = say
    try:
        command.upgrade(migrations, "head")
    except CommandError as error:
        raise _newer_version() from error
    except DatabaseError as error:
        explained = explain(error)
        raise ConfigurationError(
            explained.message,
            detail=f"{_shown_url()}: {explained.detail}",
            hint=explained.hint,
        ) from error


def upgrade_file(engine: Engine, say: Callable[[str], None] | None = None) -> None:
    """Create or upgrade a catalogue in a SQLite file that is not the panel's; no copy is kept.

    Raises DatabaseError, ConfigurationError.
    """
    migrations = _migrations()
    migrations.attributes.update(engine=engine, say=say)
    command.upgrade(migrations, "head")


def _newer_version() -> ConfigurationError:
    """The error of a catalogue with an unknown revision, and what to do."""
    current, known = find_revisions()
    copies = find_copies(Path(make_url(settings().catalogue_url).database or ""))
    ours = next((path for revision, path in copies.items() if revision in known), None)
    if db.engine.dialect.name != "sqlite":
        back = "restore the copy of it that you made before the upgrade"
    elif ours is None:
        back = "put a copy of it from before the upgrade in its place"
    else:
        back = f"put {ours}, the copy from before the upgrade, in its place"
    return ConfigurationError(
        "the catalogue is of a newer Backstop",
        detail=f"{_shown_url()}: it has revision {current}, but this version knows {known[0]}.",
        hint=f"Run the newer version again; or stop the panel and {back}."
        " It lacks everything since then: flask backup reconcile --adopt finds the dumps.",
    )


def set_aside_if_damaged() -> Path | None:
    """Rename a damaged SQLite catalogue; return its new path.

    It is kept for a rescue. Worker and web must be stopped: they would continue with the
    old file.
    """
    url = make_url(settings().catalogue_url)
    path = Path(url.database or "")
    if url.get_backend_name() != "sqlite" or not path.exists():
        return None
    try:
        if _is_whole() and _has_its_schema():
            return None
    finally:
        db.session.remove()
        db.engine.dispose()
    aside = path.with_name(f"{path.name}.damaged-{now():%Y-%m-%dT%H-%M-%S}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    logger.warning("damaged catalogue set aside path=%s", aside)
    return aside


def _is_whole() -> bool:
    """Whether SQLite finds all pages and indexes of its file valid."""
    try:
        result = db.session.scalar(text("PRAGMA integrity_check"))
    except OperationalError as error:
        explained = explain(error)
        raise ConfigurationError(
            explained.message,
            detail=f"{_shown_url()}: {explained.detail}",
            hint=f"{explained.hint} Stop the panel first.",
        ) from error
    except DatabaseError:
        return False
    return bool(result == "ok")


def _has_its_schema() -> bool:
    """Whether it has the tables and indexes of its revision, unless that is newer than ours."""
    current, known = find_revisions()
    inspector = inspect(db.engine)
    if current not in known:
        is_newer = bool(current and current.isdigit() and current > known[0])
        return is_newer or (current is None and not inspector.get_table_names())
    if current != known[0]:
        return True  # it is about to be migrated
    return all(
        inspector.has_table(table.name)
        and {index.name for index in table.indexes}
        <= {index["name"] for index in inspector.get_indexes(table.name)}
        for table in Model.metadata.tables.values()
    )


def find_revisions() -> tuple[str | None, list[str]]:
    """The revision of the catalogue (None: empty), and all known ones, newest first."""
    with db.engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    known = ScriptDirectory.from_config(_migrations()).walk_revisions()
    return current, [script.revision for script in known]


def _migrations() -> Config:
    migrate = current_app.extensions["migrate"].migrate
    config: Config = migrate.get_config(str(ROOT / "migrations"))
    return config


def _refuse_the_database_itself() -> None:
    """A restore would rewind the history of backups."""
    url, catalogue = settings().database_url, make_url(settings().catalogue_url)
    if not url or catalogue.get_backend_name() == "sqlite":
        return
    database = parse_url(url)
    own = parse_url(catalogue.render_as_string(hide_password=False))
    if database.database != own.database:
        return
    try:
        same = _identity(database) == _identity(own)
    except (AppError, psycopg2.Error):
        same = database.server == own.server  # one of them does not answer
    if same:
        raise ConfigurationError(
            "BACKSTOP_CATALOGUE_URL is the database that is backed up",
            hint="Give the catalogue a database of its own: a restore would rewind its history.",
        )


def _identity(info: Conninfo) -> str:
    """What distinguishes a database, whatever the name of its server."""
    with guarded_session(info, application_name="backstop") as session:
        return str(
            session.ask(
                "SELECT oid || ' ' || pg_postmaster_start_time()"
                " FROM pg_database WHERE datname = current_database()"
            )
        )


def _shown_url() -> str:
    url = make_url(settings().catalogue_url)
    return f"{url.get_backend_name()} {url.host or ''} {url.database or ''}".replace("  ", " ")
