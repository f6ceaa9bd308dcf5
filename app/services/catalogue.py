"""The catalogue itself: the panel's own records, at their newest form."""

import logging

from alembic import command
from alembic.util import CommandError
from flask import current_app
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from app.config import ROOT, settings
from app.errors import AppError, ConfigurationError
from app.postgres.conninfo import parse_url

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
    catalogue = make_url(settings().catalogue_url)
    url = settings().database_url
    if not url or catalogue.get_backend_name() == "sqlite":
        return
    try:
        database = parse_url(url)
    except AppError:
        return  # told where it is used
    own = parse_url(catalogue.render_as_string(hide_password=False))
    if (own.server, own.database) == (database.server, database.database):
        raise ConfigurationError(
            "BACKSTOP_CATALOGUE_URL is the database that is backed up",
            hint="Give the catalogue a database of its own: a restore would rewind its history.",
        )


def _shown_url() -> str:
    shown: str = make_url(current_app.config["SQLALCHEMY_DATABASE_URI"]).render_as_string()
    return shown
