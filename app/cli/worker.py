"""flask worker: run queued backups."""

import logging
import signal
import threading

import click
from flask import current_app

from app.cli.groups import CatalogueCommand
from app.errors import AppError
from app.queue import queue
from app.services import backups, claims
from app.services.databases import database_in_use
from app.services.reconcile import reconcile

logger = logging.getLogger(__name__)

_LOOK_EVERY = 30.0  # seconds between two looks for what was lost


@click.command("worker", cls=CatalogueCommand)
def worker() -> None:
    """Run queued backups until SIGTERM or Ctrl-C; a running one is ended cleanly."""
    logging.getLogger("app").setLevel(logging.INFO)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with database_in_use():
        # An idle worker of huey looks less and less often, by default each ten
        # seconds: too seldom for somebody who has clicked.
        consumer = queue.create_consumer(workers=1, max_delay=0.4, periodic=False)
        consumer._set_signal_handlers = lambda: None  # noqa: SLF001 - ours tidy up
        consumer.start()
        logger.info("worker started")
        while not stopping.is_set():
            _look_after_lost_work()
            consumer.check_worker_health()
            stopping.wait(_LOOK_EVERY)
        logger.info("worker stops")
        claims.stop_runs()
        consumer.stop(graceful=True)


def _look_after_lost_work() -> None:
    """What was lost must be found again, and an error now must not end the worker."""
    with current_app.app_context():
        try:
            reconcile()
            backups.run_unclaimed()
        except AppError as error:
            logger.warning("reconcile failed error=%r hint=%r", error.message, error.hint)
