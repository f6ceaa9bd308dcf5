"""Which database is backed up, and where its dumps rest."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from app.config import settings
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.embedded import DATABASE, SERVER, EmbeddedServer
from app.storages import LocalStorage


class DatabaseName(NamedTuple):
    """How a database is called in rows and texts."""

    server: str
    database: str


def configured_database() -> Conninfo:
    """The database of DATABASE_URL, else the sample on the embedded server.

    Raises ConfigurationError for a wrong URL, ConnectError where the embedded
    server does not run.
    """
    url = settings().database_url
    return parse_url(url) if url else embedded_server().conninfo()


def database_name() -> DatabaseName:
    """The name of the configured database, whether its server runs or not."""
    url = settings().database_url
    if not url:
        return DatabaseName(SERVER, DATABASE)
    info = parse_url(url)
    return DatabaseName(info.server[:255], info.database[:255])


def embedded_server() -> EmbeddedServer:
    """The embedded server of this instance; nothing is started by asking."""
    return EmbeddedServer(settings().instance_dir)


@contextmanager
def database_in_use(*, insist: bool = False) -> Iterator[None]:
    """Keep the embedded server running meanwhile, if that is what is backed up.

    It is started where it does not run, unless it was stopped on purpose;
    `insist` starts it all the same. Its last user ends it.
    """
    if settings().database_url:
        yield
        return
    with embedded_server().used(insist=insist):
        yield


def storage() -> LocalStorage:
    """Where dumps rest."""
    return LocalStorage(settings().backup_dir)


def private_dir() -> Path:
    """A folder of this instance for short-lived secrets."""
    return settings().instance_dir / "private"
