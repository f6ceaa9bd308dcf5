"""Databases that nobody guards."""

from collections.abc import Iterable, Iterator

from app.models import Fact
from app.services.alerts.conditions.trouble import NAMED, Trouble
from app.services.databases.unguarded import Server


def unguarded_databases(servers: Iterable[Server]) -> Iterator[Trouble]:
    """Databases without any backup on servers that we guard others of, by server."""
    for server in servers:
        dbnames = server.unguarded
        if not dbnames:
            continue
        number, verb = (
            (f"{len(dbnames)} databases", "have") if dbnames[1:] else ("1 database", "has")
        )
        more = f" and {len(dbnames) - NAMED} more" if len(dbnames) > NAMED else ""
        yield Trouble(
            Fact.UNGUARDED,
            f"{server.name} {server.ssh_url}".strip(),
            f"{number} on {server.name} {verb} no backup",
            f"Nobody guards {', '.join(dbnames[:NAMED])}{more}. Add them, and retire those that"
            f" need no backup: flask database discover {server.active[0].name}.",
        )
