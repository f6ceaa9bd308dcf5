"""Load a whole dump as superuser of a server of its own, and compare.

As `pg_restore --create` does: roles, the database as it was created, its settings, and
then everything with owners and grants. Only for an isolated server, because code in the
dump may run with a superuser's rights.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

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
from app.postgres.connection import quoted
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server, at_database, serving
from app.postgres.definitions import changes, definitions, dump_definitions
from app.postgres.differences import differences
from app.postgres.privileges import superuser_only
from app.postgres.restore import LAST, NEVER, Options, plan_load
from app.postgres.throwaway.around import (
    empower_roles,
    make_roles,
    make_tablespaces,
    roles_named_in,
)
from app.postgres.throwaway.server import Throwaway
from app.postgres.tools import Toolchain, find_toolchains
from app.programs.command import Line
from app.services.proofs import ask
from app.services.proofs.ask import Asserted
from app.services.restores import obstacles, scratch
from app.services.restores.load import Loader, RestoreRun
from app.services.restores.order import Order
from app.services.restores.row_counts import count_all

_MOST_JOBS = 4
_BIG = 16 * 1024**2  # bytes of a dump from which parallel jobs pay off
_MOST = 100  # differences that are kept
_RESERVED = ("postgres", "template0", "template1", "")
_NOT_COMPARED = {"access", "comment"}
_SHUT_OUT = (
    "Code in the dump may have changed the password of that server's superuser, or ended it."
)

# Errors for what this machine lacks; they say nothing about the dump.
_OF_THIS_MACHINE = re.compile(
    r"could not (open extension control file|access file|load library|create locale)"
    r"|extension .* (is not available|has no installation script|must be loaded)"
    r"|must be (pre)?loaded via|shared_preload_libraries"
    r"|collation .* does not exist|locale .* (is not|not) (valid|recognized)"
    r"|not supported (in|by) this build|unrecognized (configuration parameter|object type)"
    r"|invalid (locale|value for parameter \"(lc_|TimeZone|default_text_search_config))"
)


@dataclass(frozen=True)
class _Parts:
    """The entries of an archive, by when they are loaded."""

    first: list[Entry] = field(default_factory=list)
    last: list[Entry] = field(default_factory=list)  # event triggers, and what none needs
    left_out: list[Entry] = field(default_factory=list)


def prepare(server: Throwaway, order: Order, entries: list[Entry]) -> None:
    """Create what the dump needs around its database, for a role without superuser rights."""
    with serving(server.info, application_name=order.application_name) as admin:
        _make_tablespaces(admin, order, entries)
        _make_roles(admin, order, entries)


def _make_tablespaces(admin: Server, order: Order, entries: list[Entry]) -> None:
    properties = order.contents.get("properties") or {}
    make_tablespaces(admin, entries, properties.get("tablespace") or "")


def _make_roles(admin: Server, order: Order, entries: list[Entry]) -> None:
    make_roles(admin, roles_named_in(entries) | ownership.roles_of(order.contents))


def refuse_for_superusers(order: Order, entries: list[Entry], server: Throwaway) -> None:
    """Raise NotPossible for objects that only a superuser can create: none may load them there."""
    with serving(server.info, application_name=order.application_name) as admin:
        plan = obstacles.divide(entries, order.contents, admin)
        names = [*plan.for_superusers, *superuser_only(admin, plan.load)]
    if names:
        raise NotPossible(
            "the backup holds objects that only a superuser can create, and drills are not isolated"
            " here",
            detail=f"{', '.join(names)}.",
            hint="Install bubblewrap (Debian: apt install bubblewrap), or set BACKSTOP_DRILL_URL.",
        )


def load_and_compare(
    server: Throwaway, run: RestoreRun, order: Order, entries: list[Entry], hear: Line
) -> tuple[dict[str, Any], Asserted]:
    """Load all of it and return the findings; differences are returned, not raised.

    Raises NotPossible for what this machine lacks, and RestoreError if the dump cannot be
    loaded.
    """
    with _blaming(server, order):
        info = _make_database(server, run, order, entries)
        toolchain = toolchain_for(server, order)
        loader = Loader(run, order, toolchain, server.site.programs.version, hear)
        parts = _divided(entries)
        start = time.monotonic()
        run.phase = "loading"
        loader.load(info, parts.first, Options(jobs=_jobs(order), with_owners=True))
        run.phase = "comparing"
        with loader.serving(info) as admin:
            census = count_all(admin, order.contents) | _census(admin, order.contents)
        changed = [] if order.backup.foreign else _changes(loader, entries, info)
        seconds = time.monotonic() - start
        run.phase = "asserting"
        asserted = ask.ask(order, toolchain, info, info, on_wait=run.check)
        # Event triggers act upon everything that follows: before 17, they cannot be turned off.
        loader.load(info, parts.last, Options(with_owners=True))
    result = {
        "differences": [*changed, *differences(order.contents, census)][:_MOST],
        "tables": len(census["tables"]),
        "rows": sum(table["rows"] or 0 for table in census["tables"]),
        "missingRoles": [],
        "owner": order.contents.get("owner"),
        "privileged": [],
        "leftOut": [f"{entry.kind} {entry.name}" for entry in parts.left_out],
        "server": server.described,
        "seconds": round(seconds, 3),
    }
    return result, asserted


def toolchain_for(server: Throwaway, order: Order) -> Toolchain:
    """The pg_restore of the server's own programs, or another that can read the archive."""
    try:
        (own,) = find_toolchains(server.site.programs.folder)
    except ConfigurationError:
        own = None
    if own is not None and own.reads(order.backup.oldest_reader or 0, order.backup.compression):
        return own
    with serving(server.info, application_name=order.application_name) as admin:
        return obstacles.toolchain_for(order.backup, admin)


