"""Retention in the catalogue: what the rules see there, what goes, and what never does."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, current_app
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert, select

from app.errors import Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.models import (
    ActOutcome,
    AuditEntry,
    DatabaseBackup,
    Kind,
    Level,
    Proof,
    Restore,
    Result,
    Status,
    Trigger,
)
from app.services.audit.acting import Act, begin_act, end_act
from app.services.backups import checks, good, listing
from app.services.backups import service as backups
from app.services.backups.pins import pin_backup, unpin_backup
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database
from app.services.retention import policies
from app.services.retention import prune as pruning
from app.services.retention.candidate import Candidate
from app.services.retention.listing import list_candidates
from app.services.retention.rules import Policy, make_plan
from tests.api.test_downloads import planted
from tests.conftest import database_id
from tests.services.retention.test_rules import AT, BACKUPS, DAY, HOUR, POLICIES, PRUNED, TIMES

pytestmark = pytest.mark.usefixtures("context")

NAME = ("127.0.0.1:1", "shop")


@pytest.fixture
def app(make_app) -> Iterator[Flask]:
    """A panel of the database that `planted` speaks of."""
    return make_app(database_url="postgresql://u:p@127.0.0.1:1/shop")


def made(ago: timedelta, *, level: int | None = Level.READ, **values: Any) -> str:
    """A backup in catalogue and storage, with a proof."""
    moment = AT - ago
    name = f"backup_{moment:%Y-%m-%dT%H-%M-%S}-{moment.microsecond // 1000:03d}Z.dump"
    planted(current_app, filename=name, created_at=moment, **values)
    if level is not None:
        prove(name, level)
    return name


def prove(filename: str, level: int = Level.READ, result: Result = Result.PASSED) -> None:
    backup_id = db.session.scalar(select(DatabaseBackup.id).filter_by(filename=filename))
    with writing() as session:
        session.add(
            Proof(backup_id=backup_id, level=level, result=result, milliseconds=1, evidence={})
        )


def listed() -> set[str]:
    found = set(db.session.scalars(select(DatabaseBackup.filename)))
    db.session.commit()
    return found


def confirmed(**rules: Any) -> None:
    """A policy that may remove backups after each scheduled one."""
    policies.set_policy(Policy(**rules), by="ann")
    policies.confirm_policy(Policy(**rules), by="ann")


def prune(**rules: Any) -> pruning.Pruned:
    policies.set_policy(Policy(**rules), by="ann")
    return pruning.prune(by="ann", at=AT)


@pytest.fixture
def written(app: Flask) -> Any:
    """Write down backups as rows, as a plan sees them in hand."""

    def write(candidates: list[Candidate]) -> None:
        with writing() as session:
            session.execute(delete(Restore))
            session.execute(delete(Proof))
            session.execute(delete(DatabaseBackup))
            for number, each in enumerate(candidates):
                session.execute(insert(DatabaseBackup).values(_row(each)))
                for proof in _proofs(each):
                    session.add(proof)
                if each.hold:
                    session.add(_restore(each, number))
        for each in candidates:
            file = storage().folder / each.filename
            file.unlink(missing_ok=True)
            if not each.is_missing:
                file.touch()

    storage().folder.mkdir(exist_ok=True)
    return write


def _row(each: Candidate) -> dict[str, Any]:
    return {
        "id": each.id,
        "filename": each.filename,
        "created_at": each.created_at,
        "size": each.size,
        "status": Status.COMPLETED,
        "database_id": database_id(*NAME),
        "server": NAME[0],
        "database": NAME[1],
        "trigger": Trigger.CLI,
        "foreign": each.is_foreign,
        "pinned_at": AT if each.pin is not None else None,
        "pin_reason": each.pin or "",
    }


def _proofs(each: Candidate) -> Iterator[Proof]:
    def proof(level: int, result: Result) -> Proof:
        return Proof(backup_id=each.id, level=level, result=result, milliseconds=1, evidence={})

    yield proof(Level.READ if each.is_proven else Level.CHECKSUM, Result.PASSED)
    if each.is_drilled:
        yield proof(Level.RESTORED, Result.PASSED)
    if each.is_damaged:
        failed = proof(Level.RESTORED, Result.FAILED)
        failed.proved_at = AT + 5000 * DAY
        failed.evidence = {"found": []}
        yield failed


def _restore(each: Candidate, number: int) -> Restore:
    return Restore(
        filename=f"other_{number}.dump",
        kind=Kind.REPLACE,
        server=NAME[0],
        database=NAME[1],
        working=f"w{number}",
        trigger=Trigger.CLI,
        status=Status.COMPLETED,
        safety_backup=each.filename,
        finished_at=AT + 5000 * DAY,
    )


@given(BACKUPS, POLICIES, st.tuples(TIMES, PRUNED))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_catalogue_says_what_the_rules_say_of_backups_in_hand(written, found, policy, when):
    at, pruned_at = when
    # Only what was proven could be drilled.
    found = [
        Candidate(**{name: getattr(each, name) for name in each.__slots__} | changed(each))
        for each in found
    ]
    written(found)
    candidates = list_candidates(default_database(), at)
    db.session.rollback()
    assert make_plan(candidates, policy, at, pruned_at) == make_plan(found, policy, at, pruned_at)


def changed(each: Candidate) -> dict[str, Any]:
    hold = "made before a restore, to take it back" if each.hold else ""
    return {"is_proven": each.is_proven or each.is_drilled, "hold": hold}


def test_what_no_rule_keeps_goes_with_its_file_and_what_is_kept_stays():
    names = [made(days * DAY) for days in range(5)]
    others = [made(9 * DAY, server="elsewhere"), made(9.5 * DAY, status=Status.FAILED)]
    done = prune(keep_last=2)
    assert (sorted(done.removed), done.spared, done.failed) == (sorted(names[2:]), {}, {})
    assert done.size == 3 * 10_245
    assert listed() == {*names[:2], *others}
    assert sorted(storage().sizes()) == sorted([*names[:2], others[0]])
    assert prune(keep_last=2).removed == []


def test_a_preview_changes_nothing_and_tells_all():
    names = [made(days * DAY) for days in range(3)]
    policies.set_policy(Policy(keep_last=1), by="ann")
    told = pruning.preview(at=AT)
    assert [each.backup.filename for each in told.removing] == names[1:]
    assert [each.reasons for each in told.keeping] == [("last", "the newest good one")]
    assert (told.removed.number, told.kept.number, told.excess) == (2, 1, 0)
    other = pruning.preview(at=AT, policy=Policy(max_total_size=1), limit=1)
    assert (len(other.removing), other.removed.number) == (1, 2)
    assert other.excess == 10_244
    assert len(listed()) == 3


def test_without_a_policy_nothing_goes():
    made(timedelta(0))
    made(5000 * DAY)
    assert pruning.prune(by="ann", at=AT).removed == []
    assert len(listed()) == 2


def test_a_missing_file_or_one_that_cannot_be_removed_stops_no_other(monkeypatch):
    names = [made(days * DAY) for days in range(5)]
    (storage().folder / names[2]).unlink()
    stubborn = storage().folder / names[3]
    stubborn.unlink()
    stubborn.mkdir()
    done = prune(keep_last=1)
    assert sorted(done.removed) == sorted([names[1], names[2], names[4]])
    assert list(done.failed) == [names[3]]
    assert listed() == {names[0], names[3]}


def test_who_reads_a_dump_keeps_it_from_going():
    newest, old = made(timedelta(0)), made(DAY)
    _, file = backups.open_backup(old)
    with file:
        assert prune(keep_last=1).spared == {old: "it is being read"}
    assert prune(keep_last=1).removed == [old]
    assert listed() == {newest}


def test_what_a_restore_needs_is_kept():
    newest, restored, saved, old = [made(days * DAY) for days in range(4)]
    with writing() as session:
        common = {"server": NAME[0], "database": NAME[1], "trigger": Trigger.CLI}
        session.add(Restore(filename=restored, kind=Kind.DRILL, working="a", **common))
        done = Restore(filename=newest, kind=Kind.REPLACE, working="b", **common)
        done.status, done.safety_backup, done.finished_at = Status.COMPLETED, saved, AT - 6 * DAY
        session.add(done)
    told = {
        e.backup.filename: e.reasons
        for e in pruning.preview(at=AT, policy=Policy(keep_last=1)).keeping
    }
    assert told[restored] == ("being restored",)
    assert told[saved] == ("made before a restore, to take it back",)
    assert prune(keep_last=1).removed == [old]
    assert pruning.prune(by="ann", at=AT + 2 * DAY).removed == [saved]


def test_a_pin_that_comes_meanwhile_wins(monkeypatch):
    names = [made(days * DAY) for days in range(4)]

    def pins_the_second(filename, refuse, remove=backups.remove_backup):
        if filename == names[3]:
            pin_backup(names[2], "audit", by="bob")
        remove(filename, refuse)

    monkeypatch.setattr(pruning, "remove_backup", pins_the_second)
    done = prune(keep_last=1)
    assert done.removed == [names[3], names[1]]
    assert done.spared == {names[2]: "it was pinned meanwhile"}


def test_the_audit_tells_what_a_prune_removed_and_what_it_spared(monkeypatch):
    names = [made(days * DAY) for days in range(4)]

    def pins_the_second(filename, refuse, remove=backups.remove_backup):
        if filename == names[2]:
            pin_backup(filename, "needed", by="bob")
        remove(filename, refuse)

    monkeypatch.setattr(pruning, "remove_backup", pins_the_second)
    act = Act("retention.prune", Trigger.ADMIN)
    begin_act(act)
    prune(keep_last=1)
    assert end_act() is act
    assert act.outcome is ActOutcome.DONE
    assert act.detail == (
        f"removed 2: {names[3]}, {names[1]}; spared 1: {names[2]} (it was pinned meanwhile)"
    )


@pytest.mark.parametrize("loss", ["row", "file", "proof"])
def test_nothing_more_goes_once_the_newest_good_one_is_lost(monkeypatch, loss: str):
    names = [made(days * DAY) for days in range(4)]

    def loses_the_newest(filename, refuse, remove=backups.remove_backup):
        if filename == names[2]:
            if loss == "row":
                remove(names[0], lambda _: None)
            elif loss == "file":
                (storage().folder / names[0]).unlink()
            else:
                prove(names[0], result=Result.FAILED)
        remove(filename, refuse)

    monkeypatch.setattr(pruning, "remove_backup", loses_the_newest)
    done = prune(keep_last=1)
    assert done.removed == [names[3]]
    assert done.spared == {names[2]: "the newest good backup is no longer good"}
    assert {names[1], names[2]} <= listed()


def test_where_no_file_is_there_nothing_goes():
    names = {made(days * DAY) for days in range(3)}
    storage().folder.rename(storage().folder.with_name("elsewhere"))
    assert prune(keep_last=1) == pruning.Pruned()
    assert listed() == names


def test_a_prune_that_lies_ahead_tells_of_a_clock_that_was_set_back():
    for each in range(3):
        made(each * HOUR)
    made(2 * DAY)
    policies.set_policy(Policy(keep_last=1), by="ann")
    policies.note_prune(default_database(), AT + HOUR)
    assert len(pruning.prune(by="ann", at=AT).removed) == 1
    assert len(pruning.prune(by="ann", at=AT + 2 * HOUR).removed) == 2


def test_after_a_scheduled_backup_its_database_is_pruned_and_nothing_is_raised(monkeypatch):
    newest, _ = made(timedelta(0)), made(DAY)
    backup = db.session.scalar(select(DatabaseBackup).filter_by(filename=newest))
    pruning.prune_after.call_local(backup.id)
    assert len(listed()) == 2
    confirmed(keep_last=1)
    pruning.prune_after.call_local(backup.id)
    assert listed() == {newest}
    monkeypatch.setattr(pruning, "list_candidates", None)
    pruning.prune_after.call_local(backup.id)


def test_what_goes_after_a_scheduled_backup_is_in_the_audit():
    newest, old = made(HOUR), made(9 * DAY)
    confirmed(keep_last=1)
    backup = listing.get_backup(newest)
    for _ in range(2):  # and nothing where nothing goes
        pruning.prune_after.call_local(backup.id)
    (entry,) = db.session.scalars(select(AuditEntry))
    assert (entry.action, entry.face, entry.actor) == (
        "retention.prune", "schedule", backup.created_by,
    )  # fmt: skip
    assert (entry.subject, entry.detail) == (backup.database, f"removed 1: {old}")


def test_a_policy_that_nobody_has_confirmed_removes_nothing_by_itself():
    newest, _ = made(HOUR), made(9 * DAY)
    policies.set_policy(Policy(keep_last=1), by="ann")
    told = pruning._prune_after(listing.get_backup(newest))
    assert told.startswith("retention would remove 1 backup (")
    assert told.endswith(") if its policy were confirmed")
    assert len(listed()) == 2
    policies.confirm_policy(policies.get_policy(), by="ann")
    told = pruning._prune_after(listing.get_backup(newest))
    assert told.startswith("retention removed 1 backup (")
    assert listed() == {newest}
    standing = policies.get_standing()
    assert (standing.waits, standing.removed.number) == (False, 1)
    assert pruning._prune_after(listing.get_backup(newest)) == ""
    assert policies.get_standing() == standing


def test_a_prune_that_an_admin_asks_for_confirms_the_policy():
    made(HOUR)
    prune(keep_last=1)
    assert not policies.get_standing().waits


def test_a_confirmation_is_of_the_policy_that_was_looked_at():
    policies.set_policy(Policy(keep_last=5), by="ann")
    policies.set_policy(Policy(keep_last=1), by="bob")
    with pytest.raises(Conflict, match="changed meanwhile"):
        policies.confirm_policy(Policy(keep_last=5), by="ann")
    assert policies.get_standing().waits


@pytest.mark.parametrize(
    ("before", "after", "waits"),
    [
        (Policy(), Policy(keep_last=100), True),
        (Policy(keep_last=3), Policy(), False),
        (Policy(keep_last=3), Policy(keep_last=3), False),
        (Policy(keep_last=3), Policy(keep_last=4, keep_daily=7), False),
        (Policy(keep_last=3), Policy(keep_last=2), True),
        (Policy(keep_last=3, keep_daily=7), Policy(keep_last=30), True),
        (Policy(keep_within=2 * DAY), Policy(keep_within=3 * DAY), False),
        (Policy(keep_within=2 * DAY), Policy(keep_within=DAY), True),
        (Policy(keep_daily=7), Policy(keep_daily=7, time_zone="Asia/Tokyo"), True),
        (Policy(keep_last=3), Policy(keep_last=3, max_total_size=10), True),
        (Policy(max_total_size=10), Policy(max_total_size=20), False),
        (Policy(max_total_size=10), Policy(max_total_size=9), True),
        (Policy(max_total_size=10), Policy(keep_last=1), True),
        (Policy(keep_last=3, max_total_size=9), Policy(keep_last=3), False),
        (Policy(keep_last=3, max_total_size=9), Policy(keep_last=4, max_total_size=9), True),
    ],
)
def test_a_policy_that_may_remove_more_is_confirmed_anew(
    before: Policy, after: Policy, waits: bool
):
    policies.set_policy(before, by="ann")
    policies.confirm_policy(policies.get_policy(), by="ann")
    policies.set_policy(after, by="ann")
    assert policies.get_standing().waits is waits


def test_the_number_of_queries_does_not_grow_with_the_backups():
    def asked() -> int:
        number = []
        event.listen(db.engine, "before_cursor_execute", heard := lambda *_: number.append(1))
        pruning.preview(at=AT, policy=Policy(keep_last=3, keep_daily=3, keep_yearly=2), limit=5)
        event.remove(db.engine, "before_cursor_execute", heard)
        return len(number)

    for each in range(10):
        made(each * HOUR)
    few = asked()
    with writing() as session:
        for each in range(10, 800):
            moment = AT - each * HOUR
            row = Candidate(f"n{each}", f"n{each}.dump", moment)
            (storage().folder / row.filename).touch()
            session.execute(insert(DatabaseBackup).values(_row(row)))
            session.add_all(_proofs(row))
    assert asked() == few


# Policies


def test_a_policy_is_kept_for_each_database():
    assert policies.get_policy() == Policy()
    whole = Policy(1, 2, 3, 4, 5, 6, 36 * HOUR, 10**15, "Europe/Berlin")
    assert policies.set_policy(whole, by="ann") == whole
    assert policies.get_policy() == whole
    assert policies.set_policy(Policy(keep_last=0), by="ann") == Policy()


@pytest.mark.parametrize(
    "wrong",
    [
        Policy(keep_last=-1),
        Policy(keep_yearly=1001),
        Policy(keep_within=timedelta(minutes=90)),
        Policy(max_total_size=-1),
        Policy(max_total_size=2**63),
        *(Policy(time_zone=each) for each in ("", "Mars", "../../etc/passwd", "Europe", "\0")),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong: Policy):
    with pytest.raises(InvalidInput):
        policies.set_policy(wrong, by="ann")
    assert policies.get_policy() == Policy()


def test_sizes_are_read():
    for text, size in (("0", 0), ("1 KiB", 1024), ("1.5g", 3 * 2**29), ("2TB", 2**41)):
        assert policies.size_of(text) == size
    for text in ("", "x", "-1", "1 XB", "9999999P", "1e9"):
        with pytest.raises(InvalidInput):
            policies.size_of(text)


# Pins, and what is not deleted in passing


def test_a_pin_is_kept_in_row_and_manifest_and_can_be_taken_back(app: Flask):
    _, second = made(timedelta(0)), made(DAY)
    pinned = pin_backup(second, "  audit 2025 ", by="ann")
    assert (pinned.pin_reason, pinned.pinned_by, pinned.is_pinned) == ("audit 2025", "ann", True)
    assert prune(keep_last=1).removed == []
    assert not unpin_backup(second, by="bob").is_pinned
    assert prune(keep_last=1).removed == [second]


def test_a_pin_comes_back_with_a_rebuild():
    name = made(timedelta(0))
    pin_backup(name, "audit", by="ann")
    with writing() as session:
        session.execute(delete(Proof))
        session.execute(delete(DatabaseBackup))
    assert [each.filename for each in checks.rebuild()] == [name]
    found = listing.get_backup(name)
    assert (found.pin_reason, found.pinned_by, found.is_pinned) == ("audit", "ann", True)
    assert [each.is_good for each in checks.check_backups()] == [True]
    with writing():  # edited, and its manifest is not written yet
        row = listing.get_backup(name)
        row.pin_reason, row.manifest_stale, row.server_version = "trial", True, "?"
    assert [each.is_good for each in checks.rebuild()] == [False]
    assert listing.get_backup(name).pin_reason == "trial"


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "two\nlines", "\x1b[2J"])
def test_a_pin_wants_a_reason(reason: str):
    name = made(timedelta(0))
    with pytest.raises(InvalidInput, match="the reason must have"):
        pin_backup(name, reason, by="ann")


def test_only_a_completed_backup_is_pinned():
    with pytest.raises(Conflict, match="has no dump to keep"):
        pin_backup(made(timedelta(0), status=Status.FAILED), "why", by="ann")
    with pytest.raises(NotFound):
        pin_backup("backup_none.dump", "why", by="ann")


def test_a_pinned_backup_is_deleted_only_after_it_was_unpinned():
    old = made(DAY)
    pin_backup(old, "audit", by="ann")
    with pytest.raises(Conflict, match="is pinned: unpin it first"):
        backups.delete_backup(old)
    unpin_backup(old, by="ann")
    backups.delete_backup(old)
    assert listed() == set()


def test_the_last_good_backup_of_a_database_is_known_as_such():
    last = made(timedelta(0))
    failed, damaged, lost = made(DAY, status=Status.FAILED), made(2 * DAY), made(3 * DAY)
    foreign, other = made(4 * DAY, foreign=True), made(5 * DAY, database="other")
    prove(damaged, result=Result.FAILED)
    (storage().folder / lost).unlink()

    def last_good() -> set[str]:
        names = (last, failed, damaged, lost, foreign, other)
        found = {each for each in names if good.is_last_good(listing.get_backup(each))}
        db.session.commit()  # what is planted next shall be seen
        return found

    assert last_good() == {last, other}
    second = made(6 * DAY)
    assert last_good() == {other}
    backups.delete_backup(second)
    assert last_good() == {last, other}
    for each in (last, failed, damaged, lost, foreign, other):
        backups.delete_backup(each)
    assert listed() == set()
