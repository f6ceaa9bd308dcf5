"""A restore over the living database itself: who may do it, what is in its way, is it done?

For servers where no database may be created. It is all or nothing, but never
exact: what was made since the backup stays.
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
from app.postgres.inplace import Around, look_around, oid_of, over_living, patient, powers_of
from app.postgres.ownership import roles_of
from app.postgres.restore import Plan, plan
from app.services.databases.configured import configured_database
from app.services.jobs.session_names import restore_session

logger = logging.getLogger(__name__)

_TOLD = 20  # things in the way; with so many nobody reads more
_KEPT = 100  # things that stay

_BESIDE = "Restore beside or replace, where the server lets you make a database."


@dataclass(frozen=True)
class Prepared:
    """What is loaded over the living database, and what is in it besides."""

    entries: list[Entry]
    left_out: list[Entry]
    around: Around
    powers: str  # the role by which the dump's code could leave the database


def signing_in() -> Conninfo:
    """Who restores in place: the role of BACKSTOP_RESTORE_URL, or that of DATABASE_URL."""
    living = configured_database()
    if not settings().restore_url:
        return living
    return at_database(parse_url(settings().restore_url or ""), living.database)


def refuse_superuser(*, as_superuser: bool) -> None:
    """Raise InvalidInput where a superuser would load the dump and nobody has said that it may."""
    with serving(signing_in(), application_name="backstop look") as server:
        _refuse_powers(powers_of(server), as_superuser=as_superuser)


def prepare(
    server: Server, contents: Census, entries: list[Entry], *, as_superuser: bool | None
) -> Prepared:
    """Look at the database that `server` is in, signed in as who will load.

    Without a word about it (`as_superuser` is None) a superuser is not refused:
    so it can be told before. Raises NotPossible, InvalidInput, and Conflict
    with a list of what is in the way.
    """
    if "owned" not in contents:
        raise NotPossible(
            "this backup does not tell what it holds, so nobody knows what is in its way",
            hint=_BESIDE,
        )
    powers = powers_of(server)
    if as_superuser is not None:
        _refuse_powers(powers, as_superuser=as_superuser)
    extensions = [each["name"] for each in contents.get("extensions", [])]
    ordered = over_living(server, entries)
    apart = plan(ordered, server.untrusted_extensions(extensions))
    if not server.is_superuser():
        _refuse_powerless(server, apart)
    left_out = [*apart.configuration, *apart.left_out]
    without = {each.id for each in left_out}
    living = server.census("owned")
    around = look_around(server, contents, living, entries)
    in_the_way = [*_foreign_owners(server, contents, living), *around.depends]
    if in_the_way:
        more = len(in_the_way) - _TOLD
        told = [*in_the_way[:_TOLD], *([f"and {more} more"] if more > 0 else [])]
        raise Conflict(
            "the backup cannot be restored in place as things are; nothing has changed",
            detail="; ".join(told) + ".",
            hint=f"Drop or change these first. {_BESIDE}",
        )
    loaded = [each for each in ordered if each.id not in without]
    return Prepared(loaded, left_out, around, powers)


def _refuse_powers(powers: str, *, as_superuser: bool) -> None:
    if powers and not as_superuser:
        raise InvalidInput(
            f"what is hidden in the dump would run with all rights of role {powers}",
            detail="A dump is a program: its functions, defaults and expressions are run when it"
            " is loaded, and this role can read and write the server's files and start programs"
            " there.",
            hint="Let BACKSTOP_RESTORE_URL name a role that owns the database and has no such"
            " rights. If you trust whoever could write into the database, say so:"
            ' --as-superuser, or "confirmSuperuser": true.',
        )


def _refuse_powerless(server: Server, apart: Plan) -> None:
    owner = server.owner_of(server.info.database)
    if owner not in _own_roles(server):
        raise NotPossible(
            f"only its owner can restore a database in place, and that is {owner}",
            hint=f"Let BACKSTOP_RESTORE_URL sign in as {quoted(owner)}. {_BESIDE}",
        )
    if apart.privileged:
        raise NotPossible(
            "the backup holds what only a superuser can drop and create",
            detail=", ".join(apart.privileged),
            hint=_BESIDE,
        )


def _own_roles(server: Server) -> set[str]:
    mine = "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'USAGE')"
    return {name for (name,) in server.rows(mine)}


def _foreign_owners(server: Server, contents: Census, living: Census) -> list[str]:
    """What who signs in cannot drop, or give to whom it belonged."""
    without_settings = {key: value for key, value in contents.items() if key != "settings"}
    told = [f"role {name} is not there" for name in roles_of(without_settings) - server.roles()]
    mine = _own_roles(server)
    backed = {(kind, name) for kind, name, *_ in contents["owned"]}
    owners = {
        (kind, name, owner)
        for kind, name, owner, _ in [*living["owned"], *contents["owned"]]
        if owner and (kind, name) in backed and kind != "schema"
    }
    told += [
        f"{kind} {name} belongs to {owner}" for kind, name, owner in owners if owner not in mine
    ]
    return sorted(told)


@contextmanager
def loading(info: Conninfo, restore_id: str, prepared: Prepared) -> Iterator[Callable[[], None]]:
    """What is loaded within happens wholly or not at all, and this tells which.

    Yields what is to be called meanwhile: it raises where somebody holds a lock
    for too long. An error comes out only where nothing has happened.
    """
    name = restore_session(restore_id)
    _mark(info, restore_id, prepared.entries)
    try:
        with patient(info, name, settings().lock_timeout) as look:
            yield look
    except AppError as error:
        if not has_loaded(restore_id):
            raise _told(error) from error
        logger.warning("loaded all the same restore=%s error=%r", restore_id, error.in_words())


def _told(error: AppError) -> AppError:
    if not isinstance(error, RestoreError):
        return error
    return RestoreError(
        "the backup could not be loaded over the living database, which is as it was",
        detail=error.detail,
        hint=error.hint or f"What is in the way may have to go first. {_BESIDE}",
    )


def _mark(info: Conninfo, restore_id: str, entries: list[Entry]) -> None:
    """Write down a table's number: whoever comes after a crash sees whether it is another one."""
    table = next((each for each in entries if each.kind == "TABLE"), None)
    if table is None:
        return
    with serving(info, application_name="backstop look") as server:
        oid = oid_of(server, table.schema, table.name)
    with writing() as session:
        row = session.get_one(Restore, restore_id)
        row.marker = {"schema": table.schema, "name": table.name, "oid": oid}