def _make_database(
    server: Throwaway, run: RestoreRun, order: Order, entries: list[Entry]
) -> Conninfo:
    """Create the database with its settings; return how to sign in there."""
    name = order.backup.database
    if order.backup.foreign or name in _RESERVED:
        name = order.working
    run.check(now_at_once=True)
    ourselves, comment = server.info.parameters["user"], scratch.COMMENT + order.id
    with serving(server.info, application_name=order.application_name) as admin:
        _make_tablespaces(admin, order, entries)
        options = scratch.database_options(order.contents, admin)
        admin.create_database(name, ourselves, options, comment)
    created = at_database(server.info, name)
    # From inside it, because the names of roles are written in its encoding.
    with serving(created, application_name=order.application_name) as admin:
        _make_roles(admin, order, entries)
        empower_roles(admin, entries, order.contents.get("roles") or "")
        roles = admin.roles()
        wanted = order.contents.get("owner")
        owner = str(wanted) if wanted in roles else ourselves
        admin.rows(f"ALTER DATABASE {quoted(name)} OWNER TO {quoted(owner)}")
        for statement in ownership.settings(order.contents, name, roles):
            admin.rows(statement)
        admin.run_all(ownership.access(order.contents, name, owner, roles))
        if order.lacks_public:
            admin.rows("DROP SCHEMA public")
    return created


def _divided(entries: list[Entry]) -> _Parts:
    parts = _Parts()
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
    """The definitions that differ from those in the dump, in words."""
    with loader.supervision(info) as supervision:
        list_file = scratch.list_file(loader.order.id)
        actual = definitions(dump_definitions(loader.toolchain, info, list_file, supervision))
    expected = definitions(plan_load(entries, frozenset()).defined)
    same_version = loader.order.major == loader.toolchain.version.major
    return list(changes(expected, actual, same_version=same_version))


def _census(admin: Server, contents: Census) -> Census:
    parts = [part for part in STATEMENTS if part in contents and part not in _NOT_COMPARED]
    return admin.census(*parts)


def _jobs(order: Order) -> int:
    return min(os.cpu_count() or 1, _MOST_JOBS) if order.backup.size > _BIG else 1


@contextmanager
def _blaming(server: Throwaway, order: Order) -> Iterator[None]:
    """Blame the dump only for errors that speak against it."""
    try:
        yield
    except (NotPossible, Interrupted):
        raise
    except RestoreError as error:
        version = server.site.programs.version
        if not _OF_THIS_MACHINE.search(error.detail) and order.major in (0, version.major):
            raise
        of_version = f", of {order.major}," if order.major else ""
        raise NotPossible(
            f"this dump{of_version} cannot be loaded on the PostgreSQL {version} of this machine",
            detail=error.detail,
            hint=f"Install what it names, and the server programs of PostgreSQL"
            f" {order.major or version.major}; or set BACKSTOP_DRILL_URL.",
        ) from error
    except (PostgresError, StorageError) as error:
        raise NotPossible(
            f"the drill could not finish: {error.message}",
            detail=error.detail,
            hint=_SHUT_OUT if isinstance(error, ConnectError) else error.hint,
        ) from error
