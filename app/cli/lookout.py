"""The lookout: a thread of worker and web that raises alarms and sends what is due.

It runs in both, since neither can tell its own death, and beside whatever else
they do, since nothing of it may hold up a backup.
"""

import itertools
import threading

from flask import Flask

from app.logs import errors_logged
from app.models.types import now
from app.services.alerts import alarms, deliveries

_TURN = 2.0  # seconds
_LOOK_EVERY = 5  # turns between two looks for what nobody has done, such as a full disk
_FILES_EVERY = 30  # turns between two looks for missing files
_FORGET_EVERY = 1800  # turns between two looks for what is old
_PLACES = 8  # messages under way at once


class Lookout(threading.Thread):
    """Looks until the process ends, or `stop` is called."""

    def __init__(self, app: Flask) -> None:
        super().__init__(name="lookout", daemon=True)
        self._app = app
        self._stopping = threading.Event()
        self._senders: list[threading.Thread] = []

    def run(self) -> None:
        for turn in itertools.count():
            with self._app.app_context(), errors_logged("looking for alarms"):
                if turn % _LOOK_EVERY == 0 or alarms.has_news():
                    alarms.look(now(), files=turn % _FILES_EVERY == 0)
                self._send()
                if turn % _FORGET_EVERY == 0:
                    deliveries.forget_old(now())
                    alarms.forget_old(now())
            if self._stopping.wait(_TURN):
                break

    def stop(self) -> None:
        """Look no more; what is being sent is left to its end, or to another process."""
        self._stopping.set()

    def _send(self) -> None:
        """Begin what is due, and wait for none of it.

        The threads die with the process: one that hangs must not keep it alive.
        """
        self._senders = [each for each in self._senders if each.is_alive()]
        for claimed in deliveries.claim_due(now(), _PLACES - len(self._senders)):
            sender = threading.Thread(target=self._attempt, args=(claimed,), daemon=True)
            sender.start()
            self._senders.append(sender)

    def _attempt(self, delivery_id: str) -> None:
        with self._app.app_context(), errors_logged("delivering a message"):
            deliveries.attempt(delivery_id, now())
