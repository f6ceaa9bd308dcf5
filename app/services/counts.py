"""Count the rows and read the sequences of what was restored, each by who may see it."""

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


def count_own(server: Server, role: str, contents: Census) -> Census:
    """What `role` finds, who has loaded it: planning can run user code too.

    What belongs to others' extensions it may not see; that stays uncounted.
    """
    server.rows("ANALYZE")
    others = server.parts_of_extensions(role)
    with server.seeing_all_rows():
        return _counted(server, contents, lambda name: name not in others)


def count_all(server: Server, contents: Census) -> Census:
    """What a superuser finds on a server that nobody else has to do with."""
    server.rows("ANALYZE")
    return _counted(server, contents, lambda _: True)


def count_rest(server: Server, role: str, contents: Census, found: Census) -> Census:
    """The same with what belongs to extensions, by who may see it.

    In these nobody without rights can have hidden anything.
    """
    left = {
        (each["schema"], each["name"])
        for part, (word, *_) in _PARTS.items()
        for each in found[part]
        if each[word] is None
    }
    names = server.parts_of_extensions(role) & left
    more = _counted(server, contents, names.__contains__)
    return {
        part: [
            each if each[word] is not None else other
            for each, other in zip(found[part], more[part], strict=True)
        ]
        for part, (word, *_) in _PARTS.items()
    }


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
        yield from server.rows(statement(named[at : at + _BATCH]))
