"""Discover the other databases on the server of one that we guard, and guard them too."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from app.errors import Conflict, InvalidInput
from app.extensions import db, writing
from app.models import Database, Restore
from app.postgres.conninfo import url_of_neighbour
from app.postgres.discovery import ServerDatabase, list_databases
from app.services.audit.acting import acting, tell
from app.services.databases.connections import connection_of, is_sample, reached
from app.services.databases.lookup import free_name, get_database
from app.services.databases.service import Changes, add_database


@dataclass(frozen=True)
class Neighbour:
    """A database on the server of one that we guard."""

    on_server: ServerDatabase
    known: Database | None  # our row of it, also a retired one
    proposed_name: str  # ours for it, if it is not known

    @property
    def dbname(self) -> str:
        return self.on_server.name


@dataclass(frozen=True)
class Choice:
    """A database to guard, and its name with us."""

    dbname: str
    name: str


def discover(name: str) -> list[Neighbour]:
    """The databases on the server of one of ours, itself included, by their names there.

    Those of the server itself, those that restores have made, and those whose names are not
    UTF-8 are left out. Raises NotFound, PostgresError, and as `connection_of`.
    """
    database = get_database(name)
    with reached(database) as info:
        on_server = list_databases(info)
    known = _known_beside(database)
    ignored = made_by_restores(database.server)
    taken = set(db.session.scalars(select(Database.name)))
    db.session.commit()
    neighbours = []
    for one in on_server:
        if one.name in known:
            neighbours.append(Neighbour(one, known[one.name], ""))
        elif may_be_guarded(one) and one.name not in ignored:
            proposed_name = free_name(one.name, taken)
            taken.add(proposed_name)
            neighbours.append(Neighbour(one, None, proposed_name))
    return neighbours


@acting
def add_neighbours(name: str, choices: Sequence[Choice], *, by: str) -> list[Database]:
    """Guard databases on the server of one of ours, all of them or none.

    Each gets the URL of that one with another database in it. Raises NotFound, InvalidInput,
    Conflict, PostgresError, and as `connection_of`.
    """
    database = get_database(name)
    _refuse_sample(database)
    _refuse_unknown(database, choices, [neighbour.dbname for neighbour in discover(name)])
    info = connection_of(database)
    way = Changes(
        ssh_url=database.ssh_url,
        ssh_identity_file=database.ssh_identity_file,
        ssh_host_key=database.ssh_host_key,
    )
    with writing():
        added = [
            add_database(choice.name, url_of_neighbour(info, choice.dbname), way, by=by)
            for choice in choices
        ]
    tell(subject=name, detail=f"added {', '.join(row.name for row in added)}"[:1000])
    return added


def may_be_guarded(database: ServerDatabase) -> bool:
    """Whether it is not one of the server itself, and has a name that we can write."""
    try:
        database.name.encode()
    except UnicodeEncodeError:
        return False
    return not database.is_internal


def made_by_restores(server: str) -> set[str]:
    """Databases that restores work in or keep on a server, as they recorded it."""
    names = select(Restore.working, Restore.kept).where(Restore.server == server)
    return {name for row in db.session.execute(names) for name in row if name}


def _known_beside(database: Database) -> dict[str, Database]:
    """Our rows of databases on a server, by their names there; an active one comes first."""
    beside = (Database.server == database.server) & (Database.ssh_url == database.ssh_url)
    rows = db.session.scalars(select(Database).where(beside).order_by(Database.state.desc()))
    return {row.dbname: row for row in rows}


def _refuse_sample(database: Database) -> None:
    if is_sample(database):
        raise Conflict(
            "the embedded server is only for the sample",
            hint="Add a database of another server: flask database add.",
        )


def _refuse_unknown(
    database: Database, choices: Sequence[Choice], on_server: Iterable[str]
) -> None:
    if not choices:
        raise InvalidInput("no database is chosen")
    unknown = sorted({choice.dbname for choice in choices}.difference(on_server))
    if unknown:
        raise InvalidInput(
            f"there is no database {unknown[0][:63]!r} on {database.server}",
            hint=f"flask database discover {database.name} lists those that can be added.",
        )
