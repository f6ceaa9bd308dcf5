"""flask worker: run queued backups, copies, drills and restores, and schedules."""

import logging
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
from flask import Flask, current_app

from app.cli.groups import CatalogueCommand, unwind_on_signals
from app.cli.lookout import Lookout
from app.config import settings
from app.errors import Interrupted
from app.host import yield_to_others
from app.logs import errors_logged
from app.models.worker import HEARTBEAT
from app.queue import copies_queue, proofs_queue, queue, restores_queue
from app.services.backups import service as backups
from app.services.copies.queue import copy_what_is_due
from app.services.copies.removal import finish_removals, forget_removed
from app.services.copies.tidy import tidy_stores
from app.services.copies.verify import verify_what_is_due
from app.services.databases.connections import sample_in_use
from app.services.databases.served import noting_database
from app.services.databases.unguarded import look_at_servers
from app.services.jobs import claims, workers
from app.services.recovery import is_work_pending, reconcile
from app.services.rescue.exports import export_what_is_due
from app.services.restores import service as restores
from app.services.retention.after_copies import prune_after_copies
from app.services.schedules import scrubs as scrub_firings
from app.services.schedules import service as schedules
from app.services.schedules import turn

logger = logging.getLogger(__name__)

_BEAT = HEARTBEAT.total_seconds()
_TEND_EVERY = 30.0  # seconds between two searches for lost jobs
_SCRUB_EVERY = 30.0  # seconds between two searches for a scrub that is due
_FORGET_EVERY = 3600.0  # seconds between two searches for old rows
_SERVERS_EVERY = 300.0  # seconds between two searches for a server to look at
_COPIES_EVERY = 30.0  # seconds between two searches for backups to copy
_VERIFY_EVERY = 300.0  # seconds between two searches for a copy to read back
_PRUNE_EVERY = 300.0  # seconds between two searches for a store to prune
_TIDY_EVERY = 6 * 3600.0  # seconds between two searches for what uploads have left
_EXPORT_EVERY = 300.0  # seconds between two searches for a store that lacks the catalogue
_LAST_WORDS = 5.0  # seconds for threads to end when the worker ends


@click.command("worker", cls=CatalogueCommand)
def worker() -> None:
    """Run queued backups, copies, drills and restores until SIGTERM or Ctrl-C.

    BACKSTOP_WORKER_STOP says what happens to a running backup: it is ended cleanly
    (interrupt), or the worker waits for it until a second signal comes (wait).
    """
    logging.getLogger("app").setLevel(logging.INFO)
    unwind_on_signals()  # until we can tell a running backup: the server is let go
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    with sample_in_use(), noting_database():
        consumers = _start_consumers()
        stopping = _stop_on_signals()
        with app.app_context(), errors_logged("making the first schedules"):
            schedules.make_first_schedules()
        ended = threading.Event()
        beating = _Loop(app, ended, _BEAT, workers.beat)
        others = _loops(app, stopping)
        lookout = Lookout(app)
        for thread in (beating, *others, lookout):
            thread.start()
        logger.info("worker started")
        while not stopping.wait(_BEAT):
            for consumer in consumers:
                consumer.check_worker_health()
        logger.info("worker stops")
        lookout.stop()
        _end_consumers(consumers)
        for thread in others:
            thread.join(_LAST_WORDS)
        ended.set()
        beating.join(_LAST_WORDS)
        with app.app_context(), errors_logged("signing off"):
            workers.sign_off()


def _loops(app: Flask, stopping: threading.Event) -> list["_Loop"]:
    """Each in a thread of its own, so that none delays another."""
    return [
        _Loop(app, stopping, _BEAT, turn.turn),
        _Loop(app, stopping, _TEND_EVERY, _tend),
        _Loop(app, stopping, _SCRUB_EVERY, scrub_firings.scrub_due),
        _Loop(app, stopping, _FORGET_EVERY, _forget),
        _Loop(app, stopping, _SERVERS_EVERY, look_at_servers),
        _Loop(app, stopping, _COPIES_EVERY, copy_what_is_due),
        _Loop(app, stopping, _VERIFY_EVERY, _verify),
        _Loop(app, stopping, _PRUNE_EVERY, prune_after_copies),
        _Loop(app, stopping, _TIDY_EVERY, tidy_stores),
        _Loop(app, stopping, _EXPORT_EVERY, _export),
    ]


class _Loop(threading.Thread):
    """Does one thing again and again, until the worker ends."""

    def __init__(
        self, app: Flask, ended: threading.Event, seconds: float, do: Callable[[], None]
    ) -> None:
        super().__init__(name=do.__name__, daemon=True)
        self._app, self._ended, self._seconds, self._do = app, ended, seconds, do

    def run(self) -> None:
        while True:
            # A context of its own each time, so that nothing read is kept.
            with self._app.app_context(), errors_logged(self.name.strip("_")):
                self._do()
            if self._ended.wait(self._seconds):
                break


def _tend() -> None:
    """Mend what was killed, and wake workers for jobs whose task was lost."""
    reconcile(thorough=False)
    if is_work_pending():
        backups.run_unclaimed()
        restores.run_unclaimed()


def _verify() -> None:
    """Read one copy back, if one is due; a worker that ends stops reading."""
    with suppress(Interrupted):
        verify_what_is_due(_end_with_the_worker)


def _export() -> None:
    """Export the catalogue where it is due; a worker that ends stops that."""
    with suppress(Interrupted):
        export_what_is_due(_end_with_the_worker)


def _end_with_the_worker(_: int) -> None:
    if claims.is_stopping():
        raise Interrupted("the worker ends")


def _forget() -> None:
    """Remove old rows, and what a killed process has begun to remove."""
    turn.forget()
    finish_removals()
    forget_removed()
    workers.forget_old()


def _start_consumers() -> list[Any]:
    """Threads for each kind of work: no backup ever waits for a drill or a restore.

    An idle one of huey looks less and less often, by default each ten seconds:
    too seldom for somebody who has clicked.
    """
    copies_queue.on_startup("yield")(yield_to_others)  # a copy is never in a backup's way
    number = {
        queue: settings().workers,
        restores_queue: 1,
        proofs_queue: 1,
        copies_queue: settings().copies,
    }
    consumers = [
        huey.create_consumer(workers=threads, max_delay=0.4, periodic=False)
        for huey, threads in number.items()
    ]
    for consumer in consumers:
        consumer.start()
    return consumers


def _stop_on_signals() -> threading.Event:
    """Set when we are to end; in place of huey's handlers, which do not tell a running backup."""
    stopping = threading.Event()

    def stop(*_: object) -> None:
        if stopping.is_set() or settings().worker_stop == "interrupt":
            claims.stop_runs()
        claims.leave_after_this_run()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def _end_consumers(consumers: list[Any]) -> None:
    for consumer in consumers:
        consumer.stop_flag.set()
    for consumer in consumers:
        for _, thread in consumer.worker_threads:
            while thread.is_alive():
                thread.join(_BEAT)
        consumer.stop(graceful=True)
