"""How two censuses differ, in words."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from app.postgres.census import Census

_Owned = tuple[str | None, list[str] | None]  # the owner, and the grants


def differences(expected: Census, actual: Census) -> list[str]:
    """The differences between two censuses in words, for the parts that both have."""
    return [
        difference
        for part, compare in _COMPARED.items()
        if part in expected and part in actual
        for difference in compare(expected[part], actual[part])
    ]


def _objects(expected: dict[str, int], actual: dict[str, int]) -> Iterator[str]:
    for what in sorted(expected.keys() | actual.keys()):
        if expected.get(what, 0) != actual.get(what, 0):
            yield f"{what}: {expected.get(what, 0)} expected, {actual.get(what, 0)} found"


def _named(
    what: str, key: str, expected: list[dict[str, Any]], actual: list[dict[str, Any]]
) -> Iterator[str]:
    """Of tables or sequences, by schema and name; None is unknown, and differs from nothing."""
    values = {(item["schema"], item["name"]): item.get(key) for item in actual}
    for item in expected:
        name = (item["schema"], item["name"])
        if name not in values:
            yield f"{'.'.join(name)} is missing"
        elif None not in (item.get(key), values[name]) and item[key] != values[name]:
            yield f"{what} {'.'.join(name)}: {item[key]} expected, {values[name]} found"


def _owned(expected: list[list[Any]], actual: list[list[Any]]) -> Iterator[str]:
    have = {(kind, identity): (owner, grants) for kind, identity, owner, grants in actual}
    want = {(kind, identity): (owner, grants) for kind, identity, owner, grants in expected}
    for key in sorted(want.keys() | have.keys()):
        kind, identity = key
        name = f"{kind} {identity}"
        if not identity:
            continue  # a large object
        if kind.endswith(" column"):  # the census has only those with grants
            yield from _changed(name, want.get(key, (None, None)), have.get(key, (None, None)))
        elif key not in have:
            yield f"{name} is missing"
        elif key not in want:
            yield f"{name} was not in the backup"
        else:
            yield from _changed(name, want[key], have[key])
    yield from _large_objects(expected, actual)


def _changed(name: str, expected: _Owned, actual: _Owned) -> Iterator[str]:
    if expected[0] != actual[0]:
        yield f"owner of {name}: {expected[0]} expected, {actual[0]} found"
    if expected[1] != actual[1]:
        yield f"grants on {name}: {_listed(expected[1])} expected, {_listed(actual[1])} found"


def _large_objects(expected: list[list[Any]], actual: list[list[Any]]) -> Iterator[str]:
    """Without names: all large objects of one owner with the same grants are one entry."""
    want, have = (
        {(owner, _listed(grants)) for _, identity, owner, grants in entries if not identity}
        for entries in (expected, actual)
    )
    for owner, grants in sorted(want - have):
        yield f"large objects of {owner}, granted {grants}: there are none"
    for owner, grants in sorted(have - want):
        yield f"large objects of {owner}, granted {grants}: none expected"


def _listed(grants: list[str] | None) -> str:
    return "the default" if grants is None else ", ".join(grants) or "none"


def _settings(expected: list[list[str]], actual: list[list[str]]) -> Iterator[str]:
    for one, other, fault in (
        (expected, actual, "is missing"),
        (actual, expected, "was not in the backup"),
    ):
        for role, setting in one:
            if [role, setting] not in other:
                name = setting.partition("=")[0]
                yield f"setting {name} of {role or 'the database'} {fault}"


_COMPARED: dict[str, Any] = {
    "objects": _objects,
    "tables": partial(_named, "rows of", "rows"),
    "sequences": partial(_named, "value of", "value"),
    "owned": _owned,
    "settings": _settings,
}
