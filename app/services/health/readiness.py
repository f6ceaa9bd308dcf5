"""Whether everything that a backup needs answers: quick, and cheap however often it runs."""

import threading
import time
from collections.abc import Callable

from flask import Flask, current_app

from app.services.health.doctor.catalogue import look_whether_usable
from app.services.health.doctor.findings import Finding, State, examined, ok, problem
from app.services.health.doctor.machine import look_at_backup_folder
from app.services.health.doctor.work import look_at_queue
from app.services.jobs.workers import find_trouble, list_workers

LIMIT = 3.0  # seconds that a request waits for a check
_FRESH = 1.0  # seconds for which a result is valid

_SILENCE = "does not answer"


def check_health() -> dict[str, str]:
    """What is wrong with catalogue, queue, worker and storage; empty texts if nothing is.

    The texts name nothing of the machine: a visitor may read them. Returns
    after LIMIT seconds at most, also where something hangs.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    checks: dict[str, Check] = app.extensions.setdefault(
        "backstop.health", {name: Check(name, *look) for name, look in _LOOKS.items()}
    )
    for check in checks.values():
        check.begin(app)
    return {name: check.outcome() for name, check in checks.items()}


def _look_at_catalogue() -> Finding:
    found = look_whether_usable()
    list_workers()  # to write to it says nothing of its tables
    return found


def _look_for_worker() -> Finding:
    trouble = find_trouble()
    return problem("worker", trouble, "") if trouble else ok("worker", "there is one")


_LOOKS: dict[str, tuple[Callable[[], Finding], str]] = {
    "catalogue": (_look_at_catalogue, "cannot be used"),
    "queue": (look_at_queue, "cannot be used"),
    "worker": (_look_for_worker, "none runs, or it is silent"),
    "storage": (look_at_backup_folder, "cannot be written"),
}


class Check:
    """A check in a thread of its own: if it hangs, it delays nobody and is not started twice."""

    def __init__(self, name: str, look: Callable[[], Finding], complaint: str) -> None:
        self._name, self._look, self._complaint = name, look, complaint
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._moment = float("-inf")  # of its beginning, or of its end
        self._outcome = ""

    def begin(self, app: Flask) -> None:
        """Start the check, unless it is running or has just ended."""
        with self._lock:
            if not self._ended.is_set() or time.monotonic() < self._moment + _FRESH:
                return
            self._ended.clear()
            self._moment = time.monotonic()
        threading.Thread(target=self._run, args=(app,), daemon=True).start()

    def outcome(self) -> str:
        """What is wrong, known or waited for until it is clear that there is no answer."""
        left = self._moment + LIMIT - time.monotonic()
        return self._outcome if self._ended.wait(max(0, left)) else _SILENCE

    def _run(self, app: Flask) -> None:
        outcome = self._complaint
        try:
            with app.app_context():
                if examined(self._name, self._look).state is not State.PROBLEM:
                    outcome = ""
        finally:
            self._outcome, self._moment = outcome, time.monotonic()
            self._ended.set()
