"""Retention and pins over the API."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.extensions import writing
from app.models import DatabaseBackup, Level, Proof, Result
from app.models.types import now
from app.services.stores.service import add_store
from tests.api.test_downloads import dump_of, planted
from tests.conftest import PASSWORD, panel_in, signed_in
from tests.services.copies.conftest import lying

RETENTION = "/api/admin/retention"
BACKUP = "/api/admin/backup"
NOTHING = {
    "keepLast": None, "keepHourly": None, "keepDaily": None, "keepWeekly": None,
    "keepMonthly": None, "keepYearly": None, "keepWithin": None, "maxTotalSize": None,
    "timeZone": "UTC",
}  # fmt: skip


@pytest.fixture
def panel(tmp_path, sqlite_template):
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


@pytest.fixture
def ann(panel: Flask) -> FlaskClient:
    return signed_in(panel)


def proven(app: Flask, days: float, **values: Any) -> str:
    """A backup that counts."""
    moment = now() - timedelta(days=days)
    name = planted(app, created_at=moment, **values)
    with app.app_context(), writing() as session:
        backup_id = session.query(DatabaseBackup.id).filter_by(filename=name).scalar()
        passed = {"level": Level.READ, "result": Result.PASSED, "milliseconds": 1}
        session.add(Proof(backup_id=backup_id, **passed))
    return name


def test_the_policy_is_read_and_replaced_whole(ann: FlaskClient):
    assert ann.get(RETENTION).get_json()["policy"] == NOTHING
    wanted = {"keepLast": 3, "keepWithin": "1w12h", "maxTotalSize": 2**40, "timeZone": "Asia/Tokyo"}
    answer = ann.put(RETENTION, json=wanted)
    assert answer.get_json()["policy"] == NOTHING | wanted | {"keepWithin": "7d12h"}
    assert ann.put(RETENTION, json={"keepDaily": 7}).status_code == 200
    assert ann.get(RETENTION).get_json()["policy"] == NOTHING | {"keepDaily": 7}


@pytest.mark.parametrize(
    "wrong",
    [
        {"keepLast": -1}, {"keepLast": "3"}, {"keepLast": 1.5}, {"keepLast": True},
        {"keepDaily": 10**30}, {"keepWithin": 30}, {"keepWithin": "soon"}, {"keepWithin": ["1d"]},
        {"maxTotalSize": "1 GiB"}, {"maxTotalSize": -1}, {"timeZone": "Mars"}, {"timeZone": 1},
        {"timeZone": None}, {"keep_last": 3}, {"keepForever": True},
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(ann: FlaskClient, wrong: dict[str, Any]):
    answer = ann.put(RETENTION, json=wrong)
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert ann.get(RETENTION).get_json()["policy"] == NOTHING


def test_a_plan_and_a_dry_run_tell_what_a_prune_then_does(panel: Flask, ann: FlaskClient):
    names = [proven(panel, days) for days in (0.01, 1, 2)]
    ann.put(RETENTION, json={"keepLast": 1})
    plan = ann.get(f"{RETENTION}/plan").get_json()
    assert [each["filename"] for each in plan["removing"]] == names[1:]
    assert plan["removing"][0]["reasons"] == ["no rule keeps it"]
    assert plan["keeping"][0]["reasons"] == ["last", "the newest good one"]
    assert (plan["removed"]["number"], plan["kept"]["number"], plan["excess"]) == (2, 1, 0)
    dry = ann.post(f"{BACKUP}/prune", json={"dryRun": True}).get_json()
    assert dry == {"success": True, "dryRun": True, "plan": plan}
    short = ann.get(f"{RETENTION}/plan?limit=1").get_json()
    assert (len(short["removing"]), short["removed"]["number"]) == (1, 2)
    for wrong in ("limit=x", "limit=-1", "dryRun=1"):
        assert ann.get(f"{RETENTION}/plan?{wrong}").status_code == 422
    for unclear in ("yes", 1, "true", None):
        assert ann.post(f"{BACKUP}/prune", json={"dryRun": unclear}).status_code == 422
    assert dump_of(panel, names[2]).exists()
    done = ann.post(f"{BACKUP}/prune").get_json()
    assert sorted(done["pruned"]["removed"]) == sorted(names[1:])
    assert (done["success"], done["pruned"]["spared"]) == (True, {})
    assert [each["filename"] for each in ann.get(BACKUP).get_json()["backups"]] == names[:1]


def test_a_new_policy_says_what_would_go_and_waits_until_it_is_confirmed(
    panel: Flask, ann: FlaskClient
):
    names = [proven(panel, days) for days in (0.01, 1, 2)]
    saved = ann.put(RETENTION, json={"keepLast": 1}).get_json()
    assert saved["confirmedAt"] is None
    assert saved["nextPruneAt"] is None
    assert saved["wouldRemove"]["number"] == 2
    assert saved["wouldRemove"]["filenames"] == names[1:]
    assert "until it is confirmed" in saved["outlook"]
    confirmed = ann.post(f"{RETENTION}/confirm").get_json()
    assert confirmed["confirmedAt"]
    assert confirmed["lastRemoval"] is None
    assert dump_of(panel, names[2]).exists()
    ann.post(f"{BACKUP}/prune")
    last = ann.get(RETENTION).get_json()["lastRemoval"]
    assert (last["number"], last["size"] > 0) == (2, True)
    assert ann.put(RETENTION, json={"keepLast": 2}).get_json()["confirmedAt"]
    assert ann.put(RETENTION, json={"keepLast": 1}).get_json()["confirmedAt"] is None


def test_a_backup_is_pinned_and_unpinned(panel: Flask, ann: FlaskClient):
    name = proven(panel, 1)
    answer = ann.post(f"{BACKUP}/{name}/pin", json={"reason": "audit <b>"}).get_json()["backup"]
    assert (answer["pinReason"], answer["pinnedBy"]) == ("audit <b>", "admin")
    assert answer["pinnedAt"]
    assert ann.get(f"{BACKUP}?q=AUDIT").get_json()["backups"][0]["filename"] == name
    for wrong in ({}, {"reason": ""}, {"reason": 5}, {"reason": "a\nb"}, {"reason": "x" * 201}):
        assert ann.post(f"{BACKUP}/{name}/pin", json=wrong).status_code == 422
    assert ann.delete(f"{BACKUP}/{name}/pin").get_json()["backup"]["pinnedAt"] is None
    assert ann.post(f"{BACKUP}/no.dump/pin", json={"reason": "why"}).status_code == 404


def test_a_pinned_backup_is_deleted_only_after_it_was_unpinned(panel: Flask, ann: FlaskClient):
    pinned, last = proven(panel, 1), proven(panel, 0.01)
    ann.post(f"{BACKUP}/{pinned}/pin", json={"reason": "audit"})
    answer = ann.delete(f"{BACKUP}/{pinned}")
    assert (answer.status_code, "unpin it first" in answer.get_json()["title"]) == (409, True)
    assert "audit" in answer.get_json()["detail"]
    assert ann.delete(f"{BACKUP}/{pinned}", json={"password": PASSWORD}).status_code == 422
    assert dump_of(panel, pinned).exists()
    ann.delete(f"{BACKUP}/{pinned}/pin")
    for each in (pinned, last):
        assert ann.delete(f"{BACKUP}/{each}").status_code == 200
    assert ann.get(BACKUP).get_json()["backups"] == []


def lying_in_a_store(panel: Flask, folder: Path) -> list[str]:
    """Three copies in a store named `nas`, the newest first."""
    (folder / "nas").mkdir()
    with panel.app_context():
        nas = add_store("nas", f"file://{folder}/nas", by="ann")
        return [lying(nas, timedelta(days=days)) for days in (1, 2, 3)]


def test_the_policy_of_a_store_is_set_confirmed_and_carried_out(
    panel: Flask, ann: FlaskClient, tmp_path: Path
):
    names = lying_in_a_store(panel, tmp_path)
    local = ann.get(RETENTION).get_json()
    saved = ann.put(RETENTION, json={"store": "nas", "keepLast": 1}).get_json()
    assert (saved["store"], saved["confirmedAt"]) == ("nas", None)
    assert saved["wouldRemove"]["filenames"] == names[1:]
    assert ann.get(RETENTION).get_json() == local
    plan = ann.get(f"{RETENTION}/plan?store=nas").get_json()
    assert [each["filename"] for each in plan["removing"]] == names[1:]
    dry = ann.post(f"{BACKUP}/prune", json={"store": "nas", "dryRun": True}).get_json()
    assert dry["plan"] == plan
    assert ann.post(f"{RETENTION}/confirm?store=nas").get_json()["confirmedAt"]
    done = ann.post(f"{BACKUP}/prune", json={"store": "nas"}).get_json()
    assert sorted(done["pruned"]["removed"]) == sorted(names[1:])
    assert ann.get(f"{RETENTION}?store=nas").get_json()["lastRemoval"]["number"] == 2
    left = ann.get("/api/admin/copies").get_json()["copies"]
    assert [copy["filename"] for copy in left] == names[:1]
    assert ann.get(f"{RETENTION}?store=nothing").status_code == 404
