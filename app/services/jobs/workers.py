"""The live workers, by their heartbeats in the catalogue."""

from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from app.extensions import db, update_alone, writing
from app.models import Worker
from app.models.types import now
from app.models.worker import HEARTBEAT
from app.services.jobs import claims

_FORGOTTEN = timedelta(days=1)  # until a killed worker is removed


def beat() -> None:
    """Record a heartbeat of the worker in this process."""
    mine = update(Worker).where(Worker.id == claims.runner()).values(seen_at=now())
    if not update_alone(mine):
        with writing() as session:
            session.add(Worker(id=claims.runner()))


def forget_old() -> None:
    """Remove the rows of workers that were killed long ago."""
    with writing() as session:
        session.execute(delete(Worker).where(Worker.seen_at < now() - _FORGOTTEN))


def sign_off() -> None:
    """Record that the worker in this process has ended normally."""
    with writing() as session:
        session.execute(delete(Worker).where(Worker.id == claims.runner()))


def list_workers() -> list[Worker]:
    """All workers that are not known to be gone, those with the newest heartbeat first."""
    workers = _list()
    db.session.commit()
    return workers


def find_trouble() -> str:
    """Why no job is run, as a sentence without a full stop; empty if a worker is alive."""
    workers = _list()  # in the transaction of the caller
    if not workers:
        return "No worker runs"
    return "The worker is silent" if all(map(is_silent, workers)) else ""


def is_silent(worker: Worker, at: datetime | None = None) -> bool:
    """Whether a worker has missed two heartbeats."""
    return worker.seen_at < (at or now()) - 2 * HEARTBEAT


def _list() -> list[Worker]:
    workers = db.session.scalars(select(Worker).order_by(Worker.seen_at.desc()))
    return [worker for worker in workers if not claims.is_gone(worker.id)]
