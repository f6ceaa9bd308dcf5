"""Give a restored database its name, its owner and its rights, now that it is whole."""

import itertools
from collections.abc import Callable
from typing import Any

from app.errors import PostgresError
from app.extensions import writing
from app.models import Kind, Restore
from app.postgres import ownership
from app.postgres.connection import quoted
from app.postgres.databases import Server, cut_name, serving
from app.services.databases.configured import configured_database
from app.services.restores import preview, scratch
from app.services.restores.load import Order, RestoreRun
from app.services.restores.swap import swap_in, tell_of


def put_in_place(
    run: RestoreRun,
    order: Order,
    server: Server,
    result: dict[str, Any],
    let_go: Callable[[], None],
) -> dict[str, Any]:
    """Give the new database its name, now that it is whole."""
    refused = [*result["differences"], *result["missingRoles"], *result["notCompared"]]
    if order.kind is Kind.REPLACE and refused:
        roles = [f"role {name} is not there" for name in result["missingRoles"]]
        not_compared = [f"not compared: {each}" for each in result["notCompared"]]
        raise PostgresError(
            "the restored database is not what was backed up; the living one stays as it is",
            detail="; ".join([*roles, *result["differences"], *not_compared][:10]),
            hint="Restore beside, and look at both; create missing roles first.",
        )
    owner, keeps_role = result["owner"], result.pop("keepsRole")
    # By the living database, for the names of roles are written in its encoding.
    name = order.application_name
    with serving(configured_database(), application_name=name, on_wait=run.check) as living:
        living.rows(f"ALTER DATABASE {quoted(order.working)} OWNER TO {quoted(owner)}")
        if result.pop("staysShut"):  # there may be functions that run with the rights over it
            living.rows(f"GRANT CONNECT ON DATABASE {quoted(order.working)} TO CURRENT_USER")
        else:
            granted = ownership.access(order.contents, order.working, owner, living.roles())
            living.run_all(granted)
    server.run_all(ownership.properties(order.contents, order.working))
    run.phase = "swapping"
    run.check(now_at_once=True)
    if order.kind is Kind.REPLACE:
        let_go()
        return swap_in(order.id, order.contents.get("comment"))
    preview.refuse_taken(server, order.database)
    with serving(server.info, application_name="backstop swap") as last:  # not to be cancelled
        steps = [f"ALTER DATABASE {quoted(order.working)} RENAME TO {quoted(order.database)}"]
        if keeps_role:
            kept = _free_role(last, order.database)
            steps += scratch.keep_role(last, order.working, kept)
            owner = kept if owner == order.working else owner
        _mark(order, last)
        last.rows("; ".join(steps))  # one transaction
    tell_of(server.info, order.database, order.contents.get("comment"))
    return {"owner": owner}


def _mark(order: Order, server: Server) -> None:
    """Write down the database's number: by it one sees after a crash whether it got its name."""
    marker = {"database": order.database, "oid": server.oid_of(order.working)}
    with writing() as session:
        session.get_one(Restore, order.id).marker = marker


def _free_role(server: Server, database: str) -> str:
    """A role's name that is not taken, for the owner of a foreign database."""
    roles = server.roles()
    names = (cut_name(database, f"_owner{number or ''}") for number in itertools.count())
    return next(each for each in names if each not in roles)
