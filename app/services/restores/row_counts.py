"""Count the rows and read the sequences of what was restored, by who has loaded it."""

import math
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from app.postgres.census import Census, counting, reading
from app.postgres.databases import Server

_BATCH = 100  # tables in one statement

# How each part is asked for, and where its answer stands.
_PARTS: dict[str, tuple[str, Callable[..., str], Callable[[list[Any]], Any]]] = {
    "tables": ("rows", counting, itemgetter(0)),
    "sequences": ("value", reading, list),
}


def count_own(server: Server, contents: Census) -> Census:
    """What the role finds that has loaded it and is signed in: planning can run user code too.

    Uncounted stays what is gone, and what belongs to extensions and was not lent to it.
    """
    server.rows("ANALYZE", patience=math.inf)  # whoever waits may end it
    readable = server.readable()
    with server.seeing_all_rows():
        return _counted(server, contents, readable.__contains__)


def count_all(server: Server, contents: Census) -> Census:
    """What a superuser finds on a server that nobody else has to do with."""
    server.rows("ANALYZE", patience=math.inf)
    return _counted(server, contents, lambda _: True)


def _counted(
    server: Server, contents: Census, is_wanted: Callable[[tuple[str, str]], bool]
) -> Census:
    counted: Census = {}
    for part, (word, statement, value) in _PARTS.items():
        named = contents.get(part, [])
        wanted = [
            (at, each["schema"], each["name"])
            for at, each in enumerate(named)
            if is_wanted((each["schema"], each["name"]))
        ]
        found = {key: value(values) for key, *values in _asked(server, statement, wanted)}
        counted[part] = [each | {word: found.get(at)} for at, each in enumerate(named)]
    return counted


def _asked(
    server: Server, statement: Callable[..., str], named: list[tuple[int, str, str]]
) -> Iterator[Any]:
    for at in range(0, len(named), _BATCH):
        yield from server.rows(statement(named[at : at + _BATCH]), patience=math.inf)
