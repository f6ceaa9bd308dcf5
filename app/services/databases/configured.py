"""What the settings name: DATABASE_URL's database, and where dumps and secrets lie."""

from pathlib import Path
from typing import NamedTuple

from app.config import settings
from app.postgres.conninfo import parse_url
from app.postgres.embedded import DATABASE, SERVER, EmbeddedServer
from app.storages import LocalStorage


class Address(NamedTuple):
    """Where a database is, as shown to people: "host:port", and its name there."""

    server: str
    dbname: str


def address_in_environment() -> Address:
    """The address of DATABASE_URL, or of the sample on the embedded server.

    Raises ConfigurationError for an invalid URL; the server may be down.
    """
    url = settings().database_url
    return address_of(url) if url else Address(SERVER, DATABASE)


def address_of(url: str) -> Address:
    """The address in a connection URL. Raises ConfigurationError."""
    info = parse_url(url)
    return Address(info.server[:255], info.database[:255])


def embedded_server() -> EmbeddedServer:
    """The embedded server of this instance; this does not start it."""
    return EmbeddedServer(settings().instance_dir)


def storage() -> LocalStorage:
    """The storage of the dumps."""
    return LocalStorage(settings().backup_dir)


def private_dir() -> Path:
    """A folder of this instance for short-lived secrets."""
    return settings().instance_dir / "private"
