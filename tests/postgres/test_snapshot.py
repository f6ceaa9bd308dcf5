"""The lock and the snapshot that a dump stands on."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from app.errors import Conflict, ConnectError, DumpError
from app.postgres import locking, snapshot
from app.postgres.connection import open_session
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.locking import LOCK, hold_lock
from app.postgres.snapshot import Snapshot
from tests.conftest import Database
from tests.postgres.conftest import Role, as_admin, at, hold_snapshot, signed_in_as, wait_until

HOLDER = "backstop test holder"


@pytest.fixture
def info(standing: Database) -> Conninfo:
    return parse_url(standing.url)


def hold(info: Conninfo):
    return hold_snapshot(info, application_name=HOLDER)


def lock(info: Conninfo):
    return hold_lock(info, application_name=HOLDER)


HOLDERS = """
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


def holders(database: Database) -> int:
    return database.run(f"SELECT count(*) {HOLDERS}")[0][0]


def end_the_holder(database: Database) -> None:
    assert database.run(f"SELECT pg_terminate_backend(pid, 10000) {HOLDERS}") == [(True,)]


# The lock


def test_a_second_one_is_told_who_is_in_the_way(info: Conninfo, standing: Database):
    with hold(info):
        assert holders(standing) == 1
        with pytest.raises(Conflict, match=f'database "{standing.name}"') as refused, hold(info):
            pass
        assert HOLDER in refused.value.detail
        assert "pg_locks" in refused.value.hint
        assert holders(standing) == 1


def test_another_database_of_the_server_is_not_in_the_way(
    info: Conninfo, new_database: Callable[..., Database]
):
    with hold(info), hold(parse_url(new_database().url)) as other:
        assert other.id


def test_the_lock_is_the_one_that_all_panels_agree_on(info: Conninfo, standing: Database):
    with hold(info):
        assert standing.run("SELECT pg_try_advisory_lock(%s)", LOCK) == [(False,)]
    assert LOCK.to_bytes(8) == b"Backstop"


def test_the_lock_is_free_as_soon_as_the_first_one_has_left(info: Conninfo):
    for _ in range(30):
        with hold(info):
            pass


def test_the_lock_is_free_after_an_exception(info: Conninfo):
    for error in (ZeroDivisionError, KeyboardInterrupt, Conflict):
        with pytest.raises(error), hold(info):
            raise error("planted")
    with hold(info):
        pass


def test_the_lock_is_free_after_the_holder_was_ended(info: Conninfo, standing: Database):
    with lock(info):
        end_the_holder(standing)
        wait_until(lambda: holders(standing) == 0, "the lock is free")
        with hold_lock(info, application_name="the next") as following:
            following.check(now=True)


def test_a_refused_one_leaves_no_connection(info: Conninfo, standing: Database):
    with hold(info), pytest.raises(Conflict), hold(info):
        pass
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    wait_until(lambda: standing.run(count, HOLDER) == [(0,)], "the connections end")


# The snapshot


def test_what_is_changed_later_is_not_in_the_snapshot(shop: Database):
    with hold(parse_url(shop.url)) as held, closing(psycopg2.connect(shop.url)) as other:
        shop.run("DELETE FROM orders WHERE id > 10")
        shop.run("UPDATE customers SET name = 'changed'")
        shop.run("CREATE TABLE later (id int)")
        with other.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SET TRANSACTION SNAPSHOT %s", (held.id,))
            cursor.execute("SELECT count(*) FROM orders")
            assert cursor.fetchone() == (500,)
            cursor.execute("SELECT count(*) FROM customers WHERE name = 'changed'")
            assert cursor.fetchone() == (0,)
            cursor.execute("SELECT count(*) FROM pg_class WHERE relname = 'later'")
            assert cursor.fetchone() == (0,)


