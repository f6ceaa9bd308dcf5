"""Test a store step by step with a small object, and tell what its service lacks."""

import secrets
from collections.abc import Generator, Iterator
from contextlib import closing, suppress

from app.errors import ObjectExists, ObjectLocked, StorageError
from app.steps import Step, failed_step, untried
from app.stores.store import Protections, Store

WRITE, READ, LIST, CONDITION, REMOVE = "write", "read back", "list", "refuse a second", "remove"
VERSIONING, LOCK, UNFINISHED = "versioning", "object lock", "unfinished uploads"
STEPS = (WRITE, READ, LIST, CONDITION, REMOVE, VERSIONING, LOCK, UNFINISHED)

_PREFIX = "backstop-test-"


def check_store(store: Store) -> Iterator[Step]:
    """All steps in their order; after one that fails, the others are not tried.

    Writes an object of a random name and removes it. Raises no AppError.
    """
    tried = 0
    with closing(_steps(store)) as steps:
        for step in steps:
            tried += 1
            yield step
            if step.passed is False:
                break
    yield from untried(STEPS[tried:])


def _steps(store: Store) -> Generator[Step, None, None]:
    key = f"{_PREFIX}{secrets.token_hex(8)}"
    tests = (_write, _read, _list, _refuse, _remove)
    content = secrets.token_bytes(1024)
    for name, test in zip(STEPS, tests, strict=False):
        try:
            step = test(store, key, content)
        except StorageError as error:
            step = failed_step(name, error)
        if step.passed is False:
            with suppress(StorageError):
                store.delete(key)
        yield step
    try:
        protections = store.protections()
    except StorageError as error:
        yield failed_step(VERSIONING, error)
        return
    yield from _warnings(protections)


def _write(store: Store, key: str, content: bytes) -> Step:
    store.put(key, [content])
    return Step(WRITE, True, f"{key} was written")


def _read(store: Store, key: str, content: bytes) -> Step:
    if b"".join(store.read(key)) == content and store.size(key) == len(content):
        return Step(READ, True, "the same bytes came back")
    return Step(READ, False, "other bytes came back", "Something changes data on its way.")


def _list(store: Store, key: str, content: bytes) -> Step:
    if [found.size for found in store.list(key)] == [len(content)]:
        return Step(LIST, True, "it is listed")
    return Step(LIST, False, "it is not listed", "The credentials must allow to list objects.")


def _refuse(store: Store, key: str, content: bytes) -> Step:
    try:
        store.put_new(key, content)
    except ObjectExists:
        return Step(CONDITION, True, "a second object of the same key is refused")
    return Step(
        CONDITION,
        False,
        "a second object replaced the first, which was to be refused",
        "The service ignores conditional writes; a copy cannot be made for sure there.",
    )


def _remove(store: Store, key: str, _content: bytes) -> Step:
    try:
        store.delete(key)
    except ObjectLocked as error:
        return Step(REMOVE, None, error.message, "New objects are locked: good. It stays.")
    if store.size(key) is None:
        return Step(REMOVE, True, "it is gone")
    return Step(REMOVE, False, "it is still there", "The credentials must allow to remove objects.")


def _warnings(protections: Protections) -> Iterator[Step]:
    yield _warning(
        VERSIONING,
        protections.versioning,
        "Whoever has the credentials can destroy copies: turn versioning on.",
    )
    yield _warning(
        LOCK,
        protections.object_lock,
        "A bucket with object lock and a default retention keeps copies from everybody.",
    )
    yield _warning(
        UNFINISHED,
        protections.aborts_unfinished,
        "Add a lifecycle rule that aborts unfinished uploads: they cost, and no list shows them.",
    )


def _warning(name: str, is_on: bool | None, hint: str) -> Step:
    if is_on is None:
        return Step(name, None, "the service does not tell")
    return Step(name, True, "on") if is_on else Step(name, None, "off", hint)
