"""Alarms open once and close with a message; what each of them is raised by."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, event, select, update

from app.extensions import db, writing
from app.models import (
    Alarm,
    Copy,
    DatabaseBackup,
    Delivery,
    DeliveryStatus,
    Fact,
    Kind,
    Level,
    Loss,
    Notifier,
    Proof,
    Restore,
    Result,
    Status,
    Store,
    StoreDatabase,
    TakesCatalogue,
    Trigger,
    Worker,
)
from app.models.backup import filename_of
from app.models.types import now
from app.models.worker import HEARTBEAT
from app.sealing import seal
from app.services.alerts import alarms, deliveries
from app.services.alerts.conditions import find_troubles, machine
from app.services.databases.lookup import default_database
from app.services.jobs import claims
from tests.api.test_downloads import dump_of, planted
from tests.services.health.test_figures import counting

pytestmark = pytest.mark.usefixtures("context")

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
Plant = Callable[..., str]


@pytest.fixture(autouse=True)
def fresh(context: None) -> Iterator[None]:
    """No worker was seen by another test; somebody wants to know everything."""
    machine._alive_at.clear()
    with writing() as session:
        everything = [each.value for each in Fact]
        session.add(
            Notifier(id="n", name="all", url=seal("json://x"), target="x", facts=everything)
        )
    yield
    machine._alive_at.clear()


@pytest.fixture
def plant(app: Flask) -> Plant:
    """A backup of our database, so long ago."""
    guarded = default_database()

    def plant(ago: timedelta = HOUR, **values: Any) -> str:
        at = now() - ago
        ours = {
            "server": guarded.server,
            "database": guarded.dbname,
            "filename": filename_of(at),
            "created_at": at,
            "started_at": at,
            "finished_at": at + timedelta(seconds=10),
        }
        return planted(app, **ours | values)

    return plant


def failed(**values: Any) -> dict[str, Any]:
    return {"status": Status.FAILED, "error_message": "it broke"} | values


def told() -> list[str]:
    """What was queued so far, the oldest first."""
    queued = select(Delivery.title).order_by(Delivery.created_at, Delivery.id)
    found = list(db.session.scalars(queued))
    db.session.commit()
    return [each.removeprefix("Backstop: ") for each in found]


def forgotten() -> None:
    with writing() as session:
        session.execute(delete(Delivery))


def kinds() -> list[str]:
    found = [each.kind.value for each in alarms.list_open()]
    db.session.commit()
    return found


def test_a_hundred_failures_are_one_alarm_and_a_closing_message(plant: Plant):
    shop = default_database().name
    plant(3 * HOUR)
    alarms.look(now() - 3 * HOUR)
    forgotten()
    for number in range(100):
        plant(HOUR - number * timedelta(seconds=1), **failed(error_message=f"no. {number}"))
        if number % 10 == 0:
            alarms.look(now())
    alarms.look(now())
    assert told() == [f"A backup of {shop} failed"]
    (alarm,) = alarms.list_open()
    assert alarm.title == f"100 backups of {shop} failed"
    assert "no. 99" in alarm.body
    guarded = default_database()
    assert alarm.database_id == guarded.id
    assert (alarm.server, alarm.database) == (guarded.server, guarded.dbname)
    plant(MINUTE)
    for _ in range(3):
        alarms.look(now())
    after = {f"Resolved: 100 backups of {shop} failed", f"Backup of {shop} completed"}
    assert (len(told()), set(told()[1:])) == (3, after)
    assert alarms.list_open() == []
    assert [each.closed_at is None for each in alarms.list_alarms()] == [False]


def test_what_flaps_is_told_once_in_a_while_and_at_last_if_it_stays(plant: Plant):
    shop, at = default_database().name, now()
    for number in range(6):  # fails, succeeds, fails, …, fails again, each two minutes
        plant(HOUR - number * MINUTE, **failed() if number % 2 == 0 else {})
        alarms.look(at + number * 2 * MINUTE)
    plant(HOUR - 6 * MINUTE, **failed())
    alarms.look(at + 12 * MINUTE)
    about = [each for each in told() if "completed" not in each]
    assert about == [f"A backup of {shop} failed", f"Resolved: A backup of {shop} failed"]
    assert kinds() == ["backup-failed"]  # the page shows it all the time
    alarms.look(at + alarms.QUIET + MINUTE)
    assert told()[-1] == f"A backup of {shop} failed"


def test_a_first_start_does_not_tell_the_past_and_nothing_is_told_twice(plant: Plant):
    plant(2 * DAY)
    with writing() as session:
        session.execute(DatabaseBackup.__table__.update().values(told_at=None))  # adopted, say
    alarms.look(now())
    assert [each for each in told() if "completed" in each] == []
    plant(MINUTE)
    alarms.look(now())
    alarms.look(now())
    assert len([each for each in told() if "completed" in each]) == 1


def test_only_who_subscribes_is_told(plant: Plant):
    with writing() as session:
        for name, facts in (("alarms", None), ("drills", ["drill-failed"]), ("nothing", [])):
            session.add(Notifier(id=name, name=name, url="", target="", facts=facts))
        off = Notifier(id="off", name="off", url="", target="", facts=None, enabled=False)
        session.add(off)
    plant(HOUR)
    plant(MINUTE, **failed(error_detail='FATAL:  password authentication failed for user "ann"'))
    alarms.look(now())
    queued = {tuple(row) for row in db.session.execute(select(Delivery.lane, Delivery.fact))}
    assert queued == {
        ("n", "backup-completed"),
        ("n", "access-refused"),
        ("alarms", "access-refused"),
    }
    with writing() as session:
        session.get_one(Notifier, "drills").facts = ["backup-failed"]  # it has failed as well
        session.execute(delete(Alarm))
    alarms.look(now() + HOUR)
    assert "drills" in set(db.session.scalars(select(Delivery.lane)))


def test_a_cancelled_backup_and_a_foreign_one_raise_nothing(plant: Plant):
    plant(3 * MINUTE)
    plant(2 * MINUTE, **failed(cancelled_by="ann"))
    plant(MINUTE, **failed(foreign=True))
    alarms.look(now())
    assert kinds() == []


def test_the_newest_good_one_may_not_be_too_old(plant: Plant, app: Flask):
    alarms.look(now())
    assert kinds() == []  # none yet, but the panel is young
    alarms.look(now() + 27 * HOUR)
    assert kinds() == ["backup-too-old"]
    (alarm,) = alarms.list_open()
    assert "there is none" in alarm.body
    filename = plant(HOUR)
    alarms.look(now())
    assert kinds() == []
    dump_of(app, filename).unlink()  # then it is no good one
    alarms.look(now() + 27 * HOUR)
    assert sorted(kinds()) == ["backup-too-old", "file-missing"]


def test_a_bound_that_is_off_raises_nothing(make_app: Callable[..., Flask], plant: Plant):
    plant(3 * DAY)
    off = dict.fromkeys(("max_age", "smaller", "slower", "fewer_tables", "free_space"), 0)
    with make_app(**{f"alarm_{each}": value for each, value in off.items()}).app_context():
        alarms.look(now())
        assert kinds() == []


def test_a_backup_unlike_those_before_it(plant: Plant):
    def proven(filename: str, tables: int) -> None:
        with writing() as session:
            backup = session.scalars(select(DatabaseBackup).filter_by(filename=filename)).one()
            evidence = {"tables": tables, "differences": []}
            session.add(
                Proof(
                    backup_id=backup.id,
                    level=Level.READ,
                    result=Result.PASSED,
                    milliseconds=1,
                    evidence=evidence,
                )
            )

    for number in range(5):
        proven(plant((9 - number) * HOUR, size=1000 + number), 20)
        alarms.look(now())
    assert kinds() == []
    at = now() - 3 * HOUR
    proven(plant(3 * HOUR, size=501, finished_at=at + timedelta(seconds=69)), 18)
    alarms.look(now())
    assert kinds() == []  # all within their bounds
    at = now() - 2 * HOUR
    proven(plant(2 * HOUR, size=499, finished_at=at + timedelta(seconds=71)), 17)
    alarms.look(now())
    assert sorted(kinds()) == ["backup-slower", "backup-smaller", "fewer-tables"]
    assert any(
        each.body.partition("17 tables; the median of the ")[2].endswith(" before it is 20.")
        for each in alarms.list_open()
    )
    proven(plant(HOUR, size=1000), 20)
    alarms.look(now())
    assert kinds() == []


def test_missing_files_are_one_alarm(plant: Plant, app: Flask):
    files = [plant(number * MINUTE) for number in range(1, 8)]
    alarms.look(now())
    assert kinds() == []
    for each in files[1:]:
        dump_of(app, each).unlink()
    alarms.look(now(), files=False)
    assert kinds() == []  # that look does not list the storage
    alarms.look(now())
    (alarm,) = alarms.list_open()
    assert alarm.title == "Files of 6 backups are missing"
    assert "and 1 more" in alarm.body
    dump_of(app, files[0]).unlink()
    alarms.look(now())
    alarms.look(now() + HOUR - MINUTE)
    assert [each for each in told() if "missing" in each] == ["Files of 6 backups are missing"]
    alarms.look(now() + HOUR)  # more of them is news, after a while
    alarms.look(now() + HOUR + MINUTE)
    assert [each for each in told() if "missing" in each][1:] == ["Files of 7 backups are missing"]
    (dump_of(app, files[0])).touch()
    alarms.look(now(), files=False)
    assert kinds() == ["file-missing"]  # nor does it say that they are back
    with writing() as session:
        session.execute(delete(DatabaseBackup).where(DatabaseBackup.filename != files[0]))
    alarms.look(now())
    assert kinds() == []


def test_a_damaged_dump_and_a_failed_drill(plant: Plant):
    filename = plant(HOUR)
    guarded = default_database()
    backup = db.session.scalars(select(DatabaseBackup)).one()

    def proof(result: Result, level: Level = Level.READ) -> None:
        with writing() as session:
            evidence = {"differences": ["the dump is not what it was"]}
            made = Proof(backup_id=backup.id, level=level, result=result, milliseconds=1)
            made.evidence = evidence if result is Result.FAILED else {"differences": []}
            session.add(made)

    def drill(status: Status, ago: timedelta) -> None:
        with writing() as session:
            session.add(
                Restore(
                    filename=filename,
                    kind=Kind.DRILL,
                    database_id=guarded.id,
                    server=guarded.server,
                    database="scratch",
                    working="scratch",
                    trigger=Trigger.CLI,
                    status=status,
                    created_at=now() - ago,
                    finished_at=now() - ago,
                    error_message="it differs" if status is Status.FAILED else "",
                )
            )

    proof(Result.PASSED)
    proof(Result.FAILED)
    proof(Result.NOT_POSSIBLE, Level.RESTORED)
    drill(Status.FAILED, 2 * MINUTE)
    alarms.look(now())
    assert sorted(kinds()) == ["drill-failed", "file-damaged"]
    damaged = next(each for each in alarms.list_open() if each.kind is Fact.FILE_DAMAGED)
    assert "the dump is not what it was" in damaged.body
    assert damaged.title == f"A backup of {guarded.name} damaged"
    proof(Result.PASSED)
    drill(Status.COMPLETED, MINUTE)
    alarms.look(now())
    assert kinds() == []
    assert f"Drill of {filename} passed" in told()


def stored(name: str = "nas", **values: Any) -> None:
    with writing() as session:
        longer_ago = now() - 30 * DAY
        session.add(Store(id=name, name=name, address="", created_at=longer_ago, **values))


def copied(filename: str, store: str = "nas", **values: Any) -> None:
    """A good copy of a backup, unless the values say otherwise."""
    with writing() as session:
        backup = session.scalars(select(DatabaseBackup).filter_by(filename=filename)).one()
        row = {
            "id": f"{store} {backup.id}"[:32],
            "store_id": store,
            "backup_id": backup.id,
            "database_id": backup.database_id,
            "filename": filename,
            "dumped_at": backup.created_at,
            "status": Status.COMPLETED,
            "trigger": Trigger.CLI,
        }
        session.merge(Copy(**row | values))


def test_a_good_backup_is_to_be_in_each_store_within_some_hours(plant: Plant):
    shop = default_database().name
    older, newest = plant(8 * HOUR), plant(5 * HOUR)
    alarms.look(now())
    assert kinds() == []  # there is no store
    stored(), stored("offsite"), stored("paused", is_paused=True), stored("others", takes_all=False)
    alarms.look(now())
    assert told()[-1] == f"A copy of {shop} to 2 stores is overdue"
    copied(older, "offsite")
    copied(older, status=Status.FAILED, error_message="no room is left")
    alarms.look(now())
    (alarm,) = alarms.list_open()
    assert alarm.title == f"A copy of {shop} to nas is overdue"
    assert f"{older} is not in nas: no room is left." in alarm.body
    copied(newest)  # that is better than the older one
    alarms.look(now())
    assert kinds() == []
    alarms.look(now() + 2 * HOUR)  # now the newest one has to be offsite, too
    assert [alarm.title for alarm in alarms.list_open()] == [
        f"A copy of {shop} to offsite is overdue"
    ]
    copied(newest, "offsite", loss=Loss.MISSING)
    alarms.look(now() + 2 * HOUR)
    assert sorted(kinds()) == ["copy-lost", "copy-overdue"]
    with writing() as session:
        session.add(StoreDatabase(store_id="others", database_id=default_database().id))
    alarms.look(now() + 2 * HOUR)
    overdue = next(alarm for alarm in alarms.list_open() if alarm.kind is Fact.COPY_OVERDUE)
    assert overdue.title == f"A copy of {shop} to 2 stores is overdue"


def test_what_is_no_good_backup_of_ours_is_not_missed_in_a_store(
    plant: Plant, make_app: Callable[..., Flask]
):
    copied_one = plant(9 * HOUR)
    stored(), stored("new")
    copied(copied_one), copied(copied_one, "new")
    plant(8 * HOUR, foreign=True)
    plant(8 * HOUR - MINUTE, is_partial=True)
    plant(7 * HOUR, status=Status.FAILED)
    bad = plant(7 * HOUR - MINUTE)
    with writing() as session:
        backup = session.scalars(select(DatabaseBackup).filter_by(filename=bad)).one()
        proof = Proof(backup_id=backup.id, level=Level.READ, result=Result.FAILED, milliseconds=1)
        proof.evidence = {"differences": ["one"], "found": ["one"]}
        session.add(proof)
    alarms.look(now())
    assert "copy-overdue" not in kinds()
    plant(7 * HOUR)
    with writing() as session:
        session.get_one(Store, "new").created_at = now() - 6 * HOUR  # it takes later ones alone
    alarms.look(now())
    (overdue,) = (alarm for alarm in alarms.list_open() if alarm.kind is Fact.COPY_OVERDUE)
    assert overdue.title.endswith("to nas is overdue")
    with make_app(alarm_copy_age=0).app_context():
        alarms.look(now())
        assert "copy-overdue" not in kinds()


def exports_missed() -> list[str]:
    alarms.look(now())
    return sorted(
        alarm.title.split()[-3] for alarm in alarms.list_open() if alarm.kind is Fact.EXPORT_OVERDUE
    )


def change(store: str, **values: Any) -> None:
    with writing() as session:
        session.execute(update(Store).where(Store.id == store).values(**values))


def test_a_store_that_takes_the_catalogue_is_to_get_it_each_day():
    always = {"takes_catalogue": TakesCatalogue.ALWAYS}
    late = {"exported_at": now() - 2 * DAY - MINUTE}
    stored("nas", **always, exported_at=now() - 2 * DAY + HOUR)
    stored("begins", **always)
    stored("open", **late)  # without recipients it gets none
    stored("paused", **always, **late, is_paused=True)
    stored("never", **late, takes_catalogue=TakesCatalogue.NEVER, recipients=["age1"])
    assert exports_missed() == []
    stored("encrypted", **late, recipients=["age1"])
    change("nas", **late)
    assert exports_missed() == ["encrypted", "nas"]
    change("nas", exported_at=now())
    change("encrypted", is_paused=True)
    assert exports_missed() == []
    assert told().count("Resolved: The export of the catalogue to nas is overdue") == 1


def test_failing_exports_are_reported_earlier_and_with_their_error():
    failing = {"takes_catalogue": TakesCatalogue.ALWAYS, "export_error": "no room is left"}
    stored("nas", **failing, exported_at=now() - 29 * HOUR)
    assert exports_missed() == []
    change("nas", exported_at=now() - 31 * HOUR)
    assert exports_missed() == ["nas"]
    (alarm,) = alarms.list_open()
    assert "The last attempt failed: no room is left." in alarm.body
    assert "flask store export-catalogue nas" in alarm.body
    change("nas", exported_at=None)
    alarms.look(now())
    assert exports_missed() == ["nas"]
    change("nas", created_at=now() - 29 * HOUR)
    assert exports_missed() == []


def test_lost_copies_of_a_store_are_one_alarm_until_they_are_good_again(plant: Plant):
    stored(), stored("offsite")
    files = [plant(number * MINUTE) for number in range(1, 8)]
    copied(files[0], loss=Loss.DAMAGED)
    alarms.look(now())
    for filename in files:
        copied(filename, "offsite", loss=Loss.MISSING)
    alarms.look(now())
    assert {alarm.title for alarm in alarms.list_open()} == {
        "A copy is missing or damaged in nas",
        "7 copies are missing or damaged in offsite",
    }
    offsite = next(alarm for alarm in alarms.list_open() if alarm.subject == "offsite")
    assert f"In offsite: {', '.join(files[:5])} and 2 more." in offsite.body
    copied(files[0], loss=None, status=Status.PENDING)
    alarms.look(now())
    assert [alarm.subject for alarm in alarms.list_open()] == ["offsite"]


def test_many_stores_and_copies_cost_a_look_as_many_statements_as_one(plant: Plant):
    def cost() -> int:
        with counting() as statements:
            list(find_troubles(now()))
        return len(statements)

    filename = plant(8 * HOUR)
    stored("first"), copied(filename, "first", loss=Loss.MISSING)
    few = cost()
    for number in range(20):
        stored(f"s{number}"), copied(filename, f"s{number}", loss=Loss.MISSING)
    assert cost() == few


def test_a_disk_below_its_bound(make_app: Callable[..., Flask]):
    with make_app(alarm_free_space=2**60).app_context():
        alarms.look(now())
        assert kinds() == ["disk-low"]
    with make_app(alarm_free_space=1).app_context():
        alarms.look(now())
        assert kinds() == []


def seen(worker: str, at: datetime) -> None:
    with writing() as session:
        session.merge(Worker(id=worker, started_at=at, seen_at=at))


def gone(worker: str) -> None:
    with writing() as session:
        session.execute(delete(Worker).where(Worker.id == worker))


def test_a_worker_that_falls_silent_is_missed_after_two_heartbeats():
    at, worker = now(), claims.runner()
    alarms.look(at)
    assert kinds() == []  # none was ever there: cron may do it all
    seen(worker, at)
    alarms.look(at + 2 * HEARTBEAT)
    assert kinds() == []
    alarms.look(at + 2 * HEARTBEAT + timedelta(seconds=1))
    assert kinds() == ["worker-silent"]
    seen(worker, at + MINUTE)
    alarms.look(at + MINUTE)
    assert kinds() == []
    assert told() == ["No worker runs", "Resolved: No worker runs"]


def test_a_worker_that_ends_politely_is_missed_too():
    at, worker = now(), claims.runner()
    seen(worker, at)
    alarms.look(at)
    gone(worker)
    alarms.look(at + HEARTBEAT)
    assert kinds() == []  # it may be starting again
    alarms.look(at + 3 * HEARTBEAT)
    assert kinds() == ["worker-silent"]
    machine._alive_at.clear()  # another process, which has never seen it
    alarms.look(at + 4 * HEARTBEAT)
    assert kinds() == ["worker-silent"]
    alarms.look(at + timedelta(days=8))
    assert "worker-silent" not in kinds()  # nobody expects one any more


def test_work_that_waits_misses_a_worker(plant: Plant):
    plant(2 * HEARTBEAT + MINUTE, status=Status.PENDING, finished_at=None)
    alarms.look(now())
    assert kinds() == ["worker-silent"]


def test_one_silent_worker_among_others():
    at, here = now(), claims.runner()
    elsewhere = "elsewhere boot ns 42 17"
    seen(here, at + MINUTE)
    seen(elsewhere, at)
    alarms.look(at + MINUTE)
    (alarm,) = alarms.list_open()
    assert alarm.title == "A worker on elsewhere is silent"
    gone(elsewhere)
    alarms.look(at + MINUTE)
    assert kinds() == []


def test_a_notifier_that_takes_nothing_is_an_alarm_of_its_own():
    def delivery(key: str, **values: Any) -> None:
        with writing() as session:
            row = {"lane": "n", "notifier_id": "n", "key": key, "fact": "x", "level": "info"}
            session.add(Delivery(**row | {"title": "", "body": ""} | values))

    delivery("a", attempts=3, created_at=now() - HOUR)
    alarms.look(now())
    assert kinds() == ["notifier-failed"]
    delivery("b", attempts=1, status=DeliveryStatus.SENT, ended_at=now())
    alarms.look(now())
    assert kinds() == []


@pytest.mark.parametrize("status", [DeliveryStatus.QUEUED, DeliveryStatus.FAILED])
def test_a_test_of_a_notifier_raises_no_alarm(status: DeliveryStatus):
    """Neither while it is under way nor where it fails: who sent it sees what came of it."""
    notifier = db.session.get_one(Notifier, "n")
    db.session.commit()
    with writing() as session:
        sent = deliveries.queue_claimed(session, notifier, now(), fact="test", title="", body="")
        session.get_one(Delivery, sent).status = status
    alarms.look(now())
    assert kinds() == []


def test_hostile_names_and_texts_keep_to_their_line(plant: Plant, app: Flask):
    hostile = "x\r\nBcc: eve@example.org\x1b[2J\u202e"
    plant(MINUTE, **failed(error_message=hostile, error_detail="d" * 10_000))
    alarms.look(now())
    (delivery,) = db.session.scalars(select(Delivery))
    assert delivery.title.isprintable()
    assert all(line.isprintable() for line in delivery.body.split("\n"))
    assert len(delivery.body) <= 3000


def test_the_questions_do_not_grow_with_the_rows(plant: Plant):
    def asked() -> int:
        number = 0

        def count(*_: Any) -> None:
            nonlocal number
            number += 1

        event.listen(db.engine, "before_cursor_execute", count)
        alarms.look(now())
        event.remove(db.engine, "before_cursor_execute", count)
        return number

    plant(90 * MINUTE)
    alarms.look(now())
    first = asked()
    for number in range(60):
        plant(timedelta(minutes=61) - number * MINUTE)
    alarms.look(now())
    assert asked() <= first + 1  # that of their tables, once there are enough to compare
