"""Test a store step by step, whether it is saved or not."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.config import WEB_THREADS
from app.errors import AppError, Busy
from app.extensions import db
from app.models import ActOutcome, Store
from app.services.audit.acting import acting, tell
from app.services.stores.credentials import PATIENCE, opened
from app.services.stores.lookup import get_store
from app.services.stores.ownership import belongs_to, claim, find_owner
from app.services.stores.service import Changes, unsaved_store
from app.stores import Step, check_store
from app.stores import Store as OpenStore
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


def is_passed(steps: tuple[Step, ...]) -> bool:
    """Whether no step has failed."""
    return all(step.passed is not False for step in steps)


def _check(store: Store, owner_of: Callable[[OpenStore], Step]) -> tuple[Step, ...]:
    db.session.commit()
    with _one_of_few():
        steps = tuple(_steps(store, owner_of))
    failed = [step.name for step in steps if step.passed is False]
    tell(
        subject=store.name or store.address,
        outcome=ActOutcome.FAILED if failed else ActOutcome.DONE,
        detail=f"failed: {', '.join(failed)}" if failed else "",
    )
    return steps


def _steps(store: Store, owner_of: Callable[[OpenStore], Step]) -> Iterator[Step]:
    try:
        there = opened(store, timeout=PATIENCE)
    except AppError as error:
        yield _failure(OPEN, error)
        yield from (Step(name, None, "not tried") for name in STEPS[1:])
        return
    yield Step(OPEN, True, store.address)
    steps = tuple(check_store(there))
    yield from steps
    if not is_passed(steps):
        yield Step(OWNER, None, "not tried")
        return
    try:
        yield owner_of(there)
    except AppError as error:
        yield _failure(OWNER, error)


def _owned(store: OpenStore) -> Step:
    claim(store)
    return Step(OWNER, True, "it belongs to this panel")


def _seen(store: OpenStore) -> Step:
    owner = find_owner(store)
    if owner is not None and not owner.is_us:
        return _failure(OWNER, belongs_to(owner))
    return Step(OWNER, True, "this panel" if owner else "nobody yet")


def _failure(name: str, error: AppError) -> Step:
    detail = f"{error.message}: {error.detail}" if error.detail else error.message
    return Step(name, False, detail, error.hint)


@contextmanager
def _one_of_few() -> Iterator[None]:
    if not _tests.acquire(blocking=False):
        raise Busy("too many tests at once", retry_after=30, hint="Wait for one of them to end.")
    try:
        yield
    finally:
        _tests.release()
