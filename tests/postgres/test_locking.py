"""The lock of a database, and those of its tables."""

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from app.errors import ConfigurationError, Conflict, DumpError
from app.postgres import snapshot
from app.postgres.conninfo import parse_url
from app.postgres.locking import Lock, hold_lock
from app.postgres.snapshot import take_snapshot
from app.postgres.table_locks import refuse_too_many_tables, too_few_locks
from tests.conftest import Database
from tests.postgres.conftest import Role, hold_snapshot, signed_in_as, take, wait_until

HOLDS = """
    SELECT count(*) FILTER (WHERE backend_xmin IS NOT NULL),
           (SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE application_name = 'test' AND locktype = 'relation')
    FROM pg_stat_activity WHERE application_name = 'test'
"""


def test_the_lock_alone_holds_no_snapshot_and_no_table(shop: Database):
    with hold_lock(parse_url(shop.url), application_name="test") as lock:
        assert lock.database_size() > 0
        assert lock.database == shop.name
        lock.check(now=True)
        assert shop.run(HOLDS) == [(0, 0)]
        with pytest.raises(Conflict), hold_lock(parse_url(shop.url), application_name="other"):
            pass


ASKS: list[Callable[[Lock], object]] = [
    lambda lock: lock.is_pooled,
    Lock.database_size,
    lambda lock: lock.check(now=True),
    refuse_too_many_tables,
]


@pytest.mark.parametrize("ask", ASKS, ids=["pooled", "size", "check", "tables"])
def test_a_session_that_is_lost_is_told_whatever_is_asked_of_it(
    shop: Database, ask: Callable[[Lock], object]
):
    end = (
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s"
    )
    with hold_lock(parse_url(shop.url), application_name="test lost") as lock:
        assert shop.run(end, "test lost") == [(True,)]
        with pytest.raises(DumpError) as told:
            ask(lock)
        assert told.value.hint


def test_who_holds_the_lock_is_named_with_role_and_process(shop: Database):
    with closing(psycopg2.connect(shop.url)) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(x'4261636B73746F70'::bigint)")
        with (
            pytest.raises(Conflict) as refused,
            hold_lock(parse_url(shop.url), application_name="x"),
        ):
            pass
        assert f'Process {other.info.backend_pid} of role "backstop"' in refused.value.detail
        assert "pg_terminate_backend" in refused.value.hint


