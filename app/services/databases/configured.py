"""The configured database and the storage of its dumps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from app.config import settings
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.embedded import DATABASE, SERVER, EmbeddedServer
from app.storages import LocalStorage


class DatabaseName(NamedTuple):
    """The name of a database in rows and texts."""

    server: str
    database: str


def configured_database() -> Conninfo:
    """The database of DATABASE_URL, or the sample on the embedded server.

    Raises ConfigurationError for an invalid URL, ConnectError if the embedded server is
    down.
    """
    url = settings().database_url
    return parse_url(url) if url else embedded_server().conninfo()


def database_name() -> DatabaseName:
    """The name of the configured database, even if its server is down."""
    url = settings().database_url
    if not url:
        return DatabaseName(SERVER, DATABASE)
    info = parse_url(url)
    return DatabaseName(info.server[:255], info.database[:255])


def embedded_server() -> EmbeddedServer:
    """The embedded server of this instance; this does not start it."""
    return EmbeddedServer(settings().instance_dir)


@contextmanager
def database_in_use(*, insist: bool = False) -> Iterator[None]:
    """Keep the embedded server running meanwhile, if its database is the configured one.

    It is started if it is down, unless it was stopped on purpose; `insist` starts it even
    then. Its last user stops it.
    """
    if settings().database_url:
        yield
        return
    with embedded_server().used(insist=insist):
        yield


def storage() -> LocalStorage:
    """The storage of the dumps."""
    return LocalStorage(settings().backup_dir)


def private_dir() -> Path:
    """A folder of this instance for short-lived secrets."""
    return settings().instance_dir / "private"
