"""The catalogue itself: the panel's own records, at their newest form."""

import logging

import psycopg2
from alembic import command
from alembic.util import CommandError
from flask import current_app
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from app.config import ROOT, settings
from app.errors import AppError, ConfigurationError
from app.postgres.connection import open_session
from app.postgres.conninfo import Conninfo, parse_url

logger = logging.getLogger(__name__)


def prepare_catalogue() -> None:
    """Make the catalogue, or bring it to the newest form; quick where it is.

    Raises ConfigurationError where it cannot be opened, or where it would be
    the very database that is backed up.
    """
    _refuse_the_database_itself()
    try:
        migrate = current_app.extensions["migrate"].migrate
        command.upgrade(migrate.get_config(str(ROOT / "migrations")), "head")
    except (DatabaseError, CommandError) as error:
        reason = " ".join(str(getattr(error, "orig", error)).split())
        raise ConfigurationError(
            "the catalogue cannot be opened",
            detail=f"{_shown_url()}: {reason}.",
            hint="Check BACKSTOP_CATALOGUE_URL, or the owner and rights of the instance folder.",
        ) from error


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
    with open_session(info, application_name="backstop") as session:
        return str(
            session.ask(
                "SELECT oid || ' ' || pg_postmaster_start_time()"
                " FROM pg_database WHERE datname = current_database()"
            )
        )


def _shown_url() -> str:
    url = make_url(settings().catalogue_url)
    return f"{url.get_backend_name()} {url.host or ''} {url.database or ''}".replace("  ", " ")
