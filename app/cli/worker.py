"""flask worker: run queued backups."""

import logging
import signal
import threading

import click
from flask import current_app

from app.cli.groups import CatalogueCommand
from app.queue import queue
from app.services import backups, claims
from app.services.databases import database_in_use
from app.services.reconcile import reconcile, tolerating

logger = logging.getLogger(__name__)

_LOOK_EVERY = 30.0  # seconds between two looks for what was lost


@click.command("worker", cls=CatalogueCommand)
def worker() -> None:
    """Run queued backups until SIGTERM or Ctrl-C; a running one is ended cleanly."""
    logging.getLogger("app").setLevel(logging.INFO)
    stopping = threading.Event()
    with database_in_use():
        # An idle worker of huey looks less and less often, by default each ten
        # seconds: too seldom for somebody who has clicked.
        consumer = queue.create_consumer(workers=1, max_delay=0.4, periodic=False)
        consumer.start()
        # In place of huey's, which do not tell a running backup.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        logger.info("worker started")
        while not stopping.is_set():
            # A context of its own each time, so that nothing read is kept.
            with current_app.app_context(), tolerating():
                reconcile()
                backups.run_unclaimed()
            consumer.check_worker_health()
            stopping.wait(_LOOK_EVERY)
        logger.info("worker stops")
        claims.stop_runs()
        consumer.stop(graceful=True)
