"""Twenty starts at once over page, API and terminal: one runs, nineteen are told which."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import requests

from app.models import Status
from tests.conftest import PASSWORD
from tests.faults.lab import PATIENCE, SEED, Lab, N, chance, log_of, wait_until
from tests.faults.middle import DUMPING, failed, locked, waiting_backup

pytestmark = pytest.mark.faults

FACES = ["page"] * 7 + ["api"] * 7 + ["terminal"] * 6
ROUNDS = max(1, N // 8)
A_NAME = re.compile(r"[Bb]ackup_[0-9TZ-]+\.dump")


@dataclass(frozen=True)
class Answer:
    """What one start was told: whether it is its own backup, and the backup's name."""

    face: str
    is_mine: bool
    filename: str


class Starter:
    """Starts backups over every face of one panel."""

    def __init__(self, lab: Lab, port: int) -> None:
        self.lab, self.base = lab, f"http://127.0.0.1:{port}"
        self._first = requests.Session()
        who = {"username": "admin", "password": PASSWORD}
        signed_in = self._first.post(f"{self.base}/api/admin/session", json=who, timeout=PATIENCE)
        assert signed_in.status_code == 200, signed_in.text

    def browser(self) -> requests.Session:
        """One more window of the same admin's; a window has its own messages."""
        window = requests.Session()
        window.cookies.update(self._first.cookies)
        return window

    def page(self) -> Answer:
        window = self.browser()
        form = window.get(f"{self.base}/admin/backup", timeout=PATIENCE).text
        token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', form)
        assert token is not None
        answer = window.post(
            f"{self.base}/admin/backup", data={"csrf_token": token[1]}, timeout=PATIENCE
        )
        assert answer.status_code == 200, answer.text
        started = re.search(rf"Backup ({A_NAME.pattern}) has been started", answer.text)
        refused = re.search(rf"({A_NAME.pattern}) of database .* is still being", answer.text)
        told = started or refused
        assert told is not None, re.findall(r"(?i)backup_.* is still being", answer.text)
        return Answer("page", started is not None, told[1])

    def api(self) -> Answer:
        answer = self.browser().post(f"{self.base}/api/admin/backup", timeout=PATIENCE)
        if answer.status_code == 201:
            return Answer("api", is_mine=True, filename=answer.json()["backup"]["filename"])
        assert answer.status_code == 409, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        return Answer("api", is_mine=False, filename=name_in(answer.text))

    def terminal(self) -> Answer:
        ended = self.lab.flask("backup", "create", "--quiet", "--json")
        if ended.returncode == 0:
            return Answer("terminal", is_mine=True, filename=name_in(ended.stdout))
        assert ended.returncode == 1, ended.stderr
        assert "Error: backup_" in ended.stderr, ended.stderr
        return Answer("terminal", is_mine=False, filename=name_in(ended.stderr))


def name_in(text: str) -> str:
    (name,) = set(A_NAME.findall(text))
    return str(name)


def test_of_twenty_starts_at_once_one_runs_and_nineteen_are_told(
    lab: Lab, record_property: Callable[[str, str], None]
):
    worker, web = lab.start_worker(), lab.start_web()
    starter = Starter(lab, web.port)
    for number in range(ROUNDS):
        dice = chance("starts", number)
        faces = dice.sample(FACES, len(FACES))
        # A terminal needs a while until it asks: then the others come into its way.
        delays = [0 if face == "terminal" else dice.uniform(0, 1.5) for face in faces]
        answers: list[Answer] = []
        failures: list[BaseException] = []

        def start(face: str, delay: float, answers=answers, failures=failures) -> None:
            time.sleep(delay)
            try:
                answers.append(getattr(starter, face)())
            except BaseException as error:  # noqa: BLE001 - told below, by the test's own thread
                failures.append(error)

        threads = [
            threading.Thread(target=start, args=each) for each in zip(faces, delays, strict=True)
        ]
        with locked(lab.database) as locker:  # the one that runs stays until all are told
            for thread in threads:
                thread.start()
            wait_until(
                lambda answers=answers, failures=failures: (
                    failures or sum(not each.is_mine for each in answers) == len(FACES) - 1
                ),
                f"nineteen to be told, FAULTS_SEED={SEED}: {answers}",
            )
            wait_until(lambda: lab.server.run(DUMPING), "the one to run")
            assert len(lab.server.run(DUMPING)) == 1
            locker.release()
        for thread in threads:
            thread.join(PATIENCE)
        assert not failures, f"FAULTS_SEED={SEED}: {failures}"
        (winner,) = [each for each in answers if each.is_mine]
        # Some letters of a page's message are raised, but never those of a file's name.
        assert {each.filename for each in answers} == {winner.filename}
        wait_until(
            lambda winner=winner: lab.rows()[winner.filename].status is not Status.PENDING,
            "its end",
        )
        assert lab.rows()[winner.filename].is_completed
        assert len(lab.rows()) == number + 1, "a refused start left a row"
    worker.terminate()
    web.terminate()
    lab.check()
    record_property("faults", f"{ROUNDS * len(FACES)} starts, {ROUNDS} ran")


def test_another_panel_is_refused_by_the_database_itself(make_lab: Callable[..., Lab]):
    one, other = make_lab(), make_lab()
    with locked(one.database) as locker:
        create = waiting_backup(one)
        refused = failed(other, other.start("backup", "create", DATABASE_URL=one.database.url))
        assert "is being backed up by another panel" in refused.error_message
        assert "pg_locks" in refused.error_hint
        locker.release()
        assert create.wait(PATIENCE) == 0, log_of(create)
    one.check()
    other.check()
