"""The server's own check of tables and indexes: pg_amcheck with the extension amcheck.

It runs as the role that has loaded the database, never as a superuser: to check
an index with an expression is to run user code.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from app.errors import PostgresError
from app.postgres import command
from app.postgres.connection import hint_for, quoted
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server
from app.postgres.tools import Toolchain

_OLDEST = 14  # the first server that can check tables too
_FOUND = 2  # how pg_amcheck ends where something is not as it should be
_KEPT = 64 * 1024  # bytes of what it prints
_WORDS = 500  # characters of one finding

# Not what was found, but what kept it from looking.
_NO_FINDING = (
    r": (canceling|terminating|out of (shared )?memory|permission denied)"
    r"|No space left|terminating connection|connection to server|server closed"
)

_FUNCTIONS = """
    SELECT p.oid::pg_catalog.regprocedure::text FROM pg_proc p JOIN pg_depend d
      ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
    WHERE e.extname = 'amcheck'
"""


def why_missing(server: Server, toolchain: Toolchain) -> str:
    """Why it cannot be run here; empty where it can."""
    if server.version.major < _OLDEST:
        return f"servers before PostgreSQL {_OLDEST} cannot check tables"
    if not (toolchain.folder / "pg_amcheck").exists():
        return f"there is no pg_amcheck in {toolchain.folder}"
    if server.missing_extensions(["amcheck"]):
        return "the server lacks the extension amcheck"
    return ""


def lend(server: Server, role: str, schema: str) -> list[str]:
    """Let a role use amcheck in the database of `server`; returns what undoes that.

    Where the database has none, it is made in a new schema of this name.
    Raises PostgresError where we may not.
    """
    is_there = server.ask("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'")
    if not is_there:
        server.run_all(
            [
                f"CREATE SCHEMA {quoted(schema)}",
                f"CREATE EXTENSION amcheck SCHEMA {quoted(schema)}",
                f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)}",
            ]
        )
    functions = [name for (name,) in server.rows(_FUNCTIONS)]
    whom = quoted(role)
    server.run_all(f"GRANT EXECUTE ON FUNCTION {name} TO {whom}" for name in functions)
    if is_there:
        return [f"REVOKE EXECUTE ON FUNCTION {name} FROM {whom}" for name in functions]
    return ["DROP EXTENSION amcheck", f"DROP SCHEMA {quoted(schema)}"]


def check(
    toolchain: Toolchain,
    info: Conninfo,
    *,
    jobs: int,
    timeout: float,
    environment: Mapping[str, str],
    on_tick: Callable[[], None],
    on_start: command.Start = None,
) -> list[str]:
    """What pg_amcheck finds wrong with tables and indexes, in words; empty if nothing.

    Raises PostgresError where it could not look at all of them; what `on_tick`
    raises ends it and comes out.
    """
    printed = bytearray()
    # What the server or the database has set would else cut it short.
    patient = " ".join(
        filter(None, [info.parameters.get("options"), "-c statement_timeout=0 -c lock_timeout=0"])
    )
    try:
        outcome = command.run(
            [
                toolchain.folder / "pg_amcheck", "--heapallindexed", "--no-password",
                f"--jobs={jobs}", info.dsn(application_name=None, options=patient),
            ],
            environment=environment,
            timeout=timeout,
            secrets=info.secrets,
            watch=command.Watch(
                on_start,
                on_output=lambda chunk: printed.extend(chunk[: _KEPT - len(printed)]),
                on_tick=on_tick,
            ),
        )  # fmt: skip
    except TimeoutError:
        raise PostgresError(
            f"pg_amcheck took longer than {timeout:.0f} s and was ended",
            hint="Raise BACKSTOP_DUMP_TIMEOUT, or turn it off: BACKSTOP_DRILL_AMCHECK=off.",
        ) from None
    text = printed.decode("utf-8", "replace")
    told = _told(text, info.database) if outcome.status == _FOUND else ()
    found = [each for each in told if not re.search(_NO_FINDING, each)]
    if outcome.status != 0 and not found:
        words = " ".join((outcome.last_words or text or f"status {outcome.status}").split())
        raise PostgresError(
            "pg_amcheck could not check everything", detail=words[:_WORDS], hint=hint_for(words)
        )
    return found


def _told(text: str, database: str) -> Iterator[str]:
    """Each object with what is said of it; the lines that say it are indented.

    btree index "database.schema.name":
        ERROR:  item order invariant violated for index "name"
    """
    objects = re.split(r"\n(?! )", text.replace(f'"{database}.', '"').strip())
    for each in filter(None, objects):
        line = " ".join(each.replace("    ERROR:", "", 1).split())[:_WORDS]
        yield "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line)
