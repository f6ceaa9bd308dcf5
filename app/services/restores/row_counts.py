"""Count rows and read sequences of a restored database, as the role that loaded it."""

import math
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from app.postgres.census import Census, counting, reading
from app.postgres.databases import Server

_BATCH = 100  # tables in one statement

# The key, the statement and the conversion of the answer, for each part of a census.
_PARTS: dict[str, tuple[str, Callable[..., str], Callable[[list[Any]], Any]]] = {
    "tables": ("rows", counting, itemgetter(0)),
    "sequences": ("value", reading, list),
}


def count_own(server: Server, contents: Census) -> Census:
    """What the signed-in role that loaded it finds; planning can run user code too.

    Tables that are gone, and tables of extensions that were not lent to it, have no count.
    """
    server.rows("ANALYZE", patience=math.inf)  # a cancel ends it
    readable = server.readable()
    with server.seeing_all_rows():
        return _counted(server, contents, readable.__contains__)


def count_all(server: Server, contents: Census) -> Census:
    """What a superuser finds on a throwaway server."""
    server.rows("ANALYZE", patience=math.inf)
    return _counted(server, contents, lambda _: True)


def _counted(
    server: Server, contents: Census, is_wanted: Callable[[tuple[str, str]], bool]
) -> Census:
    counted: Census = {}
    for part, (word, statement, value) in _PARTS.items():
        named = contents.get(part, [])
        wanted = [
            (at, item["schema"], item["name"])
            for at, item in enumerate(named)
            if is_wanted((item["schema"], item["name"]))
        ]
        answers = {key: value(values) for key, *values in _answers(server, statement, wanted)}
        counted[part] = [item | {word: answers.get(at)} for at, item in enumerate(named)]
    return counted


def _answers(
    server: Server, statement: Callable[..., str], named: list[tuple[int, str, str]]
) -> Iterator[Any]:
    for at in range(0, len(named), _BATCH):
        yield from server.rows(statement(named[at : at + _BATCH]), patience=math.inf)
