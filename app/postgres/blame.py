"""Why an entry of an archive could not be loaded, by the server's own error code.

pg_restore prints the server's message only. The same role runs the entry again in a
transaction that is rolled back, and so gets the code too.
"""

import re
from collections.abc import Callable

import psycopg2

from app.errors import AppError, NotPossible, PostgresError, RestoreError
from app.postgres.archive import Entry
from app.postgres.connection import Session, hint_for, open_session
from app.postgres.conninfo import Conninfo

_PATIENCE = 60.0  # seconds
# The parameters as pg_restore sets them.
_AS_PG_RESTORE = """
    SET search_path = ''; SET check_function_bodies = off; SET row_security = off;
    SET xmloption = content; SET client_min_messages = warning;
    SET default_table_access_method = heap; BEGIN
"""
_MAY_NOT = "42501"
_UNDEFINED = "42704"
_LACKS_ROLE = r'role ".*" does not exist'
# feature not supported, undefined file, configuration file error
_NOT_HERE = ("0A000", "58P01", "F0000")
# connection, resources, intervention of an operator, system error
GAVE_WAY = ("08", "53", "57", "58")
# Kinds that depend on how the server was built and on what is installed beside it.
_DEPEND_ON_SERVER = (
    "ACCESS METHOD", "COLLATION", "CONVERSION", "EXTENSION", "FOREIGN DATA WRAPPER",
    "PROCEDURAL LANGUAGE", "SERVER", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE", "TRANSFORM", "USER MAPPING",
)  # fmt: skip
# Rows cannot be tried again, so only the message can tell.
_MAY_NOT_WORDS = r"must be (superuser|owner of|able to SET ROLE|member of)|permission denied "
_GAVE_WAY_WORDS = r"No space left|connection|terminat|shutting down|out of (shared )?memory"
_HIDDEN_ROWS = "affected by row-level security"


def judge(words: str, entry: Entry | None, code: Callable[[Entry], str]) -> AppError:
    """The error for an entry that was not loaded, from the message; `code` asks the server."""
    if _HIDDEN_ROWS in words:
        return NotPossible(
            "row-level security hides rows from the role that restores",
            detail=words,
            hint="Grant BYPASSRLS to the role of BACKSTOP_RESTORE_URL, or let a superuser restore.",
        )
    if re.search(_GAVE_WAY_WORDS, words):
        return PostgresError("pg_restore failed", detail=words, hint=hint_for(words))
    sqlstate = code(entry) if entry is not None and entry.definition else ""
    if sqlstate == _MAY_NOT or (not sqlstate and re.search(_MAY_NOT_WORDS, words)):
        return NotPossible(
            "the role that restores may not create everything in the dump",
            detail=words,
            hint="It has no rights, for safety. If you trust everyone who could write to the"
            " database, let a superuser load it: --as-superuser; or restore it by hand.",
        )
    if sqlstate == _UNDEFINED and re.search(_LACKS_ROLE, words):
        return NotPossible(
            "this server lacks a role that the dump names",
            detail=words,
            hint="Create it: flask backup roles shows how. A policy, for example, can name a role.",
        )
    if sqlstate in _NOT_HERE or (entry is not None and entry.kind in _DEPEND_ON_SERVER):
        return NotPossible(
            "this server cannot create everything in the dump",
            detail=words,
            hint="Restore on a server that can, or name one for drills by BACKSTOP_DRILL_URL.",
        )
    kind = PostgresError if sqlstate[:2] in GAVE_WAY else RestoreError
    return kind("pg_restore failed", detail=words, hint=hint_for(words))


def code_of(info: Conninfo, application_name: str, entry: Entry) -> str:
    """The SQLSTATE with which the server refuses an entry; empty if it accepts it now."""
    with open_session(info, application_name=application_name) as session:
        try:
            session.rows(_AS_PG_RESTORE)
            _try(session, entry)
        except psycopg2.Error as error:
            return error.pgcode or ""
    return ""


def _try(session: Session, entry: Entry) -> None:
    """Nothing is committed: the session ends with its transaction open."""
    session.rows(entry.definition, patience=_PATIENCE)
