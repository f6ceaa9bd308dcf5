"""The catalogue itself: the panel's own records, at their newest form."""

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
from sqlalchemy import inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from app.config import ROOT, settings
from app.errors import AppError, ConfigurationError
from app.extensions import Model, db
from app.models.types import now
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.databases import guarded_session
from app.services.catalogue.errors import explain
from app.services.catalogue.upgrades import find_copies

logger = logging.getLogger(__name__)


def prepare_catalogue(say: Callable[[str], None] | None = None) -> None:
    """Make the catalogue, or bring it to the newest form; quick where it is.

    An upgrade tells `say` what it does, in lines. Raises ConfigurationError
    where it cannot be opened, where a newer Backstop has made it, or where it
    would be the very database that is backed up.
    """
    _refuse_the_database_itself()
    migrations = _migrations()
    migrations.attributes["say"] = say
    try:
        command.upgrade(migrations, "head")
    except CommandError as error:
        raise _made_by_a_newer_one() from error
    except DatabaseError as error:
        told = explain(error)
        raise ConfigurationError(
            told.message,
            detail=f"{_shown_url()}: {told.detail}",
            hint=told.hint,
        ) from error


def _made_by_a_newer_one() -> ConfigurationError:
    """What to do where the catalogue is at a revision that is not ours."""
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
        "the catalogue was made by a newer Backstop",
        detail=f"{_shown_url()}: it is at revision {current}, and this version knows {known[0]}.",
        hint=f"Run the newer version again; or stop the panel and {back}."
        " It knows nothing of what was done since: flask backup reconcile --adopt finds the dumps.",
    )


def set_aside_if_damaged() -> Path | None:
    """Rename a SQLite catalogue that is not whole; returns where it is now.

    What it was is kept for who can still read something out of it. Worker and
    web must not run: they would go on with the one set aside.
    """
    url = make_url(settings().catalogue_url)
    path = Path(url.database or "")
    if url.get_backend_name() != "sqlite" or not path.exists():
        return None
    try:
        if _is_whole() and _has_its_form():
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
    """What SQLite itself can tell of its file: a look at each page and index."""
    try:
        found = db.session.scalar(text("PRAGMA integrity_check"))
    except OperationalError as error:
        told = explain(error)
        raise ConfigurationError(
            told.message,
            detail=f"{_shown_url()}: {told.detail}",
            hint=f"{told.hint} Stop the panel first.",
        ) from error
    except DatabaseError:
        return False
    return bool(found == "ok")


def _has_its_form() -> bool:
    """Whether its tables and indexes are those of the revision that it names.

    A revision that is newer than ours is not ours to judge.
    """
    current, known = find_revisions()
    there = inspect(db.engine)
    if current not in known:
        is_newer = bool(current and current.isdigit() and current > known[0])
        return is_newer or (current is None and not there.get_table_names())
    if current != known[0]:
        return True  # it is about to be migrated
    return all(
        there.has_table(table.name)
        and {index.name for index in table.indexes}
        <= {index["name"] for index in there.get_indexes(table.name)}
        for table in Model.metadata.tables.values()
    )


def find_revisions() -> tuple[str | None, list[str]]:
    """The revision that the catalogue has (None: an empty one), and all there are, newest first."""
    with db.engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    known = ScriptDirectory.from_config(_migrations()).walk_revisions()
    return current, [each.revision for each in known]


def _migrations() -> Config:
    migrate = current_app.extensions["migrate"].migrate
    found: Config = migrate.get_config(str(ROOT / "migrations"))
    return found


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
        same = database.server == own.server  # one of them cannot be asked just now
    if same:
        raise ConfigurationError(
            "BACKSTOP_CATALOGUE_URL is the database that is backed up",
            hint="Give the catalogue a database of its own: a restore would rewind its history.",
        )


def _identity(info: Conninfo) -> str:
    """What tells one database from another, whatever its server is called."""
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
