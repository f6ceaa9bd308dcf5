"""Run an admin's statements in a restored database, as the role without rights that loaded it."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import psycopg2
from psycopg2.errorcodes import QUERY_CANCELED, SYNTAX_ERROR, lookup

from app.errors import PostgresError
from app.postgres.connection import OnWait, Session, open_session, server_error
from app.postgres.conninfo import Conninfo, undisturbed
from app.postgres.encodings import printable

_WORDS = 500  # characters of an error that are kept
_GRACE = 2.0  # seconds for the server to end a statement itself

# Classes of errors whose messages have names and what people wrote, but no values of rows.
_HARMLESS = ("42", "P0")

# Within the first ones a semicolon ends nothing; what is not closed lasts to the end.
_TOKENS = re.compile(
    r"""
    --[^\n]* | /\*.*?(?:\*/|\Z)
    | (?<!\w)[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z) | "(?:[^"]|"")*(?:"|\Z)
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)

# Rows that a policy hides are an error rather than left as they are.
_PREPARE = """
    SELECT pg_catalog.set_config('row_security', 'off', true),
           pg_catalog.set_config('statement_timeout', %s, true),
           pg_catalog.set_config('backstop.statement', %s, true)
"""
# EXECUTE refuses transaction control and COPY from and to a client, and returns no rows. What
# cannot run in a function, such as DROP DATABASE and ALTER SYSTEM, is refused too.
_RUN = "DO $$ BEGIN EXECUTE pg_catalog.current_setting('backstop.statement'); END $$"


@dataclass(frozen=True)
class Statement:
    """One statement of a script, and the line that it begins on."""

    number: int
    line: int
    text: str

    @property
    def place(self) -> str:
        return f"statement {self.number}, line {self.line}"


def statements_of(script: str) -> list[Statement]:
    """The statements of a script, without empty ones."""
    return [
        Statement(number, line, text) for number, (line, text) in enumerate(_split(script), start=1)
    ]


def _split(script: str) -> Iterator[tuple[int, str]]:
    ends = [match.start() for match in _TOKENS.finditer(script) if match["end"]]
    begin = 0
    for end in (*ends, len(script)):
        text = script[begin:end]
        if _COMMENTS.sub("", text).strip():
            leading = begin + len(text) - len(text.lstrip())
            yield script.count("\n", 0, leading) + 1, text.strip()
        begin = end + 1


def run_script(
    info: Conninfo,
    script: str,
    *,
    major: int,
    timeout: float,
    application_name: str,
    on_wait: OnWait,
) -> int:
    """Run the statements of a script in one transaction; return how many there were.

    They may take `timeout` seconds together. `info` must be for a role without rights,
    because code of the dump runs too; `major` is the version of the server. Raises
    ConnectError, PostgresError with the place of the statement, but no values of rows, and
    what `on_wait` raises. A session that still runs then must be ended by the caller.
    """
    utf8 = replace(info, parameters={**info.parameters, "client_encoding": "UTF8"})
    own = undisturbed(utf8, major)
    deadline = time.monotonic() + timeout
    statements = statements_of(script)
    with open_session(own, application_name=application_name, on_wait=on_wait) as session:
        session.rows("BEGIN")
        for statement in statements:
            with _blaming(statement.place, info, timeout):
                _run(session, statement, deadline)
        with _blaming("the end, where deferred constraints are checked", info, timeout):
            session.rows("COMMIT", patience=deadline - time.monotonic() + _GRACE)
    return len(statements)


def _run(session: Session, statement: Statement, deadline: float) -> None:
    left = deadline - time.monotonic()
    session.rows(_PREPARE, str(max(round(left * 1000), 1)), statement.text)
    session.rows(_RUN, patience=left + _GRACE)


@contextmanager
def _blaming(place: str, info: Conninfo, timeout: float) -> Iterator[None]:
    """Turn an error of the server into one that names the place in the script."""
    try:
        yield
    except psycopg2.Error as error:
        gave_up = error.pgcode is None and "no answer within" in str(error)
        if gave_up or error.pgcode == QUERY_CANCELED:
            raise PostgresError(
                f"the SQL after the restore took longer than {timeout:g} s, at {place}",
                hint="Raise BACKSTOP_SQL_TIMEOUT if it needs longer.",
            ) from None
        if error.pgcode is None:
            message = f"the server ended the session of the SQL after the restore, at {place}"
            raise server_error(PostgresError, message, error, info) from None
        raise PostgresError(
            f"the SQL after the restore failed at {place}",
            detail=_in_words(error),
            hint="It runs as a role without rights that owns what was loaded, in one transaction.",
        ) from None


def _in_words(error: psycopg2.Error) -> str:
    """The error without its message, unless that quotes neither rows nor the script."""
    code = words = error.pgcode or ""
    with suppress(KeyError):  # code in the dump can choose another
        words = f"{lookup(code).replace('_', ' ').lower()} ({code})"
    diagnosis = error.diag
    if code.startswith(_HARMLESS) and code != SYNTAX_ERROR:
        text = " ".join((diagnosis.message_primary or "").split())[:_WORDS]
        return f"{words}: {printable(text)}."
    known = {
        "table": diagnosis.table_name,
        "column": diagnosis.column_name,
        "constraint": diagnosis.constraint_name,
    }
    names = [f"{word} {printable(name)}" for word, name in known.items() if name]
    return f"{', '.join([words, *names])}."
