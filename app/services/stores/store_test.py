"""Test a store step by step, whether it is saved or not."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.config import WEB_THREADS
from app.errors import AppError, Busy
from app.extensions import db
from app.models import Store
from app.services.audit.acting import acting, tell_steps
from app.services.stores.credentials import PATIENCE, opened
from app.services.stores.lookup import get_store
from app.services.stores.ownership import belongs_to, claim, find_owner
from app.services.stores.service import Changes, unsaved_store
from app.steps import Step, failed_step, is_passed, untried
from app.stores import Store as OpenStore
from app.stores import check_store
from app.stores.check import STEPS as OBJECT_STEPS

OPEN, OWNER = "open", "owner"
STEPS = (OPEN, *OBJECT_STEPS, OWNER)

_tests = threading.BoundedSemaphore(WEB_THREADS // 2)  # other requests have the other threads


@acting
def check_saved(name: str) -> tuple[Step, ...]:
    """All steps of the test of a store, which writes an object and removes it.

    Marks the store as ours where nobody has. Raises NotFound, Busy.
    """
    return _check(get_store(name), _owned)


@acting
def check_url(url: str, changes: Changes | None = None) -> tuple[Step, ...]:
    """The same for a store that is not saved, which is not marked. Raises InvalidInput, Busy."""
    return _check(unsaved_store(url, changes), _seen)


def _check(store: Store, owner_of: Callable[[OpenStore], Step]) -> tuple[Step, ...]:
    db.session.commit()
    with _one_of_few():
        steps = tuple(_steps(store, owner_of))
    tell_steps(store.name or store.address, steps)
    return steps


def _steps(store: Store, owner_of: Callable[[OpenStore], Step]) -> Iterator[Step]:
    try:
        there = opened(store, timeout=PATIENCE)
    except AppError as error:
        yield failed_step(OPEN, error)
        yield from untried(STEPS[1:])
        return
    yield Step(OPEN, True, store.address)
    steps = tuple(check_store(there))
    yield from steps
    if not is_passed(steps):
        yield from untried([OWNER])
        return
    try:
        yield owner_of(there)
    except AppError as error:
        yield failed_step(OWNER, error)


def _owned(store: OpenStore) -> Step:
    claim(store)
    return Step(OWNER, True, "it belongs to this panel")


def _seen(store: OpenStore) -> Step:
    owner = find_owner(store)
    if owner is not None and not owner.is_us:
        return failed_step(OWNER, belongs_to(owner))
    return Step(OWNER, True, "this panel" if owner else "nobody yet")


@contextmanager
def _one_of_few() -> Iterator[None]:
    if not _tests.acquire(blocking=False):
        raise Busy("too many tests at once", retry_after=30, hint="Wait for one of them to end.")
    try:
        yield
    finally:
        _tests.release()
