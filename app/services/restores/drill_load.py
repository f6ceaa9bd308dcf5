"""Load a whole dump on a server that is there for it alone, as its superuser, and compare.

As the server's own `pg_restore --create` would: roles, the database as it was
made, its settings, and then everything with owners and grants. Only for a
server that is kept apart: code of the dump may run with a superuser's rights.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from app.errors import (
    ConfigurationError,
    ConnectError,
    Interrupted,
    NotPossible,
    PostgresError,
    RestoreError,
    StorageError,
)
from app.postgres import ownership
from app.postgres.archive import Entry
from app.postgres.census import STATEMENTS, Census
from app.postgres.command import Line
from app.postgres.connection import quoted
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server, at_database, serving
from app.postgres.definitions import changes, definitions, dump_definitions
from app.postgres.differences import differences
from app.postgres.privileges import superuser_only
from app.postgres.restore import LAST, NEVER, plan
from app.postgres.throwaway.around import (
    empower_roles,
    make_roles,
    make_tablespaces,
    roles_named_in,
)
from app.postgres.throwaway.server import Throwaway
from app.postgres.tools import Toolchain, find_toolchains
from app.services.proofs import ask
from app.services.proofs.ask import Asserted
from app.services.restores import preview, scratch
from app.services.restores.load import Loader, Order, RestoreRun, lacks_public
from app.services.restores.row_counts import count_all

_MOST_JOBS = 4
_BIG = 16 * 1024**2  # bytes of a dump from which on several pay
_TOLD = 100  # differences that are kept
_RESERVED = ("postgres", "template0", "template1", "")
_NOT_COMPARED = {"access", "comment"}
_SHUT_OUT = (
    "Code in the dump may have changed the password of that server's superuser, or ended it."
)

# What is missing here, and says nothing of the dump.
_OF_THIS_MACHINE = re.compile(
    r"could not (open extension control file|access file|load library|create locale)"
    r"|extension .* (is not available|has no installation script|must be loaded)"
    r"|must be (pre)?loaded via|shared_preload_libraries"
    r"|collation .* does not exist|locale .* (is not|not) (valid|recognized)"
    r"|not supported (in|by) this build|unrecognized (configuration parameter|object type)"
    r"|invalid (locale|value for parameter \"(lc_|TimeZone|default_text_search_config))"
)


class _Parts(NamedTuple):
    """The entries of an archive, in the order in which they are loaded."""

    first: list[Entry]
    last: list[Entry]  # event triggers, and what nothing else needs
    left_out: list[Entry]


def prepare(server: Throwaway, order: Order, entries: list[Entry]) -> None:
    """Make what the dump needs around its database, for who is no superuser."""
    with serving(server.info, application_name=order.application_name) as admin:
        _make_tablespaces(admin, order, entries)
        _make_roles(admin, order, entries)


def _make_tablespaces(admin: Server, order: Order, entries: list[Entry]) -> None:
    properties = order.contents.get("properties") or {}
    make_tablespaces(admin, entries, properties.get("tablespace") or "")


def _make_roles(admin: Server, order: Order, entries: list[Entry]) -> None:
    make_roles(admin, roles_named_in(entries) | ownership.roles_of(order.contents))


def refuse_for_superusers(order: Order, entries: list[Entry], server: Throwaway) -> None:
    """Raise NotPossible, by name, for what only a superuser can make: nobody there may be one."""
    with serving(server.info, application_name=order.application_name) as admin:
        apart = preview.divide(entries, order.contents, admin)
        names = [*apart.for_superusers, *superuser_only(admin, apart.load)]
    if names:
        raise NotPossible(
            "the backup holds what only a superuser can create, and drills are not isolated here",
            detail=f"{', '.join(names)}.",
            hint="Install bubblewrap (Debian: apt install bubblewrap), or set BACKSTOP_DRILL_URL.",
        )


def load_and_compare(
    server: Throwaway, run: RestoreRun, order: Order, entries: list[Entry], heard: Line
) -> tuple[dict[str, Any], Asserted]:
    """Load all of it and say what was found; what is false is told, not raised.

    Raises NotPossible for what this machine lacks, RestoreError where the dump
    cannot be loaded.
    """
    with _saying_whose_fault(server, order):
        info = _make_database(server, run, order, entries)
        toolchain = toolchain_for(server, order)
        loader = Loader(run, order, toolchain, server.site.programs.version, heard)
        parts = _divided(entries)
        began = time.monotonic()
        run.phase = "loading"
        loader.load(info, parts.first, jobs=_jobs(order), with_owners=True)
        run.phase = "comparing"
        with loader.serving(info) as admin:
            found = count_all(admin, order.contents) | _census(admin, order.contents)
        changed = [] if order.foreign else _changes(loader, entries, info)
        took = time.monotonic() - began
        run.phase = "asserting"
        asserted = ask.ask(order, toolchain, info, info, on_wait=run.check)
        # Event triggers act upon all that follows: before 17 they cannot be turned off.
        loader.load(info, parts.last, with_owners=True)
    result = {
        "differences": [*changed, *differences(order.contents, found)][:_TOLD],
        "tables": len(found["tables"]),
        "rows": sum(each["rows"] or 0 for each in found["tables"]),
        "missingRoles": [],
        "owner": order.contents.get("owner"),
        "privileged": [],
        "leftOut": [f"{each.kind} {each.name}" for each in parts.left_out],
        "server": server.described,
        "seconds": round(took, 3),
    }
    return result, asserted


def toolchain_for(server: Throwaway, order: Order) -> Toolchain:
    """The pg_restore beside the server's programs, else one that can read the archive."""
    try:
        (own,) = find_toolchains(server.site.programs.folder)
    except ConfigurationError:
        own = None
    if own is not None and own.reads(order.oldest_reader, order.compression):
        return own
    with serving(server.info, application_name=order.application_name) as admin:
        return preview.toolchain_for(order.oldest_reader, order.compression, admin)


