"""Retention in stores: what the rules see there, what goes, and what never does."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import delete, insert, select

from app.errors import ObjectLocked
from app.extensions import db, writing
from app.models import (
    AuditEntry,
    Copy,
    DatabaseBackup,
    Loss,
    Proof,
    Status,
    Store,
    StoreRetentionPolicy,
    Trigger,
)
from app.models.types import now
from app.services.backups import service as backups
from app.services.backups.pins import pin_backup
from app.services.copies import queue, service
from app.services.copies.mark import mark_key
from app.services.copies.removal import forget_removed
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database
from app.services.retention import policies
from app.services.retention import prune as pruning
from app.services.retention.after_copies import prune_after_copies
from app.services.retention.candidate import Candidate
from app.services.retention.in_stores import list_copy_candidates
from app.services.retention.rules import Policy, make_plan
from app.services.stores import service as stores
from app.services.stores.lookup import get_store
from app.services.stores.service import Changes
from app.stores import parse_store_url
from tests.conftest import on_catalogues
from tests.services.copies.conftest import inside, localbucket, lying, prefix, store
from tests.services.copies.test_run import content, copied, keys_in
from tests.services.health.test_figures import counting
from tests.services.retention import test_prune
from tests.services.retention.test_rules import BACKUPS, DAY, POLICIES, TIMES
from tests.stores.conftest import moto
from tests.stores.servers import Place, s3_client

__all__ = ["localbucket", "moto", "prefix", "store"]

pytestmark = [pytest.mark.usefixtures("context"), on_catalogues("sqlite")]

AddStore = Callable[..., Store]


def scheduled() -> DatabaseBackup:
    backup = backups.create_backup(trigger=Trigger.SCHEDULE, created_by="nightly")
    assert backup.is_completed, backup.error_message
    return backup


def confirmed(store: Store, **rules: Any) -> None:
    policies.set_policy(Policy(**rules), None, store, by="ann")
    policies.confirm_policy(Policy(**rules), None, store, by="ann")


@pytest.fixture
def nas(tmp_path: Path) -> Store:
    (tmp_path / "nas").mkdir()
    return stores.add_store("nas", f"file://{tmp_path}/nas", by="ann")


def prune(store: Store, **rules: Any) -> pruning.Pruned:
    policies.set_policy(Policy(**rules), None, store, by="ann")
    return pruning.prune(None, store, by="ann")


def test_a_confirmed_policy_applies_after_copies_of_scheduled_backups(store: AddStore):
    nas = store()
    made = [scheduled() for _ in range(2)]
    for backup in made:
        copied(backup)
    names = [backup.filename for backup in made]
    policies.set_policy(Policy(keep_last=1), None, nas, by="ann")
    assert policies.get_policy() == Policy()  # that of the backups here
    prune_after_copies()
    assert len(keys_in(nas)) == 4  # nobody has confirmed it
    assert [each.backup.filename for each in pruning.preview(None, nas).removing] == names[:1]
    policies.confirm_policy(Policy(keep_last=1), None, nas, by="ann")
    prune_after_copies()
    assert keys_in(nas) == {names[1], mark_key(names[1])}
    assert all(storage().has(name) for name in names)
    queue.copy_what_is_due()
    assert [copy.filename for copy in service.list_copies()] == names[1:]  # it is not made again
    entry = db.session.scalars(select(AuditEntry).filter_by(action="retention.prune")).one()
    assert (entry.subject, entry.actor) == (f"{default_database().name} in nas", "copies to nas")
    assert entry.detail == f"removed 1: {names[0]}"
    db.session.commit()
    with counting() as statements:
        prune_after_copies()
    assert len(statements) == 1
    again = service.copy_backup(names[0], "nas", trigger=Trigger.CLI, by="ann")
    queue.run_copy.call_local(again.id)
    assert service.get_copy(again.id).is_good
    prune_after_copies()
    assert len(keys_in(nas)) == 4  # somebody has asked for it; it goes after the next scheduled one


def test_a_store_has_a_policy_of_its_own_for_each_database(nas: Store, new_database):
    confirmed(nas, keep_last=1)
    assert policies.get_standing(None, nas).confirmed_at is not None
    policies.set_policy(Policy(keep_last=2), None, nas, by="ann")
    assert policies.get_standing(None, nas).confirmed_at is not None  # it removes less
    policies.set_policy(Policy(keep_daily=1), None, nas, by="ann")
    assert policies.get_standing(None, nas).waits
    assert policies.get_standing().is_empty
    stores.remove_store("nas", by="ann")
    assert db.session.scalar(select(StoreRetentionPolicy)) is None


def test_only_good_copies_count_and_a_lost_one_is_left_alone(nas: Store):
    lost = lying(nas, DAY, loss=Loss.MISSING)
    failed = lying(nas, 2 * DAY, status=Status.FAILED)
    good = [lying(nas, days * DAY) for days in (3, 4, 5)]
    partial = lying(nas, 9 * DAY, is_partial=True)
    done = prune(nas, keep_last=2)
    assert (done.removed, done.spared, done.failed) == (good[2:], {}, {})
    left = {lost, failed, *good[:2], partial}
    assert keys_in(nas) == left | {mark_key(name) for name in left}
    assert {copy.filename for copy in service.list_copies()} == left


def test_nothing_goes_when_the_newest_copy_is_not_in_the_store_after_all(nas: Store):
    newest, *others = [lying(nas, days * DAY) for days in (1, 2, 3)]
    inside(nas).delete(mark_key(newest))
    done = prune(nas, keep_last=1)
    assert done.removed == []
    assert done.spared == {others[1]: "the newest good copy is not in the store"}
    assert len(service.list_copies()) == 3


def test_copies_of_a_pinned_backup_and_one_pinned_meanwhile_stay(
    nas: Store, monkeypatch: pytest.MonkeyPatch
):
    made = [scheduled() for _ in range(3)]
    names = [backup.filename for backup in made]
    for backup in made:
        copied(backup)
    pin_backup(names[0], "audit", by="ann")
    plans = pruning._plans

    def pinned_meanwhile(*arguments: Any) -> Any:
        found = plans(*arguments)
        pin_backup(names[1], "audit", by="bob")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(pruning, "_plans", pinned_meanwhile)
        done = prune(nas, keep_last=1)
    assert (done.removed, done.spared) == ([], {names[1]: "it was pinned meanwhile"})
    backups.delete_backup(names[2])  # the newest good copy is now the only one of its backup
    assert prune(nas, keep_last=1).removed == []
    assert len(keys_in(nas)) == 6


def test_a_store_that_is_away_fails_once_and_keeps_all(nas: Store):
    for days in (1, 2, 3):
        lying(nas, days * DAY)
    with writing() as session:
        session.get_one(Store, nas.id).address = "s3://bucket/x?endpoint=http://127.0.0.1:1"
    away = get_store("nas")
    policies.set_policy(Policy(keep_last=1), None, away, by="ann")
    done = pruning.prune(None, away, by="ann")
    assert (done.removed, len(done.failed)) == ([], 1)
    assert len(service.list_copies()) == 3


@pytest.fixture
def vault(moto: Place, prefix: str) -> Store:
    """A store in a bucket that can lock objects."""
    bucket = f"vault-{prefix[-8:]}"
    s3_client(moto).create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    url = moto.url(prefix).replace("://copies/", f"://{bucket}/")
    return stores.add_store("nas", url, Changes(credentials=moto.credentials), by="ann")


def place_of(vault: Store, key: str) -> dict[str, str]:
    address = parse_store_url(vault.address)
    return {"Bucket": address.place, "Key": address.path(key)}


def test_a_locked_copy_is_told_as_such_counts_and_is_not_tried_again_at_once(
    moto: Place, vault: Store
):
    newest, oldest = lying(vault, DAY), lying(vault, 2 * DAY)
    everything = keys_in(vault)
    for key in everything:
        lock = {"Mode": "COMPLIANCE", "RetainUntilDate": now() + DAY}
        s3_client(moto).put_object_retention(**place_of(vault, key), Retention=lock)
    done = prune(vault, keep_last=1)
    assert (done.removed, done.failed) == ([], {})
    assert "is locked until" in done.spared[oldest]
    again = pruning.prune(None, vault, by="ann")
    assert (again.removed, again.spared, again.failed) == ([], {}, {})
    kept = {each.backup.filename: each.reasons for each in pruning.preview(None, vault).keeping}
    assert kept == {newest: ("last", "the newest good one"), oldest: ("locked in the store",)}
    tomorrow = now() + DAY + timedelta(minutes=1)
    assert len(pruning.preview(None, vault, at=tomorrow).removing) == 1
    with pytest.raises(ObjectLocked):
        service.remove_copy(service.get_copy_in(oldest, "nas").id, by="ann")
    assert keys_in(vault) == everything
    assert all(copy.is_good for copy in service.list_copies())


def test_a_copy_whose_object_alone_is_locked_keeps_its_mark(moto: Place, vault: Store):
    lying(vault, DAY)
    oldest = lying(vault, 2 * DAY)
    hold = {"Status": "ON"}
    s3_client(moto).put_object_legal_hold(**place_of(vault, oldest), LegalHold=hold)
    assert "legal hold" in prune(vault, keep_last=1).spared[oldest]
    assert content(vault, mark_key(oldest)) == b"{}"
    assert len(keys_in(vault)) == 4


def test_a_removed_copy_is_forgotten_once_its_backup_is_gone(nas: Store):
    backup = scheduled()
    service.remove_copy(copied(backup).id, by="ann")
    queue.copy_what_is_due()
    forget_removed()
    assert service.list_copies() == []
    assert db.session.scalar(select(Copy.filename)) == backup.filename
    db.session.commit()
    backups.delete_backup(backup.filename)
    forget_removed()
    assert db.session.scalar(select(Copy.filename)) is None


@given(BACKUPS, POLICIES, TIMES)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_catalogue_says_of_copies_what_the_rules_say_of_those_in_hand(nas, found, policy, at):
    in_hand = [each for each in map(as_copy, found) if not each.is_missing]
    written(nas, map(as_copy, found), at)
    candidates = list_copy_candidates(default_database(), nas, at)
    db.session.rollback()
    plan = make_plan(candidates, policy, at)
    assert plan == make_plan(in_hand, policy, at)
    stays = {each.backup.id for each in plan.keeping}
    counting_ones = [each for each in in_hand if not each.exemption(at)]
    assert not counting_ones or max(counting_ones, key=lambda each: each.key).id in stays
    assert {each.id for each in in_hand if each.pin is not None or each.hold} <= stays


def as_copy(each: Candidate) -> Candidate:
    hold = "locked in the store" if each.hold else ""
    changed = {"is_proven": each.is_proven or each.is_drilled, "hold": hold}
    return Candidate(**{name: getattr(each, name) for name in each.__slots__} | changed)


def written(nas: Store, candidates: Iterator[Candidate], at: datetime) -> None:
    database = default_database()
    with writing() as session:
        for model in (Copy, Proof, DatabaseBackup):
            session.execute(delete(model))
        for each in candidates:
            row = test_prune._row(each) | {"database_id": database.id}
            session.execute(insert(DatabaseBackup).values(row))
            session.add_all(test_prune._proofs(each))
            copy = Copy(id=each.id, store_id=nas.id, backup_id=each.id, trigger=Trigger.CLI)
            copy.filename, copy.dumped_at, copy.size = each.filename, each.created_at, each.size
            copy.status, copy.database_id = Status.COMPLETED, database.id
            copy.loss = Loss.MISSING if each.is_missing else None
            copy.locked_until = at + DAY if each.hold else None
            session.add(copy)
