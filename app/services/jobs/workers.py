"""Which workers live: each says so in the catalogue, again and again."""

from datetime import datetime, timedelta

from sqlalchemy import delete, select

from app.extensions import db, writing
from app.models import Worker
from app.models.types import now
from app.models.worker import HEARTBEAT
from app.services.jobs import claims

_FORGOTTEN = timedelta(days=1)  # after which a worker that was killed is no longer told


def beat() -> None:
    """Say that the worker in this process lives."""
    with writing() as session:
        worker = session.get(Worker, claims.runner())
        if worker is None:
            session.add(Worker(id=claims.runner()))
        else:
            worker.seen_at = now()
        session.execute(delete(Worker).where(Worker.seen_at < now() - _FORGOTTEN))


def sign_off() -> None:
    """Say that the worker in this process has ended as it should."""
    with writing() as session:
        session.execute(delete(Worker).where(Worker.id == claims.runner()))


def list_workers() -> list[Worker]:
    """All that are not known to be gone, those heard of last first."""
    found = _list()
    db.session.commit()
    return found


def find_trouble() -> str:
    """Why nobody runs what is asked for, in a sentence without its stop; empty if somebody does."""
    workers = _list()  # the transaction of who asks goes on
    if not workers:
        return "No worker runs"
    return "The worker is silent" if all(map(is_silent, workers)) else ""


def is_silent(worker: Worker, at: datetime | None = None) -> bool:
    """Whether it has missed two heartbeats."""
    return worker.seen_at < (at or now()) - 2 * HEARTBEAT


def _list() -> list[Worker]:
    found = db.session.scalars(select(Worker).order_by(Worker.seen_at.desc()))
    return [each for each in found if not claims.is_gone(each.id)]