def test_another_database_than_the_one_that_is_named_is_refused(
    shop: Database, common_shop: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(type(parse_url(shop.url)), "database", common_shop.name)
    with (
        pytest.raises(ConfigurationError, match=shop.name),
        hold_lock(parse_url(shop.url), application_name="test"),
    ):
        pass


def test_all_tables_are_locked_before_the_snapshot_begins(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    """What is committed between the locks and the first query is seen."""
    real = snapshot.lock_tables

    def lock_tables(*values: object, **options: object) -> list[int]:
        not_possible = real(*values, **options)
        shop.run("INSERT INTO customers VALUES (1000, 'in between')")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            take(shop, "customers")
        return not_possible

    monkeypatch.setattr(snapshot, "lock_tables", lock_tables)
    with hold_snapshot(parse_url(shop.url), application_name="test") as held:
        assert held._session.ask("SELECT count(*) FROM public.customers") == 51


def test_tables_that_are_made_meanwhile_are_locked_too(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    real, made = Lock.rows, iter(["one", "two", "three"])

    def rows(self: Lock, sql: str, *values: Any) -> list:
        found = real(self, sql, *values)
        for name in made if values else ():
            shop.run(f"CREATE TABLE {name} ()")
            break
        return found

    monkeypatch.setattr(Lock, "rows", rows)
    with hold_snapshot(parse_url(shop.url), application_name="test"):
        for name in ("one", "two", "three"):
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                take(shop, name)


def test_a_table_that_the_snapshot_sees_without_a_lock_begins_it_all_anew(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    real, begun = snapshot.lock_tables, []

    def lock_tables(*values: object, **options: object) -> list[int]:
        not_possible = real(*values, **options)
        begun.append(None)
        if len(begun) < 3:
            shop.run(f"CREATE TABLE late_{len(begun)} ()")
        return not_possible

    monkeypatch.setattr(snapshot, "lock_tables", lock_tables)
    with hold_snapshot(parse_url(shop.url), application_name="test"):
        assert len(begun) == 3
    monkeypatch.setattr(snapshot, "lock_tables", lambda *_, **__: [])
    with (
        pytest.raises(DumpError, match="faster than they can be locked"),
        hold_snapshot(parse_url(shop.url), application_name="test"),
    ):
        pass


def test_a_view_that_the_snapshot_sees_is_locked_too(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    """pg_dump reads its definition, which is gone where somebody drops it meanwhile."""
    real, begun = snapshot.lock_tables, []

    def lock_tables(*values: object, **options: object) -> list[int]:
        not_possible = real(*values, **options)
        begun.append(None)
        shop.run(f"CREATE VIEW late_{len(begun)} AS SELECT 1" if len(begun) < 3 else "SELECT 1")
        return not_possible

    monkeypatch.setattr(snapshot, "lock_tables", lock_tables)
    with hold_snapshot(parse_url(shop.url), application_name="test", with_views=True):
        for number in (1, 2):
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                shop.run(f"SET lock_timeout = '100ms'; DROP VIEW late_{number}")


def test_views_that_nobody_can_lock_are_in_nobody_s_way(shop: Database):
    """One whose owner may not read its table, and one that reads itself."""
    shop.run("CREATE ROLE viewer; CREATE VIEW blind AS SELECT * FROM orders")
    try:
        shop.run("ALTER VIEW blind OWNER TO viewer; GRANT SELECT ON blind TO PUBLIC")
        shop.run("CREATE VIEW one AS SELECT 1 AS n; CREATE VIEW two AS SELECT n FROM one")
        shop.run("CREATE OR REPLACE VIEW one AS SELECT n FROM two")
        with hold_snapshot(parse_url(shop.url), application_name="test", with_views=True) as held:
            assert held.id
    finally:
        shop.run("DROP OWNED BY viewer CASCADE; DROP ROLE viewer")


def test_tables_that_are_dropped_meanwhile_are_in_nobody_s_way(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    shop.run("CREATE TABLE gone (); CREATE TABLE changed (); CREATE SCHEMA s; CREATE TABLE s.t ()")
    real = Lock.rows

    def rows(self: Lock, sql: str, *values: Any) -> list:
        found = real(self, sql, *values)
        if values == ([],):
            shop.run("DROP TABLE gone, changed; CREATE VIEW changed AS SELECT 1")
            shop.run("DROP SCHEMA s CASCADE")
        return found

    monkeypatch.setattr(Lock, "rows", rows)
    with hold_snapshot(parse_url(shop.url), application_name="test") as held:
        names = [each["name"] for each in held.contents()["tables"]]
    assert names == ["customers", "orders"]


def test_a_table_that_stays_locked_is_named(shop: Database):
    with closing(psycopg2.connect(shop.url)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        with (
            hold_lock(parse_url(shop.url), application_name="test") as lock,
            pytest.raises(DumpError, match="a table stayed locked for longer than 1 s") as told,
            take_snapshot(lock, application_name="test", lock_timeout=1),
        ):
            pass
    assert "public.orders" in told.value.detail
    assert told.value.is_passing


def test_who_waits_for_a_table_holds_no_other(shop: Database):
    """So no deadlock comes of it, and no DDL waits for us while we wait for a third one."""
    is_waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LOCK%%'"
    with closing(psycopg2.connect(shop.url)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")

        def change_meanwhile() -> None:
            mine = f"{is_waiting} AND wait_event_type = 'Lock' AND datname = current_database()"
            wait_until(lambda: shop.run(mine) == [(1,)], "it waits")
            cursor.execute("SET lock_timeout = '5s'; ALTER TABLE customers ADD extra int")
            cursor.execute("TRUNCATE orders")
            other.commit()

        thread = threading.Thread(target=change_meanwhile)
        thread.start()
        with hold_snapshot(parse_url(shop.url), application_name="test") as held:
            assert held._session.ask("SELECT count(*) FROM public.orders") == 0
            assert held._session.ask("SELECT count(extra) FROM public.customers") == 0
        thread.join()


def test_what_the_role_may_not_read_is_left_to_pg_dump(
    shop: Database, new_role: Callable[..., Role]
):
    role = new_role()
    with hold_snapshot(signed_in_as(role, parse_url(shop.url)), application_name="test") as held:
        assert len(held.contents()["tables"]) == 2
        take(shop, "orders")


def test_a_view_and_a_partition_and_a_foreign_table_are_in_nobody_s_way(shop: Database):
    shop.run("CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM orders")
    shop.run("CREATE VIEW looked AS SELECT * FROM orders")
    shop.run("CREATE TABLE parted (id int) PARTITION BY LIST (id)")
    shop.run("CREATE TABLE part_1 PARTITION OF parted FOR VALUES IN (1)")
    with hold_snapshot(parse_url(shop.url), application_name="test"):
        shop.run("REFRESH MATERIALIZED VIEW summary")
        shop.run("CREATE OR REPLACE VIEW looked AS SELECT * FROM orders")
        for name in ("parted", "part_1"):
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                take(shop, name)


def test_too_few_locks_are_told_with_the_value_that_is_needed(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    told = too_few_locks(20_000, 64, 100)
    assert "20000 tables" in told.message
    assert "max_locks_per_transaction to at least 256 and restart" in told.hint
    monkeypatch.setattr("app.postgres.table_locks._ROOM", "SELECT 0, 1")
    with hold_lock(parse_url(shop.url), application_name="test") as lock:
        with pytest.raises(DumpError, match="too few locks for 2 tables"):
            refuse_too_many_tables(lock)
        lock.check(now=True)


def test_who_waits_for_a_table_is_no_hindrance_to_pg_dump(shop: Database):
    """TRUNCATE queues behind our lock; a session of pg_dump's own would queue behind it."""
    is_waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with (
        hold_snapshot(parse_url(shop.url), application_name="test") as held,
        held.lend() as lent,
    ):
        assert lent is not None
        other = threading.Thread(target=shop.run, args=("TRUNCATE orders",))
        other.start()
        wait_until(lambda: shop.run(is_waiting + " AND datname = current_database()") == [(1,)], "")
        with closing(psycopg2.connect(lent.dsn())) as program, program.cursor() as cursor:
            cursor.execute("LOCK TABLE public.orders IN ACCESS SHARE MODE")
            cursor.execute("SELECT count(*) FROM public.orders")
            assert cursor.fetchone() == (500,)
    other.join()
    assert shop.run("SELECT count(*) FROM orders") == [(0,)]
