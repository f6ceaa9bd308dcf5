"""A store is tested step by step, saved or not; the audit knows of it."""

import json
from pathlib import Path

import pytest

from app.errors import Busy, InvalidInput, NotFound
from app.models import ActOutcome, Trigger
from app.services.audit.acting import Act, begin_act, end_act
from app.services.stores import service, store_test
from app.services.stores.ownership import MARKER
from app.services.stores.service import Asking, Changes
from app.services.stores.store_test import OPEN, OWNER, STEPS, check_saved, check_url
from app.steps import is_passed
from tests.stores.servers import KEYS, Place

pytestmark = pytest.mark.usefixtures("context")

CANARY = "canary-secret"


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    folder.mkdir()
    return folder


def test_every_step_of_a_folder_passes_and_nothing_is_left(nas: Path):
    steps = check_url(f"file://{nas}")
    assert tuple(step.name for step in steps) == STEPS
    assert is_passed(steps)
    assert steps[-1].detail == "nobody yet"
    assert [path for path in nas.rglob("*") if path.is_file()] == []


def test_a_saved_store_is_marked_as_ours_by_its_test(nas: Path):
    asking = Asking(is_asked=False)
    service.add_store("nas", f"file://{nas}", asking=asking, by="ann")
    assert is_passed(check_saved("nas"))
    assert (nas / MARKER).exists()
    assert check_url(f"file://{nas}")[-1].detail == "this panel"
    with pytest.raises(NotFound):
        check_saved("none")


def test_another_panel_is_named_and_nothing_is_marked(nas: Path):
    (nas / MARKER).write_text(json.dumps({"panel": "theirs", "host": "db2"}))
    service.add_store("nas", f"file://{nas}", asking=Asking(is_asked=False), by="ann")
    for steps in (check_url(f"file://{nas}"), check_saved("nas")):
        assert [step.name for step in steps if step.passed is False] == [OWNER]
        assert "another panel on db2" in steps[-1].detail
    assert json.loads((nas / MARKER).read_text())["panel"] == "theirs"


def test_a_folder_that_is_not_there_fails_and_the_audit_says_so(tmp_path: Path):
    begin_act(Act("store.test", Trigger.ADMIN))
    steps = check_url(f"file://{tmp_path}/none")
    act = end_act()
    assert [step.name for step in steps if step.passed is False] == ["write"]
    assert steps[-1].detail == "not tried"
    assert act is not None
    assert (act.outcome, act.detail) == (ActOutcome.FAILED, "failed: write")
    assert act.subject == f"file://{tmp_path}/none"


def test_credentials_of_another_kind_are_named_and_stay_secret(nas: Path):
    steps = check_url(f"file://{nas}", Changes(credentials={"password": CANARY}))
    assert [step.name for step in steps if step.passed is False] == [OPEN]
    assert "unknown credentials" in steps[0].detail
    assert CANARY not in str(steps)
    with pytest.raises(InvalidInput):
        check_url(f"sftp://u:{CANARY}@host/x")


def test_a_bucket_that_is_not_there_is_named(localbucket: Place, prefix: str):
    url = localbucket.url(prefix)
    assert is_passed(check_url(url, Changes(credentials=KEYS)))
    steps = check_url(url.replace("//copies", "//none"), Changes(credentials=KEYS))
    assert "bucket does not exist" in next(step.detail for step in steps if step.passed is False)
    assert KEYS["secret_access_key"] not in str(steps)


def test_too_many_tests_at_once_are_refused(nas: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_test._tests, "_value", 0)
    with pytest.raises(Busy, match="too many tests"):
        check_url(f"file://{nas}")