def has_loaded(restore_id: str) -> bool:
    """Whether a restore in place has happened; its sessions are ended first.

    Raises ConnectError, PostgresError where that cannot be told.
    """
    marker = db.session.get_one(Restore, restore_id).marker
    db.session.commit()
    if marker is None or "schema" not in marker:  # that of a restore beside
        return False
    with serving(signing_in(), application_name="backstop look") as server:
        server.end_sessions(restore_session(restore_id))
        return oid_of(server, marker["schema"], marker["name"]) not in (None, marker["oid"])


def compared(server: Server, contents: Census, prepared: Prepared, found: Census) -> dict[str, Any]:
    """What the database holds now, beside what was dumped; for people, not as a proof."""
    around = prepared.around
    parts = ["owned"] if around.stays else ["objects", "owned"]
    found = found | server.census(*parts)
    found["owned"] = [each for each in found["owned"] if (each[0], each[1]) not in around.stays]
    more = ["settings, comment and rights of the database itself, which stay as they are"]
    if around.stays:
        more.append("how many objects there are")
    return {
        "differences": differences(contents, found)[:_KEPT],
        "tables": len(found["tables"]),
        "rows": sum(each["rows"] or 0 for each in found["tables"]),
        "missingRoles": [],
        "owner": server.owner_of(server.info.database),
        "privileged": [],
        "leftOut": [f"{each.kind} {each.name}" for each in prepared.left_out],
        "notCompared": more,
        **around_told(around),
    }


def around_told(around: Around) -> dict[str, list[str]]:
    """What is not in the backup and stays, and what goes with what is dropped."""
    return {
        "stays": [" ".join(each) for each in around.stays][:_KEPT],
        "goes": around.goes[:_KEPT],
    }
