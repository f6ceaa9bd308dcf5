"""Give a completely restored database its name, its owner and its grants."""

import itertools
from collections.abc import Callable
from typing import Any

from app.errors import PostgresError
from app.extensions import writing
from app.models import Kind, Restore
from app.postgres import ownership
from app.postgres.connection import quoted
from app.postgres.databases import Server, cut_name, serving
from app.services.restores import obstacles, scratch
from app.services.restores.load import RestoreRun
from app.services.restores.order import Order
from app.services.restores.refresh import refuse_others
from app.services.restores.swap import swap_in, write_comment


def put_in_place(
    run: RestoreRun,
    order: Order,
    server: Server,
    result: dict[str, Any],
    unlock: Callable[[], None],
) -> dict[str, Any]:
    """Give the new database its final name; return what the result says about that."""
    if order.kind in (Kind.REPLACE, Kind.REFRESH):
        _refuse_unequal(order, result)
    owner, keeps_role = result["owner"], result.pop("keepsRole")
    # From the live database, because the names of roles are written in its encoding.
    name = order.application_name
    with serving(order.live, application_name=name, on_wait=run.check) as live:
        live.rows(f"ALTER DATABASE {quoted(order.working)} OWNER TO {quoted(owner)}")
        if result.pop("staysShut"):  # functions in it may run with the rights of its owner
            live.rows(f"GRANT CONNECT ON DATABASE {quoted(order.working)} TO CURRENT_USER")
        else:
            granted = ownership.access(order.contents, order.working, owner, live.roles())
            live.run_all(granted)
    server.run_all(ownership.properties(order.contents, order.working))
    run.phase = "swapping"
    run.check(now_at_once=True)
    if order.kind is Kind.REPLACE:
        unlock()
        return swap_in(order.id, order.contents.get("comment"))
    if order.kind is Kind.REFRESH:
        refuse_others(server, order)
        if server.has_database(order.database):
            _mark(order, server)
            return swap_in(order.id, order.contents.get("comment"))
    return {"owner": _name_at_last(server, order, owner, keeps_role=keeps_role)}


def _name_at_last(server: Server, order: Order, owner: str, *, keeps_role: bool) -> str:
    """Give the new database a name that is free; return its owner."""
    obstacles.refuse_taken(server, order.database)
    with serving(server.info, application_name="backstop swap") as last:  # a cancel does not end it
        steps = [f"ALTER DATABASE {quoted(order.working)} RENAME TO {quoted(order.database)}"]
        if keeps_role:
            kept = _free_role(last, order.database)
            steps += scratch.keep_role(last, order.working, kept)
            owner = kept if owner == order.working else owner
        _mark(order, last)
        last.rows("; ".join(steps))  # one transaction
    write_comment(server.info, order.database, order.contents.get("comment"))
    return owner


def _refuse_unequal(order: Order, result: dict[str, Any]) -> None:
    """Raise PostgresError if the new database may differ from the one that was dumped."""
    roles = [f"role {name} does not exist" for name in result["missingRoles"]]
    not_compared = [f"not compared: {text}" for text in result["notCompared"]]
    reasons = [*roles, *result["differences"], *not_compared]
    if reasons:
        raise PostgresError(
            f"the restored database is not what was backed up; {order.database} is unchanged",
            detail="; ".join(reasons[:10]),
            hint="The SQL of the schedule may change rows, but no definitions."
            if order.sql
            else "Restore beside, and compare both; create missing roles first.",
        )


def _mark(order: Order, server: Server) -> None:
    """Record the OID of the database: after a crash, it shows whether it got its name."""
    marker = {"database": order.database, "oid": server.oid_of(order.working)}
    with writing() as session:
        session.get_one(Restore, order.id).marker = marker


def _free_role(server: Server, database: str) -> str:
    """A free name for the role that owns a foreign database."""
    roles = server.roles()
    names = (cut_name(database, f"_owner{number or ''}") for number in itertools.count())
    return next(name for name in names if name not in roles)