def _make_database(
    server: Throwaway, run: RestoreRun, order: Order, entries: list[Entry]
) -> Conninfo:
    """The database, with its own settings in force; how to sign in there."""
    name = order.working if order.foreign or order.named in _RESERVED else order.named
    run.check(now_at_once=True)
    ourselves, comment = server.info.parameters["user"], scratch.COMMENT + order.id
    with serving(server.info, application_name=order.application_name) as admin:
        _make_tablespaces(admin, order, entries)
        options = scratch.database_options(order.contents, admin)
        admin.create_database(name, ourselves, options, comment)
    made = at_database(server.info, name)
    # In it, for the names of roles are written in its encoding.
    with serving(made, application_name=order.application_name) as admin:
        _make_roles(admin, order, entries)
        empower_roles(admin, entries, order.contents.get("roles") or "")
        roles = admin.roles()
        wanted = order.contents.get("owner")
        owner = str(wanted) if wanted in roles else ourselves
        admin.rows(f"ALTER DATABASE {quoted(name)} OWNER TO {quoted(owner)}")
        for statement in ownership.settings(order.contents, name, roles):
            admin.rows(statement)
        admin.run_all(ownership.access(order.contents, name, owner, roles))
        if lacks_public(order.contents):
            admin.rows("DROP SCHEMA public")
    return made


def _divided(entries: list[Entry]) -> _Parts:
    parts = _Parts([], [], [])
    last: set[int] = set()
    for entry in entries:
        if entry.kind in NEVER:
            parts.left_out.append(entry)
        elif entry.kind in LAST or (entry.kind == "COMMENT" and last.intersection(entry.needs)):
            parts.last.append(entry)
            last.add(entry.id)
        else:
            parts.first.append(entry)
    return parts


def _changes(loader: Loader, entries: list[Entry], info: Conninfo) -> list[str]:
    """What is not defined as in the dump, in words."""
    with loader.running(info) as running:
        there = dump_definitions(loader.toolchain, info, running)
    same = loader.order.major == loader.toolchain.version.major
    return list(
        changes(
            definitions(plan(entries, frozenset()).defined), definitions(there), same_version=same
        )
    )


def _census(admin: Server, contents: Census) -> Census:
    parts = [each for each in STATEMENTS if each in contents and each not in _NOT_COMPARED]
    return admin.census(*parts)


def _jobs(order: Order) -> int:
    return min(os.cpu_count() or 1, _MOST_JOBS) if order.size > _BIG else 1


@contextmanager
def _saying_whose_fault(server: Throwaway, order: Order) -> Iterator[None]:
    """Only what speaks against the dump stays an error of the dump."""
    try:
        yield
    except (NotPossible, Interrupted):
        raise
    except RestoreError as error:
        version = server.site.programs.version
        if not _OF_THIS_MACHINE.search(error.detail) and order.major in (0, version.major):
            raise
        told = f", of {order.major}," if order.major else ""
        raise NotPossible(
            f"this dump{told} cannot be loaded on the PostgreSQL {version} of this machine",
            detail=error.detail,
            hint=f"Install what it names, and the server's programs of PostgreSQL"
            f" {order.major or version.major}; or set BACKSTOP_DRILL_URL.",
        ) from error
    except (PostgresError, StorageError) as error:
        raise NotPossible(
            f"the drill could not be finished: {error.message}",
            detail=error.detail,
            hint=_SHUT_OUT if isinstance(error, ConnectError) else error.hint,
        ) from error
