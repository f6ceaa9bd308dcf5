"""Schedules in simulated time: each due time is fired once, or told as missed."""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import select

from app.errors import AppError, ConnectError, DumpError, StorageFull, ToolError
from app.extensions import db, writing
from app.models import (
    Database,
    DatabaseBackup,
    Delivery,
    Firing,
    Outcome,
    Schedule,
    Status,
    Task,
    types,
)
from app.services.alerts import notifiers
from app.services.backups import service as backups
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database
from app.services.proofs.records import record_reading
from app.services.retention import policies, prune
from app.services.retention.rules import Policy
from app.services.schedules import fire
from app.services.schedules import service as schedules
from app.services.schedules import turn as scheduling
from tests.faults.lab import USUAL_N, N, chance

pytestmark = [pytest.mark.faults, pytest.mark.slow]

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class Crash(BaseException):
    """The worker's process ends here."""


@dataclass
class Machine:
    """A machine whose clock, crashes and backups are made up, but not its catalogue."""

    patch: pytest.MonkeyPatch
    at: datetime
    luck: random.Random
    crashes: float = 0.0
    failures: float = 0.0
    crashed: int = 0
    _busy_until: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.patch.setattr(types, "_clock", lambda: self.at)
        with closing(db.engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA synchronous = OFF")  # its power does not fail
        real_writing, real_queue = scheduling.writing, backups.queue_backup

        @contextmanager
        def perilous() -> Iterator[object]:
            with real_writing() as session:
                yield session
                self._peril()
            self._peril()

        def queue(*of: object, **asked: object) -> DatabaseBackup:
            self._peril()
            made = real_queue(*of, **asked)
            self._peril()
            return made

        if self.crashes:
            for module in (scheduling, fire):
                self.patch.setattr(module, "writing", perilous)
            self.patch.setattr(backups, "queue_backup", queue)
        self.patch.setattr(backups, "wake_worker", lambda _: None)

    def _peril(self) -> None:
        if self.luck.random() < self.crashes:
            raise Crash

    def turn(self) -> None:
        """One look of the worker, which may die of it, and what its jobs have come to."""
        try:
            scheduling.turn(self.at)
        except Crash:
            self.crashed += 1
            db.session.rollback()
        self.work()

    def work(self) -> None:
        """Every backup takes a while and ends in some way."""
        for backup in db.session.scalars(select(DatabaseBackup).filter_by(status=Status.PENDING)):
            took = timedelta(seconds=self.luck.randrange(1, 300))
            if self.at < self._busy_until.setdefault(backup.id, self.at + took):
                continue
            with writing():
                if self.luck.random() >= self.failures:
                    backup.complete(self.at)
                elif self.luck.random() < 0.7:
                    backup.fail(ConnectError("no connection", detail="Connection refused."))
                else:
                    backup.fail(StorageFull("no space left"))

    def sleep_until(self, end: datetime) -> None:
        """Go through time: from one thing that is due to the next."""
        while self.at < end:
            self.turn()
            soonest = self._soonest()
            db.session.commit()
            step = timedelta(seconds=self.luck.randrange(1, 10))
            self.at = min(end, max(self.at + step, min(soonest, default=end) + step))

    def _soonest(self) -> list[datetime]:
        due = select(Schedule.next_due_at).where(Schedule.next_due_at.is_not(None))
        again = select(Firing.next_attempt_at).where(Firing.outcome == Outcome.WAITING)
        found = list(db.session.scalars(due.order_by(Schedule.next_due_at).limit(1)))
        found += db.session.scalars(again.order_by(Firing.next_attempt_at).limit(1))
        pending = select(DatabaseBackup.id).filter_by(status=Status.PENDING)
        found += [self._busy_until.get(each) for each in db.session.scalars(pending)]
        return [each for each in found if each is not None]


# What ought to be: each minute is looked at on the wall's clock


@dataclass(frozen=True)
class Wanted:
    """A schedule by its minutes, hours and weekdays (Monday is 0), as an oracle reads it."""

    cron: str
    zone: str
    minutes: frozenset[int]
    hours: frozenset[int] = frozenset(range(24))
    weekdays: frozenset[int] = frozenset(range(7))

    def due(self, start: datetime, end: datetime) -> list[datetime]:
        zone = ZoneInfo(self.zone)
        first = start.replace(second=0, microsecond=0) + MINUTE
        found = []
        for number in range(int((end - first) / MINUTE) + 1):
            moment = first + number * MINUTE
            wall = moment.astimezone(zone)
            if (
                wall.minute in self.minutes
                and wall.hour in self.hours
                and wall.weekday() in self.weekdays
            ):
                found.append(moment)
        return found


def twenty() -> list[Wanted]:
    """Two hourly, twelve daily, six weekly ones, whose times no change of clocks swallows."""
    zones = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"]
    made = [
        Wanted(f"{minute} * * * *", zone, frozenset({minute}))
        for minute, zone in ((7, "Europe/Berlin"), (30, "Asia/Kathmandu"))
    ]
    made += [
        Wanted(f"{minute} {hour} * * *", zone, frozenset({minute}), frozenset({hour}))
        for zone in zones
        for minute, hour in ((0, 5), (30, 12), (45, 23))
    ][:12]
    made += [
        Wanted(f"5 */6 * * {day}", zone, frozenset({5}), frozenset({0, 6, 12, 18}),
               frozenset({day - 1}))
        for day, zone in zip((1, 3, 5, 6, 2, 4), [*zones, "UTC"], strict=True)
    ]  # fmt: skip
    return made


def judge(name: str, due: list[datetime], of: Database | None = None) -> Counter[str]:
    """Each due time was fired once, or is told as missed; each firing made one backup at most."""
    schedule = schedules.get_schedule_named(name, of)
    known = list(db.session.scalars(select(Firing).filter_by(schedule_id=schedule.id)))
    fired = [each.due_at for each in known]
    assert len(set(fired)) == len(fired)
    missed: list[datetime] = []
    for each in known:
        since = each.missed_since or each.due_at
        between = [time for time in due if since <= time < each.due_at]
        never = [time for time in between if time not in fired]
        # A clock that is set back lets some come again, which then are fired.
        assert len(never) <= each.missed <= len(between), (name, each.due_at, each.missed)
        missed += never
    assert sorted({*fired, *missed}) == due
    notes = select(DatabaseBackup.notes, DatabaseBackup.status).filter_by(created_by=name)
    good = Counter(
        notes for notes, status in db.session.execute(notes) if status is Status.COMPLETED
    )
    for each in known:
        made = good.pop(fire.notes_of(schedule, each.due_at), 0)
        assert made == (each.outcome is Outcome.COMPLETED), (name, each.due_at, each.outcome)
        assert 1 <= each.attempts <= len(fire.BACK_OFF) + 1 or each.told
    assert not good
    return Counter(each.outcome.value for each in known) + Counter(missed=len(missed))


@pytest.mark.timeout(600)
def test_twenty_schedules_over_thirty_days_of_trouble(
    context: None, monkeypatch: pytest.MonkeyPatch, record_property
):
    """Crashes, failures, sleep and a clock that jumps; both changes of clocks lie in it.

    Nine days with the usual N.
    """
    days = 30 if N > USUAL_N else 9
    start = datetime(2026, 10, 24, 11, 22, tzinfo=UTC)
    luck = chance("schedules", 0)
    machine = Machine(monkeypatch, start, luck, crashes=0.01, failures=0.2)
    wanted = {f"schedule {number}": each for number, each in enumerate(twenty())}
    for name, each in wanted.items():
        schedules.add_schedule(
            schedules.NewSchedule(
                name, Task.BACKUP, each.cron, timezone=each.zone, notes="{schedule} of {due}"
            ),
            created_by="ann",
        )
    end = start + days * DAY
    latest = start
    while machine.at < end:
        machine.sleep_until(min(end, machine.at + luck.uniform(1, 40) * HOUR))
        latest = max(latest, machine.at)
        trouble = luck.choice(["asleep", "asleep", "back", "none"])
        if trouble == "asleep":
            machine.at = min(end, machine.at + luck.uniform(0.1, 9) * HOUR)
        elif trouble == "back":
            machine.at -= luck.uniform(0.1, 5) * HOUR
    machine.crashes = machine.failures = 0
    machine.sleep_until(max(latest, end) + 3 * HOUR)
    while db.session.scalar(select(Firing.id).where(Firing.finished_at.is_(None)).limit(1)):
        machine.at += MINUTE  # all comes to its end
        machine.turn()
    total: Counter[str] = Counter()
    for name, each in wanted.items():
        total += judge(name, each.due(start, machine.at))
    record_property("faults", f"simulated schedules: {dict(total)}, {machine.crashed} crashes")
    assert machine.crashed > 5
    assert total["missed"] > 5
    assert total["completed"] > 10 * days
    assert total["waiting"] == total["running"] == 0


@pytest.mark.timeout(600)
def test_an_hourly_schedule_over_a_year(context: None, monkeypatch: pytest.MonkeyPatch):
    """Ten days of it with the usual N."""
    days = 365 if N > USUAL_N else 10
    start = datetime(2026, 8, 20, tzinfo=UTC)
    machine = Machine(monkeypatch, start, chance("a year", 0))
    hourly = Wanted("10 * * * *", "America/St_Johns", frozenset({10}))
    schedules.add_schedule(
        schedules.NewSchedule(
            "hourly", Task.BACKUP, hourly.cron, timezone=hourly.zone, notes="{schedule} of {due}"
        ),
        created_by="ann",
    )
    due = hourly.due(start, start + days * DAY)
    for time in due:
        machine.at = time + timedelta(seconds=4)
        machine.turn()
        machine.at += 10 * MINUTE  # no backup takes longer
        machine.work()
    machine.turn()
    assert judge("hourly", due) == Counter(completed=24 * days)
    scheduling.forget(machine.at)
    kept = select(Firing.due_at).order_by(Firing.due_at)
    assert list(db.session.scalars(kept)) == [each for each in due if each > machine.at - 90 * DAY]


def test_two_workers_at_once_fire_once(context: None, monkeypatch: pytest.MonkeyPatch, app: Flask):
    """Ten schedules are due, four workers look at the same moment, again and again."""
    machine = Machine(monkeypatch, datetime(2026, 5, 1, 10, 0, tzinfo=UTC), chance("workers", 0))
    queued: list[str] = []
    monkeypatch.setattr(
        backups, "queue_backup", lambda _, **asked: queued.append(asked["created_by"])
    )
    for number in range(10):
        schedules.add_schedule(
            schedules.NewSchedule(str(number), Task.BACKUP, "30 10 * * *"), created_by="ann"
        )
    machine.at += 31 * MINUTE
    start = threading.Barrier(4)

    def work() -> None:
        with app.app_context():
            start.wait()
            for _ in range(3):
                scheduling.turn(machine.at)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(queued) == sorted(map(str, range(10)))
    db.session.commit()  # see what the others have written
    assert len(list(db.session.scalars(select(Firing)))) == 10


def test_a_missed_time_is_caught_up_once_and_told(context: None, monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch, datetime(2026, 5, 1, 10, 0, tzinfo=UTC), chance("missed", 0))
    notifiers.create_notifier(
        "ops", "json://127.0.0.1:9", facts=["backup-missed"], created_by="ann"
    )
    made = schedules.add_schedule(
        schedules.NewSchedule(
            "hourly", Task.BACKUP, "0 * * * *", heartbeat_url="http://127.0.0.1:9/x"
        ),
        created_by="ann",
    )
    machine.at += 5 * HOUR + 10 * MINUTE
    for _ in range(3):
        machine.turn()
        machine.at += 6 * MINUTE
    (fired,) = schedules.list_firings(made.id)
    assert (f"{fired.due_at:%H:%M}", fired.missed, fired.outcome) == ("15:00", 4, Outcome.COMPLETED)
    assert f"{fired.missed_since:%H:%M}" == "11:00"
    told = {each.fact: each for each in db.session.scalars(select(Delivery))}
    assert told.keys() >= {"backup-missed", "heartbeat"}
    assert (
        told["backup-missed"].title == "Backstop: Schedule hourly missed a run and is catching up"
    )
    assert "5 runs due since 2026-05-01T11:00" in told["backup-missed"].body


@pytest.mark.parametrize(
    ("error", "attempts", "outcome"),
    [
        (ConnectError("no connection", detail="Connection refused."), 5, Outcome.FAILED),
        (ConnectError("no connection", detail="FATAL: too many connections"), 5, Outcome.FAILED),
        (DumpError("pg_dump failed", detail="canceling due to lock timeout"), 5, Outcome.FAILED),
        (ConnectError("no", detail="password authentication failed"), 1, Outcome.FAILED),
        (DumpError("pg_dump failed", detail="permission denied for table x"), 1, Outcome.FAILED),
        (StorageFull("no space left"), 1, Outcome.FAILED),
        (ToolError("no pg_dump that fits"), 1, Outcome.FAILED),
    ],
)
def test_only_what_passes_by_itself_is_tried_again(
    error: AppError,
    attempts: int,
    outcome: Outcome,
    context: None,
    monkeypatch: pytest.MonkeyPatch,
):
    machine = Machine(monkeypatch, datetime(2026, 5, 1, 10, 0, tzinfo=UTC), chance("again", 0))
    made = schedules.add_schedule(
        schedules.NewSchedule("daily", Task.BACKUP, "5 10 * * *"), created_by="ann"
    )
    machine.at += 6 * MINUTE
    times = []
    for _ in range(200):
        scheduling.turn(machine.at)
        for backup in db.session.scalars(select(DatabaseBackup).filter_by(status=Status.PENDING)):
            times.append(machine.at)
            with writing():
                backup.fail(error)
        machine.at += MINUTE
    (fired,) = schedules.list_firings(made.id)
    assert (fired.attempts, fired.outcome) == (attempts, outcome)
    assert error.message in fired.told
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    expected = [MINUTE + each for each in fire.BACK_OFF][: attempts - 1]
    assert waits == expected


def test_what_a_schedule_makes_is_pruned_as_the_policy_says(
    context: None, monkeypatch: pytest.MonkeyPatch
):
    """Backups each six hours, some of which fail; the files that stay are what an oracle keeps."""
    machine = Machine(
        monkeypatch, datetime(2026, 10, 20, tzinfo=UTC), chance("pruned", 0), failures=0.3
    )
    made: list[datetime] = []

    def complete(backup: DatabaseBackup, at: datetime) -> None:
        backup.size = (storage().folder / backup.filename).write_bytes(b"PGDMP")
        backup.contents = {"read": {"seconds": 1, "evidence": {"differences": []}}}
        finish(backup, at)
        record_reading(db.session(), backup)
        made.append(backup.created_at)

    finish = DatabaseBackup.complete
    monkeypatch.setattr(DatabaseBackup, "complete", complete)
    monkeypatch.setattr(prune, "prune_after", prune.prune_after.call_local)  # as a worker does
    storage().folder.mkdir(exist_ok=True)
    policies.set_policy(Policy(keep_last=3, keep_daily=4), by="ann")
    policies.confirm_policy(policies.get_policy(), default_database(), by="ann")
    schedules.add_schedule(
        schedules.NewSchedule("often", Task.BACKUP, "15 */6 * * *"), created_by="ann"
    )
    gone: set[datetime] = set()
    for _ in range(9 * 4):
        machine.sleep_until(machine.at + 6 * HOUR)
        scheduling.turn(machine.at)
        there = [each for each in made if each not in gone]
        expected = kept(there, last=3, days=4)
        gone |= set(there) - expected
        files = {path.name for path in storage().folder.glob("*.dump")}
        rows = select(DatabaseBackup).filter_by(status=Status.COMPLETED)
        found = {each.created_at: each.filename for each in db.session.scalars(rows)}
        assert (found.keys(), set(found.values())) == (expected, files)
        assert bool(expected) == bool(made)
    assert len(gone) > 5


def kept(there: list[datetime], *, last: int, days: int) -> set[datetime]:
    """What stays of backups made at these times: by hand."""
    newest_first = sorted(there, reverse=True)
    by_day = {each.date(): each for each in sorted(there)}  # the newest of each day
    daily = [by_day[day] for day in sorted(by_day, reverse=True)][:days]
    oldest = newest_first[-1:] if len(daily) < days or len(there) < last else []
    return {*newest_first[:last], *daily, *oldest}
