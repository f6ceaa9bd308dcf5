"""Messages: queued in the transaction of their cause, and sent until they are accepted.

So no crash loses a message. Worker and web process both send, because neither can
report its own death; a lease keeps them from sending the same message. A process that
dies between sending and recording leads to a second message: better twice than never.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from string import Template
from typing import Any, cast

from cuid2 import create_id
from sqlalchemy import ColumnElement, CursorResult, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from app import notifiers as carriers
from app.errors import AppError, InvalidInput
from app.extensions import db, writing
from app.models import Delivery, DeliveryStatus, Fact, Notifier
from app.models.types import moment_text
from app.sealing import unseal
from app.services.alerts.conditions.trouble import one_line

logger = logging.getLogger(__name__)

MAX_LIMIT = 200  # deliveries in one answer
MAX_BODY = 3_000  # characters; more than many services take
PATIENCE = 30  # seconds for one attempt

#: Minutes between attempts; a day after the first, the last one is made.
BACK_OFF = (1, 5, 15, 60, 180, 360, 720)

_LEASE = timedelta(seconds=PATIENCE + 60)
_KEPT = timedelta(days=30)
_LOOKED_AT = 500  # due messages in one turn


@dataclass(frozen=True)
class Message:
    """A message; no notifier gets two with the same `key`."""

    key: str
    fact: Fact
    level: str  # info, success, warning, failure
    title: str
    body: str
    server: str = ""
    database: str = ""


def queue(session: Session, messages: Sequence[Message], at: datetime) -> None:
    """Queue messages for the notifiers that want them, within the caller's transaction."""
    notifiers = session.scalars(select(Notifier).order_by(Notifier.name)).all() if messages else ()
    for message, notifier in product(messages, notifiers):
        if notifier.wants(message.fact):
            title, body = written(notifier, message, at)
            session.add(
                Delivery(
                    lane=notifier.id,
                    notifier_id=notifier.id,
                    key=message.key,
                    fact=message.fact.value,
                    level=message.level,
                    title=title,
                    body=body,
                    created_at=at,
                    next_attempt_at=at,
                )
            )


def written(notifier: Notifier, message: Message, at: datetime) -> tuple[str, str]:
    """Title and body, from this notifier's templates."""
    values = {
        "title": one_line(message.title),
        "text": message.body,
        "fact": message.fact.value,
        "level": message.level,
        "server": one_line(message.server),
        "database": one_line(message.database),
        "time": moment_text(at) or "",
    }
    title = Template(notifier.title or "Backstop: $title").safe_substitute(values)
    body = Template(notifier.body or "$text\n$time").safe_substitute(values)
    return one_line(title)[:255], "\n".join(map(one_line, body.split("\n")))[:MAX_BODY].strip()


def claim_due(at: datetime, limit: int) -> list[str]:
    """Claim messages that are due, at most one for each lane, and return their ids.

    So a notifier that hangs holds up one place only.
    """
    queued = Delivery.status == DeliveryStatus.QUEUED
    under_way = select(Delivery.lane).where(queued, Delivery.lease_until > at)
    due = (
        select(Delivery.lane, Delivery.id)
        .where(is_due(at), Delivery.lane.not_in(under_way))
        .order_by(Delivery.next_attempt_at, Delivery.created_at, Delivery.id)
        .limit(_LOOKED_AT)
    )
    first: dict[str, str] = {}
    for lane, delivery_id in db.session.execute(due):
        first.setdefault(lane, delivery_id)
    db.session.commit()
    return [delivery_id for delivery_id in list(first.values())[:limit] if _claim(delivery_id, at)]


def is_due(at: datetime) -> ColumnElement[bool]:
    """In a query: whether a message may be sent, as far as its lane is free."""
    return and_(
        Delivery.status == DeliveryStatus.QUEUED,
        Delivery.next_attempt_at <= at,
        or_(Delivery.lease_until.is_(None), Delivery.lease_until <= at),
    )


def attempt(delivery_id: str, at: datetime, *, seconds: int | None = None) -> None:
    """Send a claimed message, and record the result."""
    delivery = db.session.get(Delivery, delivery_id)
    if delivery is None:
        return  # its notifier was deleted
    notifier = db.session.get(Notifier, delivery.notifier_id) if delivery.notifier_id else None
    sealed = delivery.heartbeat or (notifier.url if notifier else "")
    seconds = seconds or PATIENCE
    is_heartbeat = delivery.heartbeat is not None
    title, body, level = delivery.title, delivery.body, delivery.level
    db.session.commit()  # no transaction stays open meanwhile
    try:
        if is_heartbeat:
            carriers.ping(unseal(sealed), title, body, seconds=seconds)
        else:
            carriers.send(unseal(sealed), title, body, level=level, seconds=seconds)
    except AppError as error:
        _record(delivery_id, at, error)
    else:
        _record(delivery_id, at, None)


def list_deliveries(*, limit: int = 50) -> list[tuple[Delivery, str]]:
    """The newest, each with the name of its notifier. Raises InvalidInput."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must lie between 1 and {MAX_LIMIT}")
    newest = (
        select(Delivery, Notifier.name)
        .outerjoin(Notifier, Notifier.id == Delivery.notifier_id)
        .order_by(Delivery.created_at.desc(), Delivery.id.desc())
        .limit(limit)
    )
    return [(delivery, name or "heartbeat") for delivery, name in db.session.execute(newest)]


def queue_claimed(
    session: Session, notifier: Notifier, at: datetime, *, fact: str, title: str, body: str
) -> str:
    """Queue a message that the caller sends at once, and that is not retried."""
    delivery = Delivery(
        id=create_id(),
        lane=notifier.id,
        notifier_id=notifier.id,
        fact=fact,
        level="info",
        title=title,
        body=body,
        created_at=at,
        next_attempt_at=at,
        attempts=len(BACK_OFF) + 1,
        lease_until=at + _LEASE,
    )
    delivery.key = f"{fact}:{delivery.id}"
    session.add(delivery)
    return delivery.id


def forget_old(at: datetime) -> None:
    """Remove messages that were sent or given up long ago."""
    old = delete(Delivery).where(
        Delivery.created_at < at - _KEPT, Delivery.status != DeliveryStatus.QUEUED
    )
    with writing() as session:
        session.execute(old)


def _claim(delivery_id: str, at: datetime) -> bool:
    mine = (
        update(Delivery)
        .where(Delivery.id == delivery_id, is_due(at))
        .values(lease_until=at + _LEASE, attempts=Delivery.attempts + 1)
    )
    with writing() as session:
        taken = cast("CursorResult[Any]", session.execute(mine)).rowcount
    return bool(taken)


def _record(delivery_id: str, at: datetime, error: AppError | None) -> None:
    with writing() as session:
        delivery = session.get(Delivery, delivery_id)
        if delivery is None:
            return
        delivery.lease_until = None
        if error is None:
            delivery.status, delivery.ended_at, delivery.last_error = DeliveryStatus.SENT, at, ""
        else:
            delivery.last_error = ". ".join(filter(None, (error.message, error.detail)))[:1000]
            if delivery.attempts > len(BACK_OFF):
                delivery.status, delivery.ended_at = DeliveryStatus.FAILED, at
            else:
                pause = BACK_OFF[delivery.attempts - 1]
                delivery.next_attempt_at = at + timedelta(minutes=pause)
        status, attempts, fact = delivery.status.value, delivery.attempts, delivery.fact
    log = logger.info if error is None else logger.warning
    told = error.message if error else ""
    log("delivery %s fact=%s attempts=%d error=%r", status, fact, attempts, told)
