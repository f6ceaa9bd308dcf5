"""Read copies back and hash them: when somebody asks, and a share of them each day."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import func, select

from app.config import settings
from app.errors import AppError, Interrupted, InvalidInput, ObjectMissing, VerificationError
from app.extensions import db, writing
from app.models import Copy, Loss, Store
from app.models.types import now
from app.services.copies.marked import MarkedCopy, find_marked
from app.services.copies.transfer import read_back

logger = logging.getLogger(__name__)

_DAY = timedelta(days=1)
_AGAIN = 3600.0  # seconds until a store that could not be asked is asked again

_asked_in_vain: dict[str, float] = {}  # copies, and when their store could not be asked


def verify_copy(copy_id: str, on_block: Callable[[int], None] = lambda _: None) -> Copy:
    """Read a copy back and record what was found; a lost one is made again, if that is possible.

    `on_block` gets the size of each block that was read; what it raises comes out. Raises
    StorageError if the store cannot be asked: that says nothing about the copy.
    """
    try:
        _read(find_marked(copy_id), on_block)
    except ObjectMissing as error:
        loss, reason = Loss.MISSING, error.message
    except VerificationError as error:
        loss, reason = Loss.DAMAGED, error.message
    else:
        return _record(copy_id, None, "")
    return _record(copy_id, loss, reason)


def _read(copy: MarkedCopy, on_block: Callable[[int], None]) -> None:
    """Read it to its end, decrypted where our key fits. Raises as `read_back`."""
    if copy.is_readable:
        with suppress(InvalidInput):  # it was encrypted before the store had a drill key
            for chunk in copy.dump():
                on_block(len(chunk))
            return
    read_back(copy.target, copy.mark, copy.what, on_block)


def verify_what_is_due(on_block: Callable[[int], None] = lambda _: None) -> str | None:
    """Verify the copy that was not read for longest, within the budget of a day.

    Returns its filename; None if none is due, or the budget is spent.
    """
    copy_id = _due()
    if copy_id is None:
        return None
    try:
        return verify_copy(copy_id, on_block).filename
    except Interrupted:
        raise
    except AppError as error:
        logger.warning("copy not verified copy=%s error=%r", copy_id, error.message)
        _asked_in_vain[copy_id] = time.monotonic()
        return None


def _due() -> str | None:
    """The id of the copy to read next: one read less than a scrub's interval ago is not due."""
    at = now()
    read_today = select(func.coalesce(func.sum(Copy.size), 0)).where(Copy.verified_at > at - _DAY)
    due = (
        select(Copy.id)
        .join(Store)
        .where(
            Copy.good(),
            Store.is_paused.is_(False),
            func.coalesce(Copy.verified_at, Copy.finished_at)
            < at - timedelta(seconds=settings().scrub_every),
            read_today.scalar_subquery() < settings().verify_copies,
            Copy.id.not_in(_postponed()),
        )
        .order_by(func.coalesce(Copy.verified_at, Copy.finished_at))
        .limit(1)
    )
    copy_id = db.session.scalar(due)
    db.session.commit()
    return copy_id


def _record(copy_id: str, loss: Loss | None, reason: str) -> Copy:
    with writing() as session:
        copy = session.get_one(Copy, copy_id, with_for_update=True)
        copy.verified_at, copy.loss = now(), loss
        copy.error_message, copy.error_detail, copy.error_hint = reason, "", ""
        if loss is not None:
            copy.next_attempt_at = now()
        filename = copy.filename
    log = logger.info if loss is None else logger.error
    log("copy verified filename=%s loss=%s reason=%r", filename, loss and loss.value, reason)
    return db.session.get_one(Copy, copy_id)


def _postponed() -> list[str]:
    """Copies whose store could not be asked a while ago: others are read first."""
    for copy_id, at in list(_asked_in_vain.items()):
        if time.monotonic() > at + _AGAIN:
            del _asked_in_vain[copy_id]
    return list(_asked_in_vain)
