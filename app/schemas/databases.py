"""Databases as JSON."""

from typing import Any

from marshmallow import fields

from app.models import Database, Level
from app.models.types import moment_text
from app.schemas.base import CamelCase, Moment, row_of
from app.services.copies.places import Spread
from app.services.databases.discovery import Neighbour
from app.services.databases.lookup import state_of
from app.services.health.overview import Row


class DatabaseSchema(CamelCase):
    """A database as the API shows it: never its URL."""

    name = fields.String()
    server = fields.String()
    dbname = fields.String()
    state = fields.Function(lambda database: state_of(database).value, metadata={"type": "string"})
    from_environment = fields.Boolean()
    ssh_url = fields.String()
    ssh_identity_file = fields.String()
    ssh_host_key = fields.String()
    compression = fields.String()
    without_rows_of = fields.List(fields.String())
    skips_counting = fields.Boolean()
    dump_jobs = fields.Integer(allow_none=True)
    max_age = fields.Integer(allow_none=True)  # seconds
    created_at = Moment()
    created_by = fields.String()


def database_row(database: Database) -> dict[str, Any]:
    """A database, without secrets."""
    return row_of(DatabaseSchema(), database)


def overview_row(row: Row) -> dict[str, Any]:
    """A database, and how protected it is."""
    return database_row(row.database) | {
        "lastGoodAt": moment_text(row.last_good_at),
        "nextBackupAt": moment_text(row.next_backup_at),
        "isLate": row.is_late,
        "newestGood": _spread(row.spread) if row.spread else None,
    }


def _spread(spread: Spread) -> dict[str, Any]:
    """A backup, and where its good copies are; `store` is null for the dump here."""
    return {
        "filename": spread.filename,
        "copies": len(spread.copies),
        "places": spread.places,
        "in": [
            {
                "store": copy.store or None,
                "proof": None if copy.level is None else Level(copy.level).name.lower(),
                "provenAt": moment_text(copy.proven_at),
            }
            for copy in spread.copies
        ],
    }


def neighbour_row(neighbour: Neighbour) -> dict[str, Any]:
    """A database on a server; `guardedAs` is our name for it, also if it is retired."""
    known = neighbour.known
    return {
        "dbname": neighbour.dbname,
        "size": neighbour.on_server.size,
        "owner": neighbour.on_server.owner,
        "mayConnect": neighbour.on_server.may_connect,
        "guardedAs": known.name if known else None,
        "state": state_of(known).value if known else None,
        "proposedName": neighbour.proposed_name,
    }
