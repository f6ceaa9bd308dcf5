"""The database's server, the programs that fit it, and what our role may read there."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from humanize import naturalsize

from app.config import settings
from app.errors import AppError, NotPossible
from app.postgres.conninfo import Conninfo
from app.postgres.floors import weakness_of
from app.postgres.inspection import Inspection, Rights, inspect, inspect_rights
from app.postgres.lacks import LARGE_OBJECTS, ROW_SECURITY, TABLES, lacks
from app.postgres.locking import refuse_another_name
from app.postgres.poolers import refuse_shared_sessions
from app.postgres.tools import Toolchain, Version, choose_toolchain, find_toolchains
from app.services.databases.configured import embedded_server
from app.services.databases.connections import connection_in_environment, reached
from app.services.databases.lookup import default_database
from app.services.health.doctor.findings import (
    Finding,
    examined,
    failed,
    ok,
    problem,
    unexamined,
    warning,
)
from app.services.restores import scratch

_RESTORES = "restores"
_CLOCK_WARNING, _CLOCK_PROBLEM = 5, 60  # seconds

_UPDATE = "Update PostgreSQL to the newest minor version of a supported major."


def examine_server(*, has_catalogue: bool) -> list[Finding]:
    """Everything that the server is asked for, and pg_dump, which depends on it.

    Without a readable catalogue it is the server of DATABASE_URL.
    """
    try:
        with _reached(has_catalogue=has_catalogue) as info:
            return _examine(info, inspect(info))
    except AppError as error:
        why = "the server cannot be asked"
        return [
            examined("server", partial(_silent, error)),
            examined("pg_dump", _tools_for_no_server),
            *(unexamined(subject, why) for subject in ("server clock", *_RIGHTS, _RESTORES)),
        ]


def _examine(info: Conninfo, inspection: Inspection) -> list[Finding]:
    return [
        examined("server", partial(_server, info, inspection)),
        examined("pg_dump", partial(_tools, inspection.version)),
        _clock(inspection.clock_ahead),
        *_rights(info, inspection),
        examined(_RESTORES, partial(_restores, info)),
    ]


def _reached(*, has_catalogue: bool) -> AbstractContextManager[Conninfo]:
    return (
        reached(default_database()) if has_catalogue else nullcontext(connection_in_environment())
    )


def _silent(error: AppError) -> Finding:
    """A server that gives no answer; the embedded one is started when it is needed."""
    if settings().database_url or embedded_server().status().stopped_on_purpose:
        return failed("server", error)
    return warning(
        "server",
        "the embedded PostgreSQL server is not running",
        "flask backup create and flask panel start it by themselves; flask server start does too.",
    )


def _server(info: Conninfo, inspection: Inspection) -> Finding:
    refuse_another_name(info, inspection.database)
    if inspection.is_pooled:
        refuse_shared_sessions(info)
    text = (
        f"PostgreSQL {inspection.version} on {info.server}: database {info.database}"
        f" ({naturalsize(inspection.database_size, binary=True)}),"
        f" role {inspection.role}{' (superuser)' if inspection.is_superuser else ''}"
    )
    weakness = weakness_of(inspection.version)
    return warning("server", f"{text}; {weakness}", _UPDATE) if weakness else ok("server", text)


def _tools(server: Version) -> Finding:
    chosen = choose_toolchain(find_toolchains(settings().pg_bin_dir), server)
    how = chosen.compression(settings().compression)
    text = f"{_shown(chosen)}, compression {how}; chosen because {_reason(chosen, server)}"
    weakness = weakness_of(chosen.version)
    return warning("pg_dump", f"{text}; {weakness}", _UPDATE) if weakness else ok("pg_dump", text)


def _tools_for_no_server() -> Finding:
    chains = find_toolchains(settings().pg_bin_dir)
    choose_toolchain(chains, Version(0, 0))  # raises where there is none at all
    return warning(
        "pg_dump",
        f"which one fits depends on the server; found: {', '.join(map(_shown, chains))}",
    )


def _shown(chain: Toolchain) -> str:
    return f"{chain.version} in {chain.folder}"


def _reason(chosen: Toolchain, server: Version) -> str:
    if settings().pg_bin_dir is not None:
        return "BACKSTOP_PG_BIN_DIR names it"
    if chosen.version.major == server.major:
        return "it is of the server's major version"
    return f"it is the next newer one, and there is none of {server.major}"


def _clock(ahead: float) -> Finding:
    text = f"the server's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    hint = "Synchronize both machines by NTP: backups are named and ordered by time."
    if abs(ahead) > _CLOCK_PROBLEM:
        return problem("server clock", text, hint)
    if abs(ahead) > _CLOCK_WARNING:
        return warning("server clock", text, hint)
    return ok("server clock", "the server's clock and ours agree")


def _rights(info: Conninfo, inspection: Inspection) -> list[Finding]:
    try:
        rights = inspect_rights(info)
    except AppError as error:
        # As a rule there is too much to look through; the dump itself does not mind.
        why = error.detail or error.message
        return [unexamined(subject, why) for subject in _RIGHTS]
    missing = lacks(inspection.role, inspection.version.major, rights)
    return [
        problem(subject, missing[subject].detail, f"As a superuser: {missing[subject].remedy}")
        if subject in missing
        else ok(subject, text_of(inspection.role, rights))
        for subject, text_of in _RIGHTS.items()
    ]


_RIGHTS: dict[str, Callable[[str, Rights], str]] = {
    TABLES: lambda role, rights: (
        f"role {role} may read all tables ({rights.tables.all})"
        f" and sequences ({rights.sequences.all})"
    ),
    ROW_SECURITY: lambda role, _: f"hides no row from role {role}",
    LARGE_OBJECTS: lambda role, rights: (
        f"role {role} may read all of them ({rights.large_objects.all})"
    ),
}


def _restores(info: Conninfo) -> Finding:
    try:
        scratch.refuse_new_roles_shut_out(info)
    except NotPossible as error:
        return warning(_RESTORES, f"not possible: {error.message}: {error.detail}", error.hint)
    return ok(_RESTORES, "a role that restores could sign in on the server")
