"""Why an entry of an archive could not be loaded: by the server's own code for it.

pg_restore tells the server's words alone. Asked again for the same entry, by the same
role and in a transaction that is rolled back, the server gives the code too.
"""

import re
from collections.abc import Callable

import psycopg2

from app.errors import AppError, NotPossible, PostgresError, RestoreError
from app.postgres.archive import Entry
from app.postgres.connection import Session, hint_for, open_session
from app.postgres.conninfo import Conninfo

_PATIENCE = 60.0  # seconds
# As pg_restore sets them.
_AS_IT_DOES = """
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
# What depends on how the server was built, and on what is installed beside it.
_OF_THE_SERVER = (
    "ACCESS METHOD", "COLLATION", "CONVERSION", "EXTENSION", "FOREIGN DATA WRAPPER",
    "PROCEDURAL LANGUAGE", "SERVER", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE", "TRANSFORM", "USER MAPPING",
)  # fmt: skip
# Rows cannot be tried again: here the words must do.
_MAY_NOT_WORDS = r"must be (superuser|owner of|able to SET ROLE|member of)|permission denied "
_GAVE_WAY_WORDS = r"No space left|connection|terminat|shutting down|out of (shared )?memory"
_HIDDEN_ROWS = "affected by row-level security"


def judge(words: str, entry: Entry | None, code: Callable[[Entry], str]) -> AppError:
    """The error for an entry that was not loaded, with these words; `code` asks the server."""
    if _HIDDEN_ROWS in words:
        return NotPossible(
            "row-level security hides rows from the role that restores",
            detail=words,
            hint="Give the role of BACKSTOP_RESTORE_URL BYPASSRLS, or let a superuser restore.",
        )
    if re.search(_GAVE_WAY_WORDS, words):
        return PostgresError("pg_restore failed", detail=words, hint=hint_for(words))
    found = code(entry) if entry is not None and entry.definition else ""
    if found == _MAY_NOT or (not found and re.search(_MAY_NOT_WORDS, words)):
        return NotPossible(
            "the role that restores may not create what the dump holds",
            detail=words,
            hint="It has no rights, for safety. If you trust whoever could write into the"
            " database, let a superuser load it: --as-superuser; or restore it by hand.",
        )
    if found == _UNDEFINED and re.search(_LACKS_ROLE, words):
        return NotPossible(
            "this server lacks a role that the dump names",
            detail=words,
            hint="Create it: flask backup roles tells how. A policy can name one.",
        )
    if found in _NOT_HERE or (entry is not None and entry.kind in _OF_THE_SERVER):
        return NotPossible(
            "this server cannot create what the dump holds",
            detail=words,
            hint="Restore on a server that can, or name one for drills by BACKSTOP_DRILL_URL.",
        )
    kind = PostgresError if found[:2] in GAVE_WAY else RestoreError
    return kind("pg_restore failed", detail=words, hint=hint_for(words))


def code_of(info: Conninfo, application_name: str, entry: Entry) -> str:
    """The SQLSTATE with which the server refuses an entry; empty where it takes it now."""
    with open_session(info, application_name=application_name) as session:
        try:
            session.rows(_AS_IT_DOES)
            _try(session, entry)
        except psycopg2.Error as error:
            return error.pgcode or ""
    return ""


def _try(session: Session, entry: Entry) -> None:
    """Whatever it does is not committed: the session ends with its transaction open."""
    session.rows(entry.definition, patience=_PATIENCE)
