"""How to reach the databases that we guard."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.config import settings
from app.errors import Conflict
from app.models import Database
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.ssh_host import parse_ssh_host
from app.postgres.tunnel import tunnel
from app.sealing import unseal
from app.services.databases.configured import address_in_environment, embedded_server


def connection_of(database: Database) -> Conninfo:
    """How to connect to a database, from its SSH host if it has one.

    Raises Conflict if DATABASE_URL names another one by now, ConfigurationError for an
    invalid or unreadable URL, ConnectError if the embedded server is down.
    """
    if not database.from_environment:
        return parse_url(unseal(database.url), called=f"the URL of {database.name}")
    if not is_in_environment(database):
        ours = address_in_environment()
        raise Conflict(
            f"{database.name} cannot be reached: DATABASE_URL names another database",
            detail=f"{database.name} is {database.dbname} on {database.server}; DATABASE_URL names"
            f" {ours.dbname} on {ours.server}.",
            hint=f"Give it a URL of its own: flask database edit {database.name} --url -.",
        )
    return connection_in_environment()


def connection_in_environment() -> Conninfo:
    """How to connect to the database of DATABASE_URL, or to the sample; asks no catalogue.

    Raises ConfigurationError for an invalid URL, ConnectError if the embedded server is down.
    """
    url = settings().database_url
    return parse_url(url) if url else embedded_server().conninfo()


@contextmanager
def reached(database: Database, on_wait: Callable[[], None] | None = None) -> Iterator[Conninfo]:
    """How to connect to a database meanwhile, through its SSH host if it has one.

    Both by the thread that calls this. Raises as `connection_of`, InvalidInput, ConnectError.
    """
    info = connection_of(database)
    if not database.ssh_url:
        yield info
        return
    ssh = parse_ssh_host(database.ssh_url, database.ssh_identity_file, database.ssh_host_key)
    with tunnel(ssh, info, on_wait=on_wait) as through:
        yield through


def can_be_reached(database: Database) -> bool:
    """Whether it has a URL, or DATABASE_URL still means it."""
    return not database.from_environment or is_in_environment(database)


def is_in_environment(database: Database) -> bool:
    """Whether DATABASE_URL, or its absence, means this database."""
    address = (database.server, database.dbname)
    return database.from_environment and address == address_in_environment()


def is_sample(database: Database) -> bool:
    """Whether it is the sample on the embedded server."""
    return not settings().database_url and is_in_environment(database)


@contextmanager
def sample_in_use(*, insist: bool = False) -> Iterator[None]:
    """Keep the embedded server running meanwhile, if DATABASE_URL is not set.

    It is started if it is down, unless it was stopped on purpose; `insist` starts it even
    then. Its last user stops it.
    """
    if settings().database_url:
        yield
        return
    with embedded_server().used(insist=insist):
        yield
