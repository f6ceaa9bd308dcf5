"""Heartbeats: an external monitor, such as Healthchecks, hears of each run of a schedule.

It notices what nothing here can notice: that this machine is gone. Heartbeats are
queued like all messages, so that an unreachable monitor does not affect any backup.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from urllib.parse import urlsplit

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.errors import InvalidInput
from app.models import Delivery, DeliveryStatus
from app.sealing import seal
from app.services.alerts.deliveries import BACK_OFF

MAX_URL = 2_000  # characters
MAX_TEXT = 10_000  # characters of a log's end


class Beat(Enum):
    """What a monitor hears, as the last part of the path of its URL."""

    START = "start"
    SUCCESS = ""
    FAIL = "fail"


def sealed_url(url: str) -> str:
    """The URL of a monitor, encrypted. Raises InvalidInput."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise InvalidInput(
            "not a valid URL of a heartbeat monitor",
            hint="For example: https://hc-ping.com/ followed by the id of a check.",
        )
    return seal(url)


@dataclass(frozen=True)
class Heartbeat:
    """What a monitor hears of one run of a schedule."""

    schedule_id: str
    sealed_url: str
    beat: Beat
    key: str  # tells it from all others of the schedule
    text: str = ""


def queue_heartbeat(session: Session, heartbeat: Heartbeat, at: datetime) -> None:
    """Queue a heartbeat, within the caller's transaction.

    Those of the schedule that still wait are out of date and go: only the last word
    counts. A start is tried once, because a late one would be wrong.
    """
    session.execute(
        delete(Delivery).where(
            Delivery.lane == heartbeat.schedule_id,
            Delivery.status == DeliveryStatus.QUEUED,
            Delivery.lease_until.is_(None),
        )
    )
    session.add(
        Delivery(
            lane=heartbeat.schedule_id,
            heartbeat=heartbeat.sealed_url,
            key=heartbeat.key,
            fact="heartbeat",
            level="info",
            title=heartbeat.beat.value,
            body=heartbeat.text[-MAX_TEXT:],
            attempts=len(BACK_OFF) if heartbeat.beat is Beat.START else 0,
            created_at=at,
            next_attempt_at=at,
        )
    )
