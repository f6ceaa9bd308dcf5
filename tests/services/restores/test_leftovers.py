"""A restore leaves nothing on the server, however it ends, and touches nothing of others."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.models import Kind, Level, Result, Status
from app.models.types import now
from app.services.backups import service as backups
from app.services.databases.configured import private_dir
from app.services.proofs import records as proofs
from app.services.recovery import reconcile
from app.services.restores import run as running
from app.services.restores import scratch
from app.services.restores import service as restores
from tests.conftest import Database
from tests.services.restores.conftest import ASKED_FOR, attempt, backed_up, restored

pytestmark = pytest.mark.usefixtures("context")


def private_files() -> list[str]:
    return [each.name for each in private_dir().iterdir() if each.name != "passfiles"]


@pytest.mark.parametrize("kind", ASKED_FOR)
def test_a_restore_that_was_cancelled_leaves_nothing(
    kind: Kind, living: Database, leftovers, monkeypatch: pytest.MonkeyPatch
):
    filename = backed_up()
    real = running.Loader.load

    def load(self: running.Loader, info: object, entries: list, *options, **more: object) -> None:
        if entries:
            restores.cancel_restore(self.order.id, by="bob")
        real(self, info, entries, *options, **more)

    monkeypatch.setattr(running.Loader, "load", load)
    row = attempt(filename, kind, as_superuser=True)
    assert row.error_message == "cancelled by bob"
    assert leftovers() == []
    assert private_files() == []


def test_a_cancel_during_a_long_statement_leaves_nothing(
    living: Database, leftovers, monkeypatch: pytest.MonkeyPatch
):
    filename = backed_up()
    real = running.Loader.count

    def count(self: running.Loader, role: object) -> object:
        with self.serving(role) as server:
            restores.cancel_restore(self.order.id, by="bob")
            server.rows("SELECT pg_sleep(60)")
        return real(self, role)

    monkeypatch.setattr(running.Loader, "count", count)
    row = attempt(filename, Kind.DRILL)
    assert row.error_message == "cancelled by bob"
    assert leftovers() == []


def test_a_restore_that_fails_leaves_nothing(living: Database, leftovers):
    living.run("""
        CREATE FUNCTION not_there(int) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            ASSERT current_user = 'backstop', 'not here';
            RETURN true;
        END $$;
        CREATE TABLE strict (id int CHECK (not_there(id)));
        INSERT INTO strict VALUES (1);
    """)
    row = attempt(backed_up(), Kind.DRILL)
    assert row.status is Status.FAILED
    assert "not here" in row.error_detail
    assert leftovers() == []
    assert private_files() == []


def test_what_only_a_superuser_can_create_says_nothing_of_the_backup(living: Database, leftovers):
    living.run("CREATE FUNCTION c_code() RETURNS int LANGUAGE internal AS 'pg_backend_pid'")
    filename = backed_up()
    row = attempt(filename, Kind.DRILL)
    assert row.status is Status.FAILED
    assert "only a superuser" in row.error_message
    drilled, _ = proofs.list_proofs(backups.get_backup(filename).id)
    assert (drilled.level, drilled.result) == (Level.RESTORED, Result.NOT_POSSIBLE)
    assert leftovers() == []


def test_a_database_of_the_name_that_is_not_ours_is_never_touched(
    living: Database, monkeypatch: pytest.MonkeyPatch
):
    filename = backed_up()
    row = restored(filename, Kind.DRILL)
    living.run(f'CREATE DATABASE "{row.working}"')
    try:
        living.run(f"COMMENT ON DATABASE \"{row.working}\" IS 'made by Backstop for restore x'")
        with scratch.writing() as session:
            session.get_one(restores.Restore, row.id).tidied_at = None
        reconcile()
        there = "SELECT count(*) FROM pg_database WHERE datname = %s"
        assert living.run(there, row.working) == [(1,)]
    finally:
        living.run(f'DROP DATABASE "{row.working}"')


def test_what_was_loaded_cannot_keep_its_database(living: Database, leftovers):
    """It is loaded by its owner, who may write another comment."""
    living.run("""
        CREATE FUNCTION disown(int) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            EXECUTE format('COMMENT ON DATABASE %I IS ''mine''', current_database());
            RETURN true;
        EXCEPTION WHEN OTHERS THEN RETURN true;
        END $$;
        CREATE TABLE disowned (id int CHECK (disown(id)));
        INSERT INTO disowned VALUES (1);
    """)
    restored(backed_up(), Kind.DRILL)
    assert leftovers() == []


def test_a_restore_that_cannot_be_tidied_does_not_keep_others_from_it(
    living: Database, leftovers, monkeypatch: pytest.MonkeyPatch
):
    filename = backed_up()
    real = scratch.tidy
    monkeypatch.setattr(scratch, "tidy", lambda *_: None)
    first = restored(filename, Kind.DRILL)
    second = restored(filename, Kind.DRILL)

    def only_second(server: object, restore_id: str, name: str) -> None:
        if restore_id == first.id:
            raise scratch.NotPossible("planted")
        real(server, restore_id, name)

    monkeypatch.setattr(scratch, "tidy", only_second)
    reconcile()
    assert sorted(set(leftovers())) == [first.working]
    monkeypatch.setattr(scratch, "tidy", real)
    reconcile()
    assert leftovers() == []
    assert second.id != first.id


def test_a_restore_beside_that_could_not_be_written_down_has_happened(
    living: Database, leftovers, monkeypatch: pytest.MonkeyPatch
):
    """The catalogue was locked, or the process killed, after the database had its name."""
    filename = backed_up()
    real = restores.Restore.complete

    def complete(self: restores.Restore, moment: object) -> None:
        monkeypatch.setattr(restores.Restore, "complete", real)
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(restores.Restore, "complete", complete)
    with pytest.raises(OperationalError):
        attempt(filename, Kind.BESIDE)
    with scratch.writing() as session:
        (row,) = session.scalars(select(restores.Restore))
        row.claimed_by, row.lease_until = "elsewhere boot ns 1 1", now() - timedelta(days=1)
        database = row.database
    reconcile()
    (row,) = restores.list_restores()
    assert (row.status, row.error_message) == (Status.COMPLETED, "")
    assert living.run("SELECT count(*) FROM pg_database WHERE datname = %s", database) == [(1,)]
    assert leftovers() == []
