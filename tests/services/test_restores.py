"""Drills and restores, of real dumps on a real server."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import delete

from app.errors import Conflict, InvalidInput
from app.extensions import writing
from app.models import Kind, Level, Proof, Result, Status, Trigger
from app.models.types import now
from app.services.backups import service as backups
from app.services.jobs import claims
from app.services.proofs import records as proofs
from app.services.restores import service as restores
from app.services.restores.request import RestoreRequest, refuse_unconfirmed
from app.services.restores.source import get_source
from tests.conftest import Database, url_of

pytestmark = pytest.mark.usefixtures("context")


def backup() -> str:
    made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    assert made.is_completed, made.error_message
    return made.filename


def restored(filename: str, kind: Kind, **more: str):
    row = restores.create_restore(
        RestoreRequest(get_source(filename), kind, trigger=Trigger.CLI, created_by="ann", **more)
    )
    assert row.is_completed, (row.error_message, row.error_detail, row.log)
    return row


def others(database: Database) -> list[tuple[str]]:
    """Databases and roles that a restore could have left behind."""
    return database.run(
        "SELECT datname FROM pg_database WHERE datname LIKE 'backstop\\_%%'"
        " UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'backstop\\_%%'"
    )


def test_a_drill_proves_a_backup_and_leaves_nothing(shop: Database):
    filename = backup()
    row = restored(filename, Kind.DRILL)
    assert row.result["differences"] == []
    assert (row.result["tables"], row.result["rows"]) == (2, 550)
    assert others(shop) == []
    read, drilled = reversed(proofs.list_proofs(row_id(filename)))
    assert (read.level, read.result) == (Level.READ, Result.PASSED)
    assert (drilled.level, drilled.result) == (Level.RESTORED, Result.PASSED)
    assert drilled.milliseconds > 0


def row_id(filename: str) -> str:
    return backups.get_backup(filename).id


def test_a_restore_beside_makes_a_database_like_the_old_one(shop: Database, server):
    filename = backup()
    row = restored(filename, Kind.BESIDE)
    new = Database(row.database, url_of(server, row.database))
    try:
        for table in ("customers", "orders"):
            rows = f"SELECT md5(string_agg(t::text, '|' ORDER BY t)) FROM {table} t"
            assert new.run(rows) == shop.run(rows)
        assert others(shop) == []
    finally:
        shop.run(f'DROP DATABASE IF EXISTS "{row.database}"')


def test_a_replace_brings_the_old_rows_back_and_can_be_undone(shop: Database):
    filename = backup()
    shop.run("DELETE FROM orders; CREATE TABLE newer (id int)")
    row = restored(filename, Kind.REPLACE)
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]
    assert shop.run("SELECT to_regclass('newer')") == [(None,)]
    assert row.safety_backup
    assert row.safety_backup != filename
    aside = restores.undo_restore(row.id, by="ann")
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]
    assert shop.run("SELECT to_regclass('newer')::text") == [("newer",)]
    assert restores.get_restore(row.id).kept == aside
    restores.drop_kept(row.id, by="ann")
    assert shop.run("SELECT count(*) FROM pg_database WHERE datname = %s", aside) == [(0,)]


def test_a_name_that_is_taken_ends_a_restore_before_anything_is_loaded(shop: Database):
    filename = backup()
    row = restores.create_restore(
        RestoreRequest(
            get_source(filename),
            Kind.BESIDE,
            trigger=Trigger.CLI,
            created_by="ann",
            into="postgres",
        )
    )
    assert row.status is Status.FAILED
    assert row.error_message == 'database "postgres" exists already'
    assert row.log == ""
    assert others(shop) == []


def test_what_will_happen_is_told_before(shop: Database):
    filename = backup()
    told = restores.preview_restore(get_source(filename), Kind.REPLACE)
    assert (told.database, told.tables, told.rows) == (shop.name, 2, 550)
    assert (told.missing_roles, told.privileged, told.left_out) == ([], [], [])
    assert told.proof.level == Level.READ
    assert told.needed_bytes < told.free_bytes  # the server runs on this machine
    (room,) = told.remarks
    assert re.fullmatch(r"about .* MiB is needed on the server; .* are free", room)
    with pytest.raises(InvalidInput, match="only a restore beside"):
        restores.preview_restore(get_source(filename), Kind.REPLACE, "another")
    with pytest.raises(Conflict, match="exists already"):
        restores.preview_restore(get_source(filename), Kind.BESIDE, "postgres")
    with pytest.raises(InvalidInput, match=f"type {shop.name} to replace it"):
        refuse_unconfirmed(get_source(filename), "another")
    refuse_unconfirmed(get_source(filename), f" {shop.name} ")


def test_a_drill_s_server_that_is_away_says_nothing_of_the_backup(make_app, shop: Database):
    filename = backup()
    away = "postgresql://ann@127.0.0.1:1/postgres"
    with make_app(drill_url=away).app_context():
        row = restores.create_restore(
            RestoreRequest(get_source(filename), Kind.DRILL, trigger=Trigger.CLI)
        )
        assert row.error_message.startswith("no connection")
        newest, read = proofs.list_proofs(row_id(filename))
        assert (newest.level, newest.result) == (Level.RESTORED, Result.NOT_POSSIBLE)
        assert read.level == Level.READ


def test_a_drill_holds_up_no_restore_and_no_restore_a_drill():
    filename = backup()

    def ask(kind: Kind) -> str:
        asked = {"trigger": Trigger.API, "created_by": "ann"}
        return restores.queue_restore(RestoreRequest(get_source(filename), kind, **asked)).id

    drill, beside = ask(Kind.DRILL), ask(Kind.BESIDE)
    for kind, word in ((Kind.DRILL, "drill"), (Kind.REPLACE, "restore")):
        with pytest.raises(Conflict, match=f"another {word} is running") as told:
            ask(kind)
        assert filename in told.value.detail
    for each in (drill, beside):
        restores.cancel_restore(each, by="ann")


def test_a_backup_is_not_deleted_while_it_waits_for_its_restore():
    filename = backup()
    queued = restores.queue_restore(
        RestoreRequest(get_source(filename), Kind.DRILL, trigger=Trigger.API, created_by="ann")
    )
    with pytest.raises(Conflict, match="is being restored"):
        backups.delete_backup(filename)
    with pytest.raises(Conflict, match="another drill is running"):
        restores.queue_restore(
            RestoreRequest(get_source(filename), Kind.DRILL, trigger=Trigger.API, created_by="ann")
        )
    restores.cancel_restore(queued.id, by="ann")
    backups.delete_backup(filename)


@pytest.mark.parametrize(
    ("proven", "told"),
    [
        ("2+", "2+"),
        ("2+ 3+ 2+", "3+"),
        ("2+ 3-", "3-"),
        ("2+ 3- 2+", "3-"),
        ("2+ 3- 3+", "3+"),
        ("2- 3+", "3+"),
        ("3+ 2-", "2-"),
        ("3+ 2- 2+", "3+"),
        ("2+ 3?", "2+"),
    ],
)
def test_a_failure_counts_until_it_was_shown_to_be_over(proven: str, told: str):
    made = backups.get_backup(backup())
    results = {"+": Result.PASSED, "-": Result.FAILED, "?": Result.NOT_POSSIBLE}
    with writing() as session:
        session.execute(delete(Proof))
        for at, (level, result) in enumerate(proven.split()):
            moment = now() + timedelta(seconds=at)
            session.add(
                Proof(
                    backup_id=made.id,
                    level=int(level),
                    result=results[result],
                    proved_at=moment,
                    milliseconds=1,
                )
            )
    best = proofs.best_proofs([made])[made.id]
    assert (best.level, best.result) == (int(told[0]), results[told[1]])


def test_a_restore_of_this_process_is_never_left_to_a_worker(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    seen: list[str | None] = []
    monkeypatch.setattr(
        restores,
        "run_claimed",
        lambda restore_id, *_: seen.append(restores.get_restore(restore_id).claimed_by),
    )
    restores.create_restore(
        RestoreRequest(get_source(backup()), Kind.DRILL, trigger=Trigger.CLI, created_by="ann")
    )
    assert seen == [claims.runner()]
