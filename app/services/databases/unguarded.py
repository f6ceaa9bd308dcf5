"""Databases that nobody guards, on the servers of those that we guard.

A worker looks at each server about once an hour, and keeps what it sees. Who is unguarded
follows from that and from our databases, so that every process finds the same.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Select, Update, or_, select, update
from sqlalchemy.exc import IntegrityError

from app.config import settings
from app.errors import AppError
from app.extensions import ask, db, update_alone, writing
from app.models import Database, ServerLook, State
from app.models.types import now
from app.postgres.discovery import list_databases
from app.services.databases.connections import is_sample, reached
from app.services.databases.discovery import made_by_restores, may_be_guarded
from app.services.databases.lookup import is_active, state_of

logger = logging.getLogger(__name__)

_LOOK_EVERY = timedelta(hours=1)


@dataclass
class Server:
    """A server, our databases on it, and what was seen there."""

    name: str
    ssh_url: str
    look: ServerLook | None
    databases: list[Database]

    @property
    def active(self) -> list[Database]:
        """Those by which it may be looked at; none on the sample's server."""
        return [
            row for row in self.databases if state_of(row) is State.ACTIVE and not is_sample(row)
        ]

    @property
    def unguarded(self) -> list[str]:
        """The names of others that were seen there; those that we have retired do not count."""
        seen = self.look.dbnames if self.look and self.active else ()
        return sorted(set(seen) - {row.dbname for row in self.databases})


def look_at_servers() -> None:
    """Look at each server that is due, one after the other.

    One that does not answer is asked again in an hour, through another database if we guard
    several there; what it answered last stays.
    """
    if not ask(_due()):
        return
    servers = list_servers()
    db.session.commit()
    for server in servers:
        is_due = server.look is None or server.look.asked_at <= now() - _LOOK_EVERY
        if is_due and server.active:
            database = _next(server)
            if _claim(server, database):
                _look(server, database)


def list_servers() -> list[Server]:
    """The servers of all our databases, by one query."""
    servers: dict[tuple[str, str], Server] = {}
    rows = select(Database, ServerLook).outerjoin(ServerLook, _is_there()).order_by(Database.id)
    for database, look in db.session.execute(rows).all():
        key = database.server, database.ssh_url
        servers.setdefault(key, Server(*key, look, [])).databases.append(database)
    for row in (row for server in servers.values() for row in (server.look, *server.databases)):
        if row is not None:
            db.session.expunge(row)  # so that it stays readable after a commit
    return list(servers.values())


def _due() -> Select[str]:
    """A query for any database of a server that is due."""
    due = or_(ServerLook.asked_at.is_(None), ServerLook.asked_at <= now() - _LOOK_EVERY)
    active = select(Database.id).outerjoin(ServerLook, _is_there()).where(is_active(), due)
    if not settings().database_url:
        active = active.where(~Database.from_environment)  # the sample
    return active.limit(1)


def _is_there() -> ColumnElement[bool]:
    return (ServerLook.server == Database.server) & (ServerLook.ssh_url == Database.ssh_url)


def _next(server: Server) -> Database:
    """The one after that which led there last."""
    last = server.look.asked_by if server.look else ""
    return next((row for row in server.active if row.id > last), server.active[0])


def _claim(server: Server, database: Database) -> bool:
    """Whether this process is to look, because no other one was quicker."""
    asked = {"asked_at": now(), "asked_by": database.id}
    if server.look is not None:
        unchanged = _update(server).where(ServerLook.asked_at == server.look.asked_at)
        return bool(update_alone(unchanged.values(**asked)))
    try:
        with writing() as session:
            session.add(ServerLook(server=server.name, ssh_url=server.ssh_url, **asked))
    except IntegrityError:
        return False
    return True


def _look(server: Server, database: Database) -> None:
    try:
        with reached(database) as info:
            on_server = list_databases(info)
    except AppError as error:
        logger.info("server not looked at server=%r error=%r", server.name, error.message)
        return
    ours = made_by_restores(server.name)
    db.session.commit()
    dbnames = [one.name for one in on_server if may_be_guarded(one) and one.name not in ours]
    update_alone(_update(server).values(dbnames=dbnames))


def _update(server: Server) -> Update:
    return update(ServerLook).where(
        ServerLook.server == server.name, ServerLook.ssh_url == server.ssh_url
    )
