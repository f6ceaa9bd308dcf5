"""The lookout: a thread of worker and web that raises alarms and sends the messages that are due.

It runs in both, because neither can report its own death, and beside whatever else
they do, because it must not delay a backup. One of the processes of an instance
folder is elected by a lock and looks at every turn; the others look now and then, in
case the elected one hangs.
"""

import itertools
import os
import threading

from flask import Flask

from app import locks
from app.config import settings
from app.logs import errors_logged
from app.models.types import now
from app.services.alerts import alarms, deliveries
from app.services.alerts.glance import State, take_glance

_TURN = 2.5  # seconds
_OTHERS_EVERY = 4  # turns between two glances of a process that is not elected
_LOOK_EVERY = 6 * _OTHERS_EVERY  # turns between two full looks if nothing seems to change
_FORGET_EVERY = 60 * _LOOK_EVERY  # turns between two searches for old rows
_PLACES = 8  # messages under way at once
_LOCK = "lookout.lock"  # in the instance folder


class Lookout(threading.Thread):
    """Looks until the process ends, or `stop` is called."""

    def __init__(self, app: Flask) -> None:
        super().__init__(name="lookout", daemon=True)
        self._app = app
        self._stopping = threading.Event()
        self._senders: list[threading.Thread] = []
        self._state: State | None = None  # at the last look
        self._lock: int | None = None  # the descriptor, once this process is elected

    def run(self) -> None:
        for number in itertools.count():
            with self._app.app_context(), errors_logged("looking for alarms"):
                self.turn(number)
            if self._stopping.wait(_TURN):
                break
        self.resign()

    def turn(self, number: int) -> None:
        """Look and send, if it is this process's turn and there is a reason to."""
        if not self._is_elected() and number % _OTHERS_EVERY:
            return
        at = now()
        glance = take_glance(at)
        is_full, has_changed = number % _LOOK_EVERY == 0, glance.state != self._state
        if is_full or has_changed or glance.has_news:
            alarms.look(at, files=is_full, has_news=glance.has_news)
            self._state = glance.state
        if glance.has_messages or glance.has_news or has_changed:  # a look may have queued some
            self._send()
        if number % _FORGET_EVERY == 0:
            deliveries.forget_old(at)
            alarms.forget_old(at)

    def stop(self) -> None:
        """Look no more; what is being sent is left to its end, or to another process."""
        self._stopping.set()

    def resign(self) -> None:
        """Let another process be elected."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _is_elected(self) -> bool:
        """Whether this process holds the lock, or takes it now; so does one that cannot lock."""
        if self._lock is None:
            path = settings().instance_dir / _LOCK
            try:
                if not path.exists():
                    path.touch(mode=0o600)
                self._lock = locks.lock(path)
            except BlockingIOError:
                return False
            except OSError:
                return True
        return True

    def _send(self) -> None:
        """Begin what is due, and wait for none of it.

        The threads die with the process: one that hangs must not keep it alive.
        """
        self._senders = [sender for sender in self._senders if sender.is_alive()]
        for claimed in deliveries.claim_due(now(), _PLACES - len(self._senders)):
            sender = threading.Thread(target=self._attempt, args=(claimed,), daemon=True)
            sender.start()
            self._senders.append(sender)

    def _attempt(self, delivery_id: str) -> None:
        with self._app.app_context(), errors_logged("delivering a message"):
            deliveries.attempt(delivery_id, now())
