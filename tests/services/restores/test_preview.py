"""What is told before a restore, and refused before anything is touched."""

import secrets
from collections.abc import Callable

import pytest
from flask import Flask

from app.errors import Conflict, NotPossible, StorageFull
from app.extensions import writing
from app.models import Kind, Level, Proof, Result, Status, Trigger
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server
from app.services.backups import service as backups
from app.services.restores import service as restores
from app.services.restores.request import RestoreRequest
from app.services.restores.source import get_source
from app.storages import LocalStorage
from tests.conftest import Database, url_of
from tests.servers import programs
from tests.services.restores.conftest import ASKED_FOR, attempt, backed_up

pytestmark = pytest.mark.usefixtures("context")

_PRIVILEGED = """
    CREATE EXTENSION pg_buffercache;
    CREATE FUNCTION noticed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER notices ON ddl_command_end EXECUTE FUNCTION noticed();
    CREATE PUBLICATION every FOR ALL TABLES;
    CREATE SUBSCRIPTION others CONNECTION 'host=/nowhere' PUBLICATION p
        WITH (connect = false, enabled = false, slot_name = NONE);
"""
KINDS = [Kind.BESIDE, Kind.REPLACE]


def test_what_only_a_superuser_can_create_is_told(living: Database):
    living.run(_PRIVILEGED)
    try:
        told = restores.preview_restore(get_source(backed_up()), Kind.BESIDE)
    finally:
        living.run("DROP SUBSCRIPTION others")
    assert sorted(told.privileged) == [
        "EVENT TRIGGER notices", "EXTENSION pg_buffercache", "PUBLICATION every",
    ]  # fmt: skip
    assert told.left_out == ["SUBSCRIPTION others"]
    assert "left out: SUBSCRIPTION others" in told.remarks


def test_missing_roles_are_named_with_what_creates_them(living: Database):
    one, other = (f"{name} {secrets.token_hex(4)}" for name in ("Ann's", "bob"))
    living.run(f'CREATE ROLE "{one}" LOGIN CREATEDB; CREATE ROLE "{other}" IN ROLE "{one}"')
    living.run(f"COMMENT ON ROLE \"{one}\" IS 'it is hers'")
    living.run(f'ALTER TABLE orders OWNER TO "{one}"; GRANT SELECT ON customers TO "{other}"')
    filename = backed_up()
    living.run(f'REASSIGN OWNED BY "{one}", "{other}" TO CURRENT_USER')
    living.run(f'DROP OWNED BY "{one}", "{other}"; DROP ROLE "{one}", "{other}"')
    told = restores.preview_restore(get_source(filename), Kind.BESIDE)
    assert told.missing_roles == [one, other]
    with pytest.raises(Conflict, match="roles of the backup are missing") as refused:
        restores.preview_restore(get_source(filename), Kind.REPLACE)
    assert f'CREATE ROLE "{one}" WITH NOSUPERUSER ' in refused.value.hint
    row = attempt(filename, Kind.REPLACE)
    assert (row.status, row.safety_backup) == (Status.FAILED, None)  # before anything is done
    try:
        for statement in told.missing_roles_sql:
            living.run(statement)
        after = restores.preview_restore(get_source(filename), Kind.REPLACE)
        assert after.missing_roles == after.missing_roles_sql == []
        sql = "SELECT rolcanlogin, rolcreatedb, shobj_description(oid, 'pg_authid') FROM pg_roles"
        assert living.run(f"{sql} WHERE rolname = %s", one) == [(True, True, "it is hers")]
    finally:
        living.run(f'DROP ROLE IF EXISTS "{one}", "{other}"')


