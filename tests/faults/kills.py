"""Kill again and again at random moments, and ask the oracle each time."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random

import psutil

from app.models import Trigger
from app.services.backups import service as backups
from app.services.databases.lookup import default_database
from app.services.databases.service import Changes, edit_database
from tests.cli.test_panel import PATIENCE
from tests.faults.lab import SEED, Lab, N, awaited, chance

_LEAST = 4  # kills of each target, however slow the machine is
_BOX = 25 / 8  # seconds for each kill, after which a target is left

# Slow to compress and small on the disk: a dump of it takes some 0.3 s.
_WORDS = """
    CREATE TABLE words AS
    SELECT n, md5(n::text) || md5((n * 7)::text) AS word FROM generate_series(1, 70000) n;
    CREATE TABLE more_words AS SELECT * FROM words WHERE n < 30000;
    CREATE TABLE few_words AS SELECT * FROM words WHERE n < 300;
"""

Tell = Callable[[str, object], None]
Kill = Callable[[Random, signal.Signals, int], tuple[int, str]]


def make_words(make_lab: Callable[..., Lab]) -> Lab:
    """A lab whose backups take long enough to be hit."""
    lab = make_lab(_WORDS, BACKSTOP_COMPRESSION="gzip:6")
    lab.make_backup()
    return lab


class Span:
    """How long a target lives, in seconds; shorter while it has always ended before."""

    def __init__(self, longest: float) -> None:
        self.seconds = self._longest = longest

    def learn(self, *, hit: bool) -> None:
        self.seconds = min(self.seconds * (1.05 if hit else 0.8), self._longest)


def kill_again_and_again(
    target: str, lab: Lab, one: Kill, span: Span, tell: Tell, *living: psutil.Process
) -> None:
    """Kill until N were hit that still lived, and ask the oracle each time.

    `one` says how many it has hit, and what is left of what they did.
    """
    left: Counter[str] = Counter()
    kills = 0
    deadline = time.monotonic() + N * _BOX
    for index in count():
        if kills >= N or (kills >= _LEAST and time.monotonic() > deadline):
            break
        number = (signal.SIGKILL, signal.SIGTERM)[index % 2]
        use_jobs(lab, 1 + index // 2 % 2)
        try:
            hit, what = one(chance(target, index), number, index)
            lab.check(*living)
        except BaseException as error:
            error.add_note(f"{target}: case {index}, {number.name}, FAULTS_SEED={SEED}")
            raise
        kills += hit
        span.learn(hit=bool(hit))
        left[what if hit else "that had ended"] += 1
    found = ", ".join(f"{times} {what}" for what, times in left.most_common())
    tell("faults", f"{target}: {kills} kills at random moments; left: {found}")


def use_jobs(lab: Lab, jobs: int) -> None:
    """Let so many sessions dump the tables of the next backups."""
    with lab.context():
        edit_database(default_database().name, Changes(dump_jobs=jobs), by="faults")


def fall(process: psutil.Popen, number: signal.Signals) -> bool:
    """Send the signal and wait for the end; whether the process still lived."""
    lived = process.poll() is None
    if lived:
        process.send_signal(number)
        process.wait(PATIENCE)
    return lived


def span_of(run: Callable[[], object]) -> Span:
    begun = time.monotonic()
    run()
    return Span(time.monotonic() - begun)


def ask_for_backup(lab: Lab) -> str:
    with lab.context():
        return backups.queue_backup(trigger=Trigger.API, created_by="ann").filename


def wait_for_end(lab: Lab, name: str) -> None:
    awaited(lambda: not lab.rows()[name].is_pending, f"{name} to end")


def state_of(lab: Lab, name: str) -> str:
    """What a kill has left of a backup, before anybody has looked after it."""
    row = lab.rows().get(name)
    if row is None:
        return "no row"
    waits = row.is_pending and row.claimed_by is None
    return "WAITING" if waits else row.status.value


def new_row(lab: Lab, before: dict[str, object]) -> str:
    """The name of the row that is new; empty if there is none."""
    return next(iter(set(lab.rows()) - set(before)), "")
