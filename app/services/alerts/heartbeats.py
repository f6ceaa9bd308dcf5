"""Heartbeats: a monitor elsewhere (Healthchecks and its kin) is told of each run of a schedule.

It notices what nobody here can: that this machine is gone. What is told goes
the way of all messages, so that a monitor that is away touches no backup.
"""

from datetime import datetime
from enum import Enum
from urllib.parse import urlsplit

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.errors import InvalidInput
from app.models import Delivery, DeliveryStatus
from app.services.access.sealing import seal
from app.services.alerts.deliveries import BACK_OFF

MAX_URL = 2_000  # characters
MAX_TEXT = 10_000  # characters of a log's end


class Beat(Enum):
    """What a monitor is told: by what is put behind the path of its address."""

    START = "start"
    SUCCESS = ""
    FAIL = "fail"


def sealed_url(url: str) -> str:
    """The address of a monitor as it may be kept. Raises InvalidInput."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise InvalidInput(
            "this is no address of a heartbeat monitor",
            hint="For example: https://hc-ping.com/ and the id of a check.",
        )
    return seal(url)


def queue_beat(
    session: Session, lane: str, sealed: str, beat: Beat, *, key: str, at: datetime, text: str = ""
) -> None:
    """Write down what a monitor is to be told, within the caller's transaction.

    `lane` is the schedule's id, `key` tells this beat from all others of the
    lane. What waits of the lane is out of date by now and goes: a monitor takes
    the last word. A start is tried once, since a late one would be a lie.
    """
    session.execute(
        delete(Delivery).where(
            Delivery.lane == lane,
            Delivery.status == DeliveryStatus.QUEUED,
            Delivery.lease_until.is_(None),
        )
    )
    session.add(
        Delivery(
            lane=lane,
            heartbeat=sealed,
            key=key,
            fact="heartbeat",
            level="info",
            title=beat.value,
            body=text[-MAX_TEXT:],
            attempts=len(BACK_OFF) if beat is Beat.START else 0,
            created_at=at,
            next_attempt_at=at,
        )
    )