@pytest.mark.parametrize(
    "change", ["ALTER DATABASE {database} OWNER TO", "GRANT CONNECT ON DATABASE {database} TO"]
)
def test_roles_of_the_database_itself_are_missed_too(change: str, living: Database):
    role = f"{living.name}_owner"
    living.run(f"CREATE ROLE {role}")
    living.run(f"{change.format(database=living.name)} {role}")
    filename = backed_up()
    living.run(f'ALTER DATABASE "{living.name}" OWNER TO CURRENT_USER')
    living.run(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert restores.preview_restore(get_source(filename), Kind.BESIDE).missing_roles == [role]
    with pytest.raises(Conflict, match="roles of the backup are missing"):
        restores.preview_restore(get_source(filename), Kind.REPLACE)


def test_roles_that_were_not_kept_are_created_by_their_names(living: Database):
    made = backups.get_backup(backed_up())
    name = 'ann "of" old'
    with writing():
        row = backups.get_backup(made.filename)
        row.contents = row.contents | {"roles": "", "owner": name}
    told = restores.preview_restore(get_source(made.filename), Kind.BESIDE)
    assert told.missing_roles_sql == ['CREATE ROLE "ann ""of"" old";']


@pytest.mark.parametrize("kind", ASKED_FOR)
def test_a_database_that_does_not_fit_is_refused_before_anything_is_made(
    kind: Kind, living: Database, monkeypatch: pytest.MonkeyPatch
):
    filename = backed_up()
    size = backups.get_backup(filename).database_size
    monkeypatch.setattr(Server, "free_space", lambda _: size // 4)
    monkeypatch.setattr(Server, "create_database", lambda *_: pytest.fail("it was made"))
    with pytest.raises(StorageFull, match=r"no room for the new database: .* MiB are missing"):
        restores.preview_restore(get_source(filename), kind)
    row = attempt(filename, kind, as_superuser=True)
    assert "no room for the new database" in row.error_message
    assert row.safety_backup is None
    assert len(restores.list_restores()) == 1
    monkeypatch.setattr(Server, "free_space", lambda _: None)
    assert (
        "how much is free is not known"
        in restores.preview_restore(get_source(filename), kind).remarks[-1]
    )


def test_a_replace_without_room_for_its_safety_backup_is_refused(
    living: Database, monkeypatch: pytest.MonkeyPatch
):
    filename = backed_up()
    monkeypatch.setattr(LocalStorage, "free_space", lambda _: 0)
    restores.preview_restore(get_source(filename), Kind.BESIDE)
    with pytest.raises(StorageFull, match="no room for the backup that is made first"):
        restores.preview_restore(get_source(filename), Kind.REPLACE)


def test_where_the_server_is_elsewhere_its_room_is_not_known(
    living: Database, monkeypatch: pytest.MonkeyPatch
):
    """Its process has another number there, or is another program's, or began at another time."""
    filename = backed_up()
    real = Server.rows

    changes: list[tuple[int, object]] = [(0, 1), (1, 1.0), (2, None)]

    def rows(self: Server, sql: str, *values: object, **more: float):
        found = real(self, sql, *values, **more)
        if "data_directory" in sql:
            at, value = changes[0]
            found = [(*found[0][:at], value, *found[0][at + 1 :])]
        return found

    assert restores.preview_restore(get_source(filename), Kind.BESIDE).free_bytes > 0
    monkeypatch.setattr(Server, "rows", rows)
    while changes:
        assert restores.preview_restore(get_source(filename), Kind.BESIDE).free_bytes is None
        del changes[0]


def test_an_older_server_a_failed_proof_and_a_running_restore_are_told(
    server_15: Conninfo, make_app: Callable[..., Flask]
):
    filename = backed_up()
    with make_app(database_url=url_of(server_15, "postgres")).app_context():
        found = backups.get_backup(filename)
        with writing() as session:
            session.add(
                Proof(backup_id=found.id, level=Level.READ, result=Result.FAILED, milliseconds=1)
            )
        running = restores.queue_restore(
            RestoreRequest(get_source(filename), Kind.BESIDE, trigger=Trigger.CLI, created_by="ann")
        )
        told = restores.preview_restore(get_source(filename), Kind.BESIDE)
        assert told.running == f"the restore of {filename}"
        assert told.proof.is_failed
        restores.cancel_restore(running.id, by="ann")
    failed, runs, older, _ = told.remarks
    assert "has failed" in failed
    assert "must end first" in runs
    assert "this server is older" in older


def test_what_cannot_work_is_refused_when_it_is_asked_for(
    living: Database, make_app: Callable[..., Flask]
):
    filename = backed_up()

    def ask(into: str = "") -> None:
        restores.queue_restore(
            RestoreRequest(
                get_source(filename), Kind.BESIDE, trigger=Trigger.API, created_by="ann", into=into
            )
        )

    with pytest.raises(Conflict, match="exists already"):
        ask("postgres")
    with make_app(pg_bin_dir=programs(18)).app_context(), pytest.raises(NotPossible, match="zstd"):
        ask()
    with writing():
        row = backups.get_backup(filename)
        row.contents = row.contents | {"extensions": [{"name": "no_such"}]}
    with pytest.raises(NotPossible, match="no_such"):
        ask()
    assert restores.list_restores() == []
