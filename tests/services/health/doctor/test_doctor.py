"""All of it: what the parts find together."""

import pytest
from flask import Flask
from sqlalchemy import text

from app.config import settings as current_settings
from app.extensions import db
from app.services.health.doctor import dumps, examine, is_healthy
from app.services.jobs import workers
from tests.conftest import on_catalogues
from tests.services.health.doctor.conftest import OK, PROBLEM, WARNING, changed, make

pytestmark = pytest.mark.usefixtures("context")


@on_catalogues("sqlite", "postgresql")
def test_a_panel_with_worker_and_backup_has_nothing_to_complain_of():
    make()
    workers.beat()
    current_settings().backup_dir.chmod(0o700)
    findings = examine()
    assert [each for each in findings if each.state is not OK] == []
    assert is_healthy(findings)


@on_catalogues("sqlite", "postgresql")
def test_nothing_is_changed(app: Flask):
    def state() -> object:
        rows = [tuple(r) for t in db.metadata.sorted_tables for r in db.session.execute(t.select())]
        files = sorted(
            (path, path.stat().st_size, path.stat().st_mode)
            for folder in (current_settings().backup_dir, current_settings().instance_dir)
            for path in folder.rglob("*")
            if ".db" not in path.name
        )
        return rows, files

    make()
    before = state()
    examine()
    assert state() == before


def test_a_dead_server_is_one_problem_and_the_rest_is_told_as_not_examined(app: Flask):
    with changed(app, database_url="postgresql://ann:s3cret@127.0.0.1:1/shop"):
        findings = examine()
    by_subject = {each.subject: each for each in findings}
    assert by_subject["server"].state is PROBLEM
    assert 'no connection to database "shop"' in by_subject["server"].told
    assert by_subject["server"].hint
    for subject in ("server clock", "tables", "row security", "large objects"):
        assert by_subject[subject].state is WARNING
        assert by_subject[subject].told == "not examined: the server cannot be asked"
    assert by_subject["pg_dump"].state is WARNING
    assert "depends on the server" in by_subject["pg_dump"].told
    assert by_subject["catalogue"].state is OK
    assert "s3cret" not in str(findings)
    assert not is_healthy(findings)


@on_catalogues("sqlite", "postgresql")
def test_a_catalogue_that_fails_in_the_middle_is_told_without_its_password(
    app: Flask, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: object) -> None:
        db.session.execute(text('SELECT * FROM "s3cret or s3%63ret"'))

    monkeypatch.setattr(dumps.storage().__class__, "sizes", fail)
    with changed(app, queue_url="redis://user:s3%63ret@127.0.0.1/0"):
        findings = {each.subject: each for each in examine()}
    assert findings["dumps"].state is PROBLEM
    assert "***** or *****" in findings["dumps"].told
    assert "Background on this error" not in findings["dumps"].told
    assert findings["free space"].state is OK  # the session is usable again
