"""A restore over the living database happens wholly or not at all, and says what it leaves."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psutil
import psycopg2
import pytest
from flask import Flask

from app.errors import Conflict, InvalidInput, NotPossible
from app.extensions import writing
from app.models import Kind, Level, Restore, Status
from app.models.types import now
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from app.services.recovery import reconcile
from app.services.restores import scratch
from app.services.restores import service as restores
from app.services.restores.source import get_source
from tests.conftest import SMALL_SHOP, Database, url_of
from tests.services.restores.conftest import attempt, backed_up, restored

ROWS = "SELECT md5(string_agg(t::text, '|' ORDER BY t)) FROM {} t"


@pytest.fixture
def owner(server: Conninfo) -> Iterator[str]:
    """A role that owns a database and may do nothing else; its name is its password too."""
    admin = Database("postgres", url_of(server, "postgres"))
    name = f"owner_{secrets.token_hex(4)}"
    admin.run(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    yield name
    admin.run(f"DROP ROLE {name}")


@pytest.fixture
def owned(
    owner: str, server: Conninfo, new_database: Callable[..., Database]
) -> Iterator[Database]:
    """A shop that belongs to that role, and how it signs in there."""
    made = new_database()
    admin = Database("postgres", url_of(server, "postgres"))
    admin.run(f"ALTER DATABASE {made.name} OWNER TO {owner}")
    database = Database(made.name, url_of(server, made.name, owner, owner))
    database.run(SMALL_SHOP)
    yield database
    admin.run(f"DROP DATABASE {made.name} WITH (FORCE)")


@pytest.fixture
def by_owner(owned: Database, make_app: Callable[..., Flask]) -> Iterator[Database]:
    """The panel that signs in as the owner."""
    with make_app(database_url=owned.url, lock_timeout=1).app_context():
        yield owned


def rows_of(database: Database) -> list[list[tuple[str]]]:
    return [database.run(ROWS.format(table)) for table in ("customers", "orders")]


def test_what_was_changed_is_as_it_was_and_what_is_new_stays(by_owner: Database):
    by_owner.run(
        "CREATE TABLE measures (id serial, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE m24 PARTITION OF measures FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        "INSERT INTO measures (at) VALUES ('2024-05-05'); CREATE SCHEMA apart;"
        "CREATE TABLE apart.one AS SELECT 1 AS id; CREATE VIEW seen AS SELECT * FROM orders"
    )
    before = rows_of(by_owner)
    filename = backed_up()
    by_owner.run(
        "DELETE FROM orders WHERE id > 7; UPDATE customers SET name = 'x'; DROP VIEW seen;"
        "DROP TABLE apart.one; CREATE TABLE newer AS SELECT 1 AS id; CREATE TABLE apart.two ();"
        "ALTER TABLE orders ADD more int; CREATE INDEX ON orders (more);"
        "CREATE TABLE m25 PARTITION OF measures FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')"
    )
    told = restores.preview_restore(get_source(filename), Kind.IN_PLACE)
    assert told.stays == ["table apart.two", "table public.newer"]
    assert told.goes == ["table public.m25"]
    assert told.powers == ""
    row = restored(filename, Kind.IN_PLACE)
    assert rows_of(by_owner) == before
    assert by_owner.run("TABLE newer") == [(1,)]
    assert by_owner.run("SELECT to_regclass('m25'), count(*) FROM measures") == [(None, 1)]
    assert by_owner.run("SELECT count(*), (SELECT id FROM apart.one) FROM seen") == [(500, 1)]
    assert row.result["differences"] == []
    assert (row.result["stays"], row.result["goes"]) == (told.stays, told.goes)
    assert "the number of objects" in row.result["notCompared"]
    assert row.safety_backup
    assert row.database == by_owner.name
    # It proves nothing of the backup; what was lost is in the other one.
    made = proofs.list_proofs(backups.get_backup(filename).id)
    assert [each.level for each in made] == [Level.READ]
    by_owner.run("DROP VIEW seen")
    restored(row.safety_backup, Kind.IN_PLACE)
    assert by_owner.run("SELECT count(*), count(more) FROM orders") == [(7, 0)]
    assert by_owner.run("SELECT to_regclass('m25')::text") == [("m25",)]


_IN_THE_WAY = {
    "CREATE VIEW late AS SELECT * FROM orders": "view public.late depends on table public.orders",
    "CREATE TABLE bills (o int REFERENCES orders)": "constraint bills_o_fkey on table public.bills",
    "CREATE TABLE kin () INHERITS (customers)": "table public.kin depends on table public.cust",
    "CREATE FUNCTION f(orders) RETURNS int LANGUAGE sql AS 'SELECT 1'": "function public.f(",
    "ALTER TABLE customers ADD chief int REFERENCES customers": "constraint customers_chief_fkey",
    "CREATE MATERIALIZED VIEW sums AS SELECT sum(total) FROM orders": "ized view public.sums",
}


def test_what_depends_on_it_is_told_and_nothing_is_doubled(by_owner: Database):
    """The case that doubles rows with the usual recipe (facts, number 5)."""
    filename = backed_up()
    for change, told in _IN_THE_WAY.items():
        by_owner.run(change)
        with pytest.raises(Conflict) as refused:
            restores.preview_restore(get_source(filename), Kind.IN_PLACE)
        assert told in refused.value.detail, refused.value.detail
        by_owner.run(
            "DROP VIEW IF EXISTS late; DROP TABLE IF EXISTS bills, kin; DROP FUNCTION IF EXISTS f;"
            "ALTER TABLE customers DROP COLUMN IF EXISTS chief;"
            "DROP MATERIALIZED VIEW IF EXISTS sums"
        )
    by_owner.run("CREATE VIEW late AS SELECT * FROM orders")
    row = attempt(filename, Kind.IN_PLACE)
    assert row.status is Status.FAILED
    assert row.error_message.startswith("the backup cannot be restored in place")
    assert row.safety_backup is None
    assert by_owner.run("SELECT count(*) FROM orders") == [(500,)]
    assert by_owner.run("SELECT count(*) FROM late") == [(500,)]
    by_owner.run("DROP VIEW late")
    restored(filename, Kind.IN_PLACE)


def test_what_was_not_foreseen_fails_and_changes_nothing(by_owner: Database):
    filename = backed_up()
    by_owner.run("DROP TABLE orders; CREATE VIEW orders AS SELECT 1 AS id; DELETE FROM customers")
    row = attempt(filename, Kind.IN_PLACE)
    assert row.status is Status.FAILED
    assert "could not be loaded over the live database, which is unchanged" in row.error_message
    assert "not supported for views" in row.error_detail
    assert by_owner.run("SELECT (SELECT count(*) FROM customers), id FROM orders") == [(0, 1)]
    made = proofs.list_proofs(backups.get_backup(filename).id)
    assert [each.level for each in made] == [Level.READ]


# Stands still in the middle of a restore, and of nothing else.
_SLOW = """
    CREATE FUNCTION wait(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_catalog.pg_sleep(60) FROM pg_catalog.pg_stat_activity
        WHERE pid = pg_catalog.pg_backend_pid() AND application_name LIKE 'backstop restore%';
        RETURN true;
    END $$;
    CREATE TABLE slow (id int CHECK (wait(id)));
    INSERT INTO slow VALUES (1);
"""


def kill_pg_restore(line: str) -> None:
    if 'processing data for table "public.slow"' in line:
        for each in psutil.Process().children(recursive=True):
            if "pg_restore" in each.name():
                os.kill(each.pid, signal.SIGKILL)


def test_a_pg_restore_that_is_killed_leaves_all_as_it_was(
    by_owner: Database, leftovers: Callable[[], list[str]]
):
    by_owner.run(_SLOW)
    filename = backed_up()
    by_owner.run("DELETE FROM orders WHERE id > 7")
    before = rows_of(by_owner)
    row = attempt(filename, Kind.IN_PLACE, on_line=kill_pg_restore)
    assert row.status is Status.FAILED
    assert 'processing data for table "public.slow"' in (row.log or "")
    assert rows_of(by_owner) == before
    assert leftovers() == []


def test_a_client_that_holds_a_lock_is_named_and_not_waited_for(
    by_owner: Database, owner: str, leftovers: Callable[[], list[str]]
):
    filename = backed_up()
    with closing(psycopg2.connect(by_owner.url)) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM orders")
        row = attempt(filename, Kind.IN_PLACE)
        assert row.error_message == "another session has held a lock for longer than 1 s"
        assert row.error_detail.startswith(f"Held by {owner}, process ")
        assert "BACKSTOP_LOCK_TIMEOUT" in row.error_hint
        assert leftovers() == []
        cursor.execute("SELECT count(*) FROM orders")
        assert cursor.fetchone() == (500,)


def test_a_restore_that_waits_for_a_lock_is_cancelled(
    owned: Database, make_app: Callable[..., Flask], leftovers: Callable[[], list[str]]
):
    def cancel(line: str) -> None:
        if "dropping" in line and restores.list_restores()[0].cancelled_by is None:
            restores.cancel_restore(restores.list_restores()[0].id, by="bob")

    with make_app(database_url=owned.url, lock_timeout=60).app_context():
        filename = backed_up()
        with closing(psycopg2.connect(owned.url)) as holder, holder.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM orders")
            row = attempt(filename, Kind.IN_PLACE, on_line=cancel)
            assert row.error_message == "cancelled by bob"
            assert leftovers() == []


@pytest.mark.usefixtures("context")
def test_a_superuser_is_refused_without_the_word(shop: Database):
    filename = backed_up()
    shop.run("DELETE FROM orders")
    assert restores.preview_restore(get_source(filename), Kind.IN_PLACE).powers == "backstop"
    with pytest.raises(InvalidInput, match="with all rights of role backstop") as refused:
        attempt(filename, Kind.IN_PLACE)
    assert "--as-superuser" in refused.value.hint
    assert restores.list_restores() == []
    restored(filename, Kind.IN_PLACE, as_superuser=True)
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]


def test_a_role_that_could_become_more_is_refused_like_a_superuser(
    by_owner: Database, owner: str, server: Conninfo
):
    filename = backed_up()
    admin = Database("postgres", url_of(server, "postgres"))
    for grant, revoke in (
        (
            f"GRANT pg_execute_server_program TO {owner}",
            f"REVOKE pg_execute_server_program FROM {owner}",
        ),
        (f"GRANT backstop TO {owner}", f"REVOKE backstop FROM {owner}"),
        (f"ALTER ROLE {owner} CREATEROLE", f"ALTER ROLE {owner} NOCREATEROLE"),
    ):
        admin.run(grant)
        with pytest.raises(InvalidInput, match="with all rights of role"):
            attempt(filename, Kind.IN_PLACE)
        admin.run(revoke)
    restored(filename, Kind.IN_PLACE)


def test_who_does_not_own_it_all_is_told_what(
    owned: Database, owner: str, server: Conninfo, make_app: Callable[..., Flask]
):
    admin = Database(owned.name, url_of(server, owned.name))
    admin.run("CREATE TABLE others AS SELECT 1 AS id")
    with make_app(database_url=admin.url, restore_url=owned.url).app_context():
        filename = backed_up()
        with pytest.raises(Conflict) as refused:
            restores.preview_restore(get_source(filename), Kind.IN_PLACE)
        assert refused.value.detail == "table public.others belongs to backstop."
        admin.run(f"ALTER TABLE others OWNER TO {owner}")
        with pytest.raises(Conflict, match="cannot be restored in place"):  # as it was dumped
            restores.preview_restore(get_source(filename), Kind.IN_PLACE)
        filename = backed_up()
        admin.run("TRUNCATE others")
        restored(filename, Kind.IN_PLACE)  # by the role of BACKSTOP_RESTORE_URL
        assert admin.run("TABLE others") == [(1,)]
        admin.run(f"ALTER DATABASE {owned.name} OWNER TO backstop")
        with pytest.raises(NotPossible, match=r"only its owner, .*, can"):
            restores.preview_restore(get_source(filename), Kind.IN_PLACE)
        admin.run(f"ALTER DATABASE {owned.name} OWNER TO {owner}")
        admin.run("CREATE PUBLICATION all_of_it FOR ALL TABLES")
        with pytest.raises(NotPossible, match="only a superuser") as impossible:
            restores.preview_restore(get_source(backed_up()), Kind.IN_PLACE)
        assert impossible.value.detail == "PUBLICATION all_of_it"


def dying(row: Restore, **changes: Any) -> None:
    """As if its runner had been killed."""
    with writing() as session:
        again = session.get_one(Restore, row.id)
        again.status, again.finished_at, again.result = Status.PENDING, None, {}
        again.claimed_by, again.lease_until = "elsewhere boot ns 1 1", now()
        for name, value in changes.items():
            setattr(again, name, value)


def test_a_runner_that_died_is_judged_by_what_has_happened(by_owner: Database):
    row = restored(backed_up(), Kind.IN_PLACE)
    assert row.marker
    dying(row)
    assert row.filename in reconcile().completed
    assert not any(scratch.private_dir().glob("list-*"))
    assert restores.get_restore(row.id).tidied_at
    assert restores.get_restore(row.id).is_completed
    (oid,) = by_owner.run("SELECT %s::regclass::oid::bigint", "public." + row.marker["name"])[0]
    dying(row, marker=row.marker | {"oid": oid})  # it is still the same table
    assert row.filename in reconcile().failed
    dying(row, marker=None, error_message="")
    assert row.filename in reconcile().failed


def test_the_sample_with_its_partitions_is_restored_in_place(
    server: Conninfo, make_app: Callable[..., Flask], new_database: Callable[..., Database]
):
    """Indexes of partitions cannot be dropped by themselves: pg_restore -c alone fails here."""
    copy = new_database(template="ecom")
    with make_app(database_url=copy.url).app_context():
        filename = backed_up()
        copy.run(
            "UPDATE products SET price = price + 1; DELETE FROM stock_movements;"
            "DROP MATERIALIZED VIEW reports.best_sellers; SELECT lo_unlink(4100001)"
        )
        row = restored(filename, Kind.IN_PLACE, as_superuser=True)
        assert row.result["differences"] == []
        assert row.result["stays"] == []
        source = Database("ecom", url_of(server, "ecom"))
        for table in ("products", "stock_movements", "reports.best_sellers", "orders"):
            rows = f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t"
            assert copy.run(rows) == source.run(rows)
        for asked in (
            """SELECT relname, indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid
               WHERE c.oid > 16384 AND relname !~ '^pg_toast'""",
            """SELECT c.relname, p.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
               JOIN pg_class p ON p.oid = inhparent""",
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE oid > 16384",
            "SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata",
        ):
            assert sorted(copy.run(asked)) == sorted(source.run(asked))
