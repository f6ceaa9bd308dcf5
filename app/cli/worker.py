"""flask worker: run queued backups."""

import itertools
import logging
import signal
import threading

import click
from flask import Flask, current_app

from app.cli.groups import CatalogueCommand, unwind_on_signals
from app.cli.lookout import Lookout
from app.config import settings
from app.models.worker import HEARTBEAT
from app.queue import queue
from app.services import backups, claims, restores, schedules, scheduling, scrubs, workers
from app.services.databases import database_in_use
from app.services.reconcile import reconcile, tolerating

logger = logging.getLogger(__name__)

_SCRUB_EVERY = 30.0  # seconds between two looks for a scrub that is due
_FORGET_EVERY = 360  # heartbeats between two looks for what is no longer worth keeping
_LOOK_EVERY = 3  # heartbeats between two looks for what was lost


@click.command("worker", cls=CatalogueCommand)
def worker() -> None:
    """Run queued backups until SIGTERM or Ctrl-C.

    What becomes of a running one is told by BACKSTOP_WORKER_STOP: it is ended
    cleanly (interrupt), or waited for until a second signal comes (wait).
    """
    logging.getLogger("app").setLevel(logging.INFO)
    stopping = threading.Event()
    unwind_on_signals()  # until we can tell a running backup: the server is let go
    with database_in_use():
        # An idle worker of huey looks less and less often, by default each ten
        # seconds: too seldom for somebody who has clicked.
        consumer = queue.create_consumer(workers=1, max_delay=0.4, periodic=False)
        consumer.start()

        def stop(*_: object) -> None:
            if stopping.is_set() or settings().worker_stop == "interrupt":
                claims.stop_runs()
            claims.leave_after_this_run()
            stopping.set()

        # In place of huey's, which do not tell a running backup.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
        threading.Thread(target=_scrub, args=(app, stopping), daemon=True).start()
        with current_app.app_context(), tolerating():
            schedules.make_first_schedules()
        lookout = Lookout(app)
        lookout.start()
        logger.info("worker started")
        for turn in itertools.count():
            # A context of its own each time, so that nothing read is kept.
            with current_app.app_context(), tolerating():
                workers.beat()
                if turn % _LOOK_EVERY == 0:
                    reconcile()
                    backups.run_unclaimed()
                    restores.run_unclaimed()
                scheduling.turn()
                if turn % _FORGET_EVERY == 0:
                    scheduling.forget()
            consumer.check_worker_health()
            if stopping.wait(HEARTBEAT.total_seconds()):
                break
        logger.info("worker stops")
        lookout.stop()
        consumer.stop_flag.set()
        for _, thread in consumer.worker_threads:
            while thread.is_alive():
                thread.join(HEARTBEAT.total_seconds())
                with current_app.app_context(), tolerating():
                    workers.beat()
        consumer.stop(graceful=True)
        with current_app.app_context(), tolerating():
            workers.sign_off()


def _scrub(app: Flask, stopping: threading.Event) -> None:
    """Read old dumps again when a scrub is due, beside whatever else is done."""
    while not stopping.wait(_SCRUB_EVERY):
        with app.app_context(), tolerating():
            scrubs.scrub_due()
