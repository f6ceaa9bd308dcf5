"""The figures for Prometheus, read from the catalogue at each request."""

import logging
import tomllib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import product

from flask import Flask
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from werkzeug import Request, Response

from app.config import ROOT
from app.errors import AppError
from app.models import Database, Status, Trigger
from app.queue import FAILURES, count_waiting
from app.services.databases.configured import storage
from app.services.health.figures import Newest, OfDatabase, OfStore, read_figures

logger = logging.getLogger(__name__)

_FAILURES: tuple[type[Exception], ...] = (AppError, SQLAlchemyError, *FAILURES)


def exposition(accept: str = "") -> tuple[bytes, str]:
    """All current figures in the requested format, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Figures())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def listener(app: Flask) -> Callable[..., Iterable[bytes]]:
    """A WSGI application that serves the figures, and nothing else, to every client."""

    @Request.application
    def answer(request: Request) -> Response:
        if request.path != "/metrics":
            return Response("not found\n", 404)
        if request.method not in ("GET", "HEAD"):
            return Response("not allowed\n", 405, {"Allow": "GET, HEAD"})
        with app.app_context():
            body, content_type = exposition(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    return answer


class _Figures(Collector):
    """Reads each part anew; one that fails does not affect the others."""

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("backstop_build", "What runs.", {"version": _version()})
        answers = _gauge("up", "Whether this part could be asked for its figures.", ("part",))
        for part, read in _PARTS.items():
            try:
                families = list(read())
            except _FAILURES as error:
                logger.warning("figures not read part=%s error=%r", part, type(error).__name__)
                families = []
            answers.add_metric([part], bool(families))
            yield from families
        yield answers


def _of_catalogue() -> Iterator[Metric]:
    figures = read_figures()
    databases = figures.databases
    newest = [(name, of.newest) for name, of in databases if of.newest is not None]
    for word, about, read in _OF_NEWEST:
        yield _each(word, about, ((name, read(each)) for name, each in newest))
    for word, about, tell in _OF_DATABASE:
        yield _each(word, about, ((name, tell(each)) for name, each in databases))
    for word, about, count in _OF_STORE:
        family = _gauge(f"store_{word}", about, ("store",))
        for name, store in figures.stores.items():
            if (value := count(store)) is not None:
                family.add_metric([name], value)
        yield family
    backups = _gauge("backups", "Backups in the catalogue.", ("status", "trigger"))
    for kind in product(Status, Trigger):
        backups.add_metric([word.value for word in kind], figures.backups.get(kind, 0))
    yield backups
    yield _gauge("stored_bytes", "Size of all dumps together.", value=figures.stored)
    workers = _gauge("workers", "Workers: two heartbeats missed are silence.", ("state",))
    workers.add_metric(["living"], figures.living)
    workers.add_metric(["silent"], figures.silent)
    yield workers
    if figures.heartbeat is not None:
        about = "The newest heartbeat of any worker."
        seconds = figures.heartbeat.timestamp()
        yield _gauge("worker_heartbeat_timestamp_seconds", about, value=seconds)


def _of_queue() -> Iterator[Metric]:
    yield _gauge("queue_length", "Tasks that wait for a worker.", value=count_waiting())


def _of_storage() -> Iterator[Metric]:
    free = storage().free_space()
    yield _gauge("storage_free_bytes", "Room that is left for dumps.", value=free)


_PARTS = {"catalogue": _of_catalogue, "queue": _of_queue, "storage": _of_storage}

_OF_NEWEST: list[tuple[str, str, Callable[[Newest], float | None]]] = [
    (
        "last_success_timestamp_seconds",
        "When the newest completed backup had ended.",
        lambda newest: newest.finished_at.timestamp(),
    ),
    (
        "last_backup_size_bytes",
        "Size of the newest completed backup.",
        lambda newest: newest.size,
    ),
    (
        "last_backup_duration_seconds",
        "How long the newest completed backup took.",
        lambda newest: newest.duration.total_seconds(),
    ),
    (
        "last_backup_present",
        "Whether the dump of the newest completed backup is where it should be.",
        lambda newest: newest.is_there,
    ),
    (
        "newest_proof_level",
        "How far the newest completed backup is proven, 1 to 4; 0 if its proof failed.",
        lambda newest: newest.proof_level,
    ),
    (
        "newest_proof_timestamp_seconds",
        "When that was shown.",
        lambda newest: _seconds(newest.proved_at),
    ),
]

_OF_DATABASE: list[tuple[str, str, Callable[[OfDatabase], float | None]]] = [
    (
        "last_good_timestamp_seconds",
        "When the newest good backup had ended; 0 where completed ones are there and none is good.",
        lambda of: _seconds(of.last_good) or (None if of.newest is None else 0),
    ),
    (
        "last_failure_timestamp_seconds",
        "When the newest failed backup was asked for.",
        lambda of: _seconds(of.last_failure),
    ),
    (
        "newest_drill_timestamp_seconds",
        "When a backup of this database last was restored, and was right.",
        lambda of: _seconds(of.last_drill),
    ),
]

_OF_STORE: list[tuple[str, str, Callable[[OfStore], float | None]]] = [
    ("copies", "Good copies in the store.", lambda store: store.copies),
    ("bytes", "Size of the good copies in the store.", lambda store: store.size),
    (
        "newest_copy_timestamp_seconds",
        "When the newest backup that has a good copy in the store was made.",
        lambda store: _seconds(store.newest),
    ),
    ("lost_copies", "Copies found missing or damaged in the store.", lambda store: store.lost),
    ("pending_copies", "Copies that wait, or are being made.", lambda store: store.pending),
    (
        "last_export_timestamp_seconds",
        "When the panel's own catalogue was last exported to the store, if that takes it.",
        lambda store: _seconds(store.exported),
    ),
]


def _each(
    name: str, about: str, values: Iterable[tuple[Database, float | None]]
) -> GaugeMetricFamily:
    """One figure of all databases that have it."""
    family = _gauge(name, about, ("name", "server", "database"))
    for database, value in values:
        if value is not None:
            family.add_metric([database.name, database.server, database.dbname], value)
    return family


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _gauge(
    name: str, about: str, labels: tuple[str, ...] = (), *, value: float | None = None
) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"backstop_{name}", about, value=value, labels=labels or None)


@lru_cache
def _version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])