def test_a_snapshot_is_gone_with_its_holder(info: Conninfo, standing: Database):
    with hold(info) as held:
        pass
    wait_until(lambda: holders(standing) == 0, "the holder has gone")
    with closing(psycopg2.connect(standing.url)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(psycopg2.Error):
            cursor.execute("SET TRANSACTION SNAPSHOT %s", (held.id,))


def test_the_holder_can_only_read(info: Conninfo):
    with hold(info) as held:
        assert held._session.ask("SHOW transaction_read_only") == "on"
        assert held._session.ask("SHOW transaction_isolation") == "repeatable read"
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            held._session.ask("DELETE FROM public.orders")


def test_a_snapshot_knows_the_server_and_its_name_there(info: Conninfo, standing: Database):
    with hold(info) as held:
        assert held.server_version.major >= 15
        session = standing.run(f"SELECT application_name, state {HOLDERS}")
        assert session == [(HOLDER, "idle in transaction")]


# Timeouts of a role


def outlive(info: Conninfo, seconds: float) -> None:
    with hold(info) as held:
        deadline = time.monotonic() + seconds
        held._session.ask("SELECT pg_sleep(%s)", seconds / 2)
        while time.monotonic() < deadline:
            time.sleep(0.05)
        held.check(now=True)


TIMEOUTS = ["statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"]


@pytest.mark.parametrize("name", [*TIMEOUTS, "transaction_timeout"])
def test_a_role_s_own_timeout_does_not_end_it(
    name: str, info: Conninfo, server: Conninfo, new_role: Callable[..., Role]
):
    role = new_role()
    try:
        as_admin(server).run(f"ALTER ROLE {role.name} SET {name} = '100ms'")
    except psycopg2.errors.UndefinedObject:
        pytest.skip(f"this server does not know {name}")
    outlive(signed_in_as(role, info), 0.6)


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_database_s_own_timeout_does_not_end_it_on_an_old_server(name: str, server_15: Conninfo):
    as_admin(server_15).run(f"ALTER DATABASE template1 SET {name} = '100ms'")
    try:
        outlive(at(server_15, "template1"), 0.4)
    finally:
        as_admin(server_15).run(f"ALTER DATABASE template1 RESET {name}")


def test_a_timeout_of_the_url_does_not_end_it(info: Conninfo):
    options = "-c statement_timeout=100 -c idle_in_transaction_session_timeout=100"
    outlive(replace(info, parameters={**info.parameters, "options": options}), 0.4)


def test_rows_that_a_policy_hides_are_an_error_and_not_left_out(
    shop: Database, new_role: Callable[..., Role]
):
    role = new_role("IN ROLE pg_read_all_data")
    shop.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    hidden = pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security")
    with (
        hold(signed_in_as(role, parse_url(shop.url))) as held,
        hidden,
    ):
        held._session.ask("SELECT count(*) FROM public.orders")


# Is it still held?


def test_a_check_passes_while_it_is_held(info: Conninfo):
    with lock(info) as held:
        held.check()
        held.check(now=True)


def test_a_check_says_that_the_holder_was_ended(info: Conninfo, standing: Database):
    with lock(info) as held:
        end_the_holder(standing)
        with pytest.raises(DumpError, match="holds the lock was lost") as told:
            held.check(now=True)
        assert "terminat" in told.value.detail  # libpq has two ways to say it
        assert told.value.hint
        assert info.password not in told.value.in_words()
        with pytest.raises(DumpError):  # and says so again
            held.check(now=True)


def test_a_check_asks_the_server_every_few_seconds_only(
    info: Conninfo, standing: Database, monkeypatch: pytest.MonkeyPatch
):
    with lock(info) as held:
        end_the_holder(standing)
        held.check()
        monkeypatch.setattr(locking, "_CHECK_EVERY", 0.0)

        def is_told() -> bool:  # it does not wait for the answer, but looks for it each time
            try:
                held.check()
            except DumpError:
                return True
            return False

        wait_until(is_told, "the loss is told")


def test_a_check_does_not_wait_for_the_server(info: Conninfo, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locking, "_CHECK_EVERY", 0.0)
    with lock(info) as held:
        monkeypatch.setattr(held._session, "wait", lambda: pytest.fail("it waited"))
        for _ in range(100):
            held.check()


def test_a_wait_for_the_server_can_be_ended(info: Conninfo):
    asked = False

    def give_up() -> None:
        if asked:
            raise TimeoutError

    with open_session(info, application_name=HOLDER, on_wait=give_up) as session:
        asked = True
        with pytest.raises(TimeoutError):
            session.rows("SELECT pg_sleep(60)")


def test_the_lock_is_waited_for_a_moment(
    info: Conninfo, standing: Database, monkeypatch: pytest.MonkeyPatch
):
    """A run that was just killed may still be leaving the server."""
    monkeypatch.setattr(locking, "_LOCK_PATIENCE", 30.0)
    with lock(info):
        leaving = threading.Timer(0.5, end_the_holder, [standing])
        leaving.start()
        with lock(info) as second:
            second.check(now=True)
        leaving.join()


# What it holds


def test_the_contents_tell_what_a_restore_must_know(shop: Database):
    shop.run("CREATE EXTENSION hstore")
    shop.run('CREATE TABLE "odd ""schema""" (id int)')
    shop.run("CREATE TABLE parted (id int) PARTITION BY LIST (id)")
    shop.run("CREATE TABLE part_1 PARTITION OF parted FOR VALUES IN (1)")
    shop.run("CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM orders")
    shop.run("CREATE VIEW looked AS SELECT * FROM orders")
    with hold(parse_url(shop.url)) as held:
        contents = held.contents()
    assert [(each["schema"], each["name"]) for each in contents["tables"]] == [
        ("public", "customers"),
        ("public", 'odd "schema"'),
        ("public", "orders"),
        ("public", "part_1"),
    ]
    extensions = {each["name"]: each["version"] for each in contents["extensions"]}
    assert set(extensions) == {"hstore", "plpgsql"}
    assert contents["encoding"] == "UTF8"
    assert contents["owner"] == "backstop"
    assert contents["collate"]
    assert contents["ctype"]
    assert contents["localeProvider"] in ("c", "i", "b")


def test_tables_of_extensions_count_only_where_pg_dump_writes_them(new_database):
    database = new_database()
    database.run("CREATE TABLE plain (id int)")
    database.run("CREATE TABLE member (id int)")
    database.run("CREATE TABLE chosen (id int)")
    database.run("ALTER EXTENSION plpgsql ADD TABLE member")
    database.run("ALTER EXTENSION plpgsql ADD TABLE chosen")
    database.run(
        "UPDATE pg_extension SET extconfig = ARRAY['chosen'::regclass::oid],"
        " extcondition = ARRAY['']"
    )
    with hold(parse_url(database.url)) as held:
        assert [each["name"] for each in held.contents()["tables"]] == ["chosen", "plain"]


def test_what_dead_runs_left_behind_is_ended(
    info: Conninfo, standing: Database, monkeypatch: pytest.MonkeyPatch
):
    old = open_session(info, application_name="backstop backup_of_a_dead_run")
    mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'backstop backup%'"
    with old, lock(info):
        assert standing.run(mine) == [(1,)], "it may be of one that is about to be refused"
        monkeypatch.setattr(
            locking, "_LEFTOVERS", locking._LEFTOVERS.replace("1 minute", "0 minutes")
        )
    with open_session(info, application_name="backstop backup_of_a_dead_run"), lock(info):
        wait_until(lambda: standing.run(mine) == [(0,)], "it was ended")


def test_a_server_that_gives_no_lock_or_no_snapshot_is_told(
    info: Conninfo, standing: Database, monkeypatch: pytest.MonkeyPatch
):
    """The real reasons (a pooler, a server in recovery) cannot be had: any error will do."""
    for where, what in ((locking, "grant the lock"), (snapshot, "export a snapshot")):
        monkeypatch.setattr(where, "OWN_SETTINGS", "SELECT 1 FROM not_there")
        with pytest.raises(ConnectError, match=f"did not {what}") as told, hold(info):
            pass
        assert 'relation "not_there" does not exist' in told.value.detail
        assert info.password not in told.value.in_words()
        wait_until(lambda: holders(standing) == 0, "the lock is free")
        monkeypatch.undo()


def test_no_connection_is_told_as_such(info: Conninfo):
    with pytest.raises(ConnectError, match="no connection"), hold(at(info, "not there")):
        pass


def test_a_snapshot_is_what_other_versions_have_too(server_15: Conninfo, server_18: Conninfo):
    for info in (server_15, server_18):
        with hold(info) as held:
            assert isinstance(held, Snapshot)
            held.check(now=True)
            with pytest.raises(Conflict), hold(info):
                pass
