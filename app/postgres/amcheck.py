"""The server's own check of tables and indexes: pg_amcheck with the extension amcheck.

It runs as the role that loaded the database, never as a superuser: checking an index
on an expression runs user code.
"""

import re
from collections.abc import Iterator

from app.errors import PostgresError
from app.postgres.connection import hint_for, quoted
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server
from app.postgres.encodings import printable
from app.postgres.supervision import Supervision
from app.postgres.tools import Toolchain
from app.programs import command

_OLDEST = 14  # the first server that can check tables too
_FOUND = 2  # the exit status of pg_amcheck when it finds something
_KEPT = 64 * 1024  # bytes of its output
_WORDS = 500  # characters of one finding

# Errors that kept it from checking; they say nothing about the data.
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
    """Why it cannot run here; empty if it can."""
    if server.version.major < _OLDEST:
        return f"servers before PostgreSQL {_OLDEST} cannot check tables"
    if not (toolchain.folder / "pg_amcheck").exists():
        return f"there is no pg_amcheck in {toolchain.folder}"
    if server.missing_extensions(["amcheck"]):
        return "the server lacks the extension amcheck"
    return ""


def lend(server: Server, role: str, schema: str) -> list[str]:
    """Let a role use amcheck in the database of `server`; return the statements that undo that.

    A database without the extension gets it, in a new schema of this name.
    Raises PostgresError if our role may not.
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
    grantee = quoted(role)
    server.run_all(f"GRANT EXECUTE ON FUNCTION {name} TO {grantee}" for name in functions)
    if is_there:
        return [f"REVOKE EXECUTE ON FUNCTION {name} FROM {grantee}" for name in functions]
    return ["DROP EXTENSION amcheck", f"DROP SCHEMA {quoted(schema)}"]


def check(
    toolchain: Toolchain, info: Conninfo, supervision: Supervision, *, jobs: int
) -> list[str]:
    """What pg_amcheck finds wrong with tables and indexes, one line each.

    Raises PostgresError if it could not check all of them.
    """
    printed = bytearray()
    # A timeout set for the server or the database would cut it short.
    patient = " ".join(
        filter(None, [info.parameters.get("options"), "-c statement_timeout=0 -c lock_timeout=0"])
    )
    try:
        outcome = command.run(
            [
                toolchain.folder / "pg_amcheck", "--heapallindexed", "--no-password",
                f"--jobs={jobs}", info.dsn(application_name=None, options=patient),
            ],
            environment=supervision.environment,
            timeout=supervision.timeout,
            secrets=info.secrets,
            watch=command.Watch(
                supervision.on_start,
                on_output=lambda chunk: printed.extend(chunk[: _KEPT - len(printed)]),
                on_tick=supervision.on_tick,
            ),
        )  # fmt: skip
    except TimeoutError:
        raise PostgresError(
            f"pg_amcheck took longer than {supervision.timeout:.0f} s and was ended",
            hint="Raise BACKSTOP_DUMP_TIMEOUT, or turn it off: BACKSTOP_DRILL_AMCHECK=off.",
        ) from None
    return _findings(outcome, printed.decode("utf-8", "replace"), info.database)


def _findings(outcome: command.Outcome, text: str, database: str) -> list[str]:
    reported = _reported(text, database) if outcome.status == _FOUND else ()
    findings = [line for line in reported if not re.search(_NO_FINDING, line)]
    if outcome.status != 0 and not findings:
        words = " ".join((outcome.last_words or text or f"status {outcome.status}").split())
        raise PostgresError(
            "pg_amcheck could not check everything", detail=words[:_WORDS], hint=hint_for(words)
        )
    return findings


def _reported(text: str, database: str) -> Iterator[str]:
    """Each object with what pg_amcheck reports of it, on the indented lines that follow:

    btree index "database.schema.name":
        ERROR:  item order invariant violated for index "name"
    """
    objects = re.split(r"\n(?! )", text.replace(f'"{database}.', '"').strip())
    for report in filter(None, objects):
        yield printable(" ".join(report.replace("    ERROR:", "", 1).split())[:_WORDS])
