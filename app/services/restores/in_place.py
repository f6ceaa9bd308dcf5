"""A restore over the live database itself: who may do it, what blocks it, and is it done?

For servers where no database may be created. It is all or nothing, but never exact:
objects created since the backup stay.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app.config import settings
from app.errors import AppError, Conflict, InvalidInput, NotPossible, RestoreError
from app.extensions import db, writing
from app.models import Restore
from app.postgres.archive import Entry
from app.postgres.census import Census
from app.postgres.connection import quoted
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.databases import Server, at_database, serving
from app.postgres.differences import differences
from app.postgres.inplace import Around, look_around, oid_of, over_live, patient, powers_of
from app.postgres.ownership import roles_of
from app.postgres.restore import Plan, plan_load
from app.services.jobs.session_names import restore_session
from app.services.restores.scratch import live_of, restore_url

logger = logging.getLogger(__name__)

_MOST_LISTED = 20  # obstacles in one message
_MOST_KEPT = 100  # objects of each kind in the result

_BESIDE = "Restore beside or replace, if the server lets you create a database."


@dataclass(frozen=True)
class Prepared:
    """What is loaded over the live database, and what else is in it."""

    entries: list[Entry]
    left_out: list[Entry]
    around: Around
    powers: str  # the role through which code in the dump could reach beyond the database


def signing_in(live: Conninfo) -> Conninfo:
    """The role that restores in place: of BACKSTOP_RESTORE_URL, or else of the live database."""
    url = restore_url(live.server)
    return at_database(parse_url(url), live.database) if url else live


def refuse_superuser(live: Conninfo, *, as_superuser: bool) -> None:
    """Raise InvalidInput if a superuser would load the dump and nobody has confirmed that."""
    with serving(signing_in(live), application_name="backstop look") as server:
        _refuse_powers(powers_of(server), as_superuser=as_superuser)


def prepare(
    server: Server, contents: Census, entries: list[Entry], *, as_superuser: bool | None
) -> Prepared:
    """Compare the database of `server`, which is signed in as the loading role, with the dump.

    Without a decision (`as_superuser` is None), a superuser is not refused, so that a preview
    can ask for one. Raises NotPossible, InvalidInput, and Conflict with what blocks it.
    """
    if "owned" not in contents:
        raise NotPossible(
            "this backup does not list its objects, so it is not known what blocks it",
            hint=_BESIDE,
        )
    powers = powers_of(server)
    if as_superuser is not None:
        _refuse_powers(powers, as_superuser=as_superuser)
    extensions = [extension["name"] for extension in contents.get("extensions", [])]
    ordered = over_live(server, entries)
    plan = plan_load(ordered, server.untrusted_extensions(extensions))
    if not server.is_superuser():
        _refuse_powerless(server, plan)
    left_out = [*plan.configuration, *plan.left_out]
    without = {entry.id for entry in left_out}
    live = server.census("owned")
    around = look_around(server, contents, live, entries)
    obstacles = [*_foreign_owners(server, contents, live), *around.depends]
    if obstacles:
        more = len(obstacles) - _MOST_LISTED
        listed = [*obstacles[:_MOST_LISTED], *([f"and {more} more"] if more > 0 else [])]
        raise Conflict(
            "the backup cannot be restored in place now; nothing has changed",
            detail="; ".join(listed) + ".",
            hint=f"Drop or change these first. {_BESIDE}",
        )
    loaded = [entry for entry in ordered if entry.id not in without]
    return Prepared(loaded, left_out, around, powers)


def _refuse_powers(powers: str, *, as_superuser: bool) -> None:
    if powers and not as_superuser:
        raise InvalidInput(
            f"code in the dump would run with all rights of role {powers}",
            detail="A dump is a program: its functions, defaults and expressions run while it is"
            " loaded, and this role can read and write the server's files and start programs"
            " there.",
            hint="Set BACKSTOP_RESTORE_URL to a role that owns the database and has no such"
            " rights. If you trust everyone who could write to the database, confirm it:"
            ' --as-superuser, or "confirmSuperuser": true.',
        )


def _refuse_powerless(server: Server, plan: Plan) -> None:
    owner = server.owner_of(server.info.database)
    if owner not in _own_roles(server):
        raise NotPossible(
            f"only its owner, {owner}, can restore a database in place",
            hint=f"Set BACKSTOP_RESTORE_URL to sign in as {quoted(owner)}. {_BESIDE}",
        )
    if plan.privileged:
        raise NotPossible(
            "the backup holds objects that only a superuser can drop and create",
            detail=", ".join(plan.privileged),
            hint=_BESIDE,
        )


def _own_roles(server: Server) -> set[str]:
    mine = "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'USAGE')"
    return {name for (name,) in server.rows(mine)}


def _foreign_owners(server: Server, contents: Census, live: Census) -> list[str]:
    """Objects that our role cannot drop, and owners that it cannot give them back to."""
    without_settings = {key: value for key, value in contents.items() if key != "settings"}
    missing = roles_of(without_settings) - server.roles()
    mine = _own_roles(server)
    backed = {(kind, name) for kind, name, *_ in contents["owned"]}
    owners = {
        (kind, name, owner)
        for kind, name, owner, _ in [*live["owned"], *contents["owned"]]
        if owner and (kind, name) in backed and kind != "schema"
    }
    texts = [f"role {name} does not exist" for name in missing]
    texts += [
        f"{kind} {name} belongs to {owner}" for kind, name, owner in owners if owner not in mine
    ]
    return sorted(texts)


@contextmanager
def loading(info: Conninfo, restore_id: str, prepared: Prepared) -> Iterator[Callable[[], None]]:
    """Load all or nothing within this block, and find out which it was.

    Yields a function to call meanwhile, which raises if another session holds a lock for
    too long. An error leaves the block only if nothing was changed.
    """
    name = restore_session(restore_id)
    _mark(info, restore_id, prepared.entries)
    try:
        with patient(info, name, settings().lock_timeout) as look:
            yield look
    except AppError as error:
        if not has_loaded(restore_id):
            raise _unchanged(error) from error
        logger.warning("loaded despite an error restore=%s error=%r", restore_id, error.in_words())


def _unchanged(error: AppError) -> AppError:
    if not isinstance(error, RestoreError):
        return error
    return RestoreError(
        "the backup could not be loaded over the live database, which is unchanged",
        detail=error.detail,
        hint=error.hint or f"Something may have to be dropped first. {_BESIDE}",
    )


def _mark(info: Conninfo, restore_id: str, entries: list[Entry]) -> None:
    """Record the OID of a table: after a crash, a different one shows that it was loaded."""
    table = next((entry for entry in entries if entry.kind == "TABLE"), None)
    if table is None:
        return
    with serving(info, application_name="backstop look") as server:
        oid = oid_of(server, table.schema, table.name)
    with writing() as session:
        row = session.get_one(Restore, restore_id)
        row.marker = {"schema": table.schema, "name": table.name, "oid": oid}


def has_loaded(restore_id: str) -> bool:
    """Whether a restore in place took effect; its sessions are ended first.

    Raises ConnectError, PostgresError if that cannot be found out.
    """
    row = db.session.get_one(Restore, restore_id)
    marker = row.marker
    is_marked = marker is not None and "schema" in marker  # not that of a restore beside
    live = live_of(row) if is_marked else None
    db.session.commit()
    if marker is None or live is None:
        return False
    with live as info, serving(signing_in(info), application_name="backstop look") as server:
        server.end_sessions(restore_session(restore_id))
        return oid_of(server, marker["schema"], marker["name"]) not in (None, marker["oid"])


def compare(
    server: Server, contents: Census, prepared: Prepared, counted: Census
) -> dict[str, Any]:
    """The database now compared with the dump; for people, not as a proof."""
    around = prepared.around
    parts = ["owned"] if around.stays else ["objects", "owned"]
    census = counted | server.census(*parts)
    census["owned"] = [item for item in census["owned"] if (item[0], item[1]) not in around.stays]
    not_compared = ["settings, comment and grants of the database itself, which stay as they are"]
    if around.stays:
        not_compared.append("the number of objects")
    return {
        "differences": differences(contents, census)[:_MOST_KEPT],
        "tables": len(census["tables"]),
        "rows": sum(table["rows"] or 0 for table in census["tables"]),
        "missingRoles": [],
        "owner": server.owner_of(server.info.database),
        "privileged": [],
        "leftOut": [f"{entry.kind} {entry.name}" for entry in prepared.left_out],
        "notCompared": not_compared,
        **around_in_words(around),
    }


def around_in_words(around: Around) -> dict[str, list[str]]:
    """Objects that are not in the backup: those that stay, and those that are dropped too."""
    return {
        "stays": [" ".join(item) for item in around.stays][:_MOST_KEPT],
        "goes": around.goes[:_MOST_KEPT],
    }
