"""Some tables of a backup are restored into a database of their own, and compared."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from app.errors import Conflict, InvalidInput
from app.extensions import writing
from app.models import DatabaseBackup, Kind, Level
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from app.services.restores import service as restores
from app.services.restores import tables as contents
from app.services.restores.service import preview_restore
from app.services.restores.source import get_source
from tests.conftest import Database, url_of
from tests.services.restores.conftest import attempt, backed_up, restored

ODD = '"Büro & ""Lager"".v1"."Bestände 2026.""alt"" %"'


@pytest.fixture
def ecom(server: Conninfo, make_app: Callable[..., Flask]) -> Iterator[Database]:
    """The sample shop; what is restored beside it is dropped afterwards."""
    database = Database("ecom", url_of(server, "ecom"))
    with make_app(database_url=database.url).app_context():
        yield database
    admin = Database("postgres", url_of(server, "postgres"))
    for (name,) in admin.run(r"SELECT datname FROM pg_database WHERE datname LIKE 'ecom\_%%'"):
        admin.run(f'DROP DATABASE "{name}" WITH (FORCE)')


def rows(database: Database, table: str) -> list[tuple[str]]:
    return database.run(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")


def test_tables_of_the_sample_come_into_a_database_of_their_own(ecom: Database, server: Conninfo):
    filename = backed_up()
    listed = contents.list_contents(filename)
    names = [(each["schema"], each["name"]) for each in listed.tables]
    assert listed.total == len(names)
    assert names == sorted(names)
    (parent,) = [each for each in listed.tables if each["isPartitioned"]]
    assert (parent["name"], parent["rows"], parent["bytes"]) == ("stock_movements", None, None)
    largest = contents.list_contents(filename, sort="bytes", limit=2, offset=1)
    sizes = sorted((each["bytes"] or 0 for each in listed.tables), reverse=True)
    assert [each["bytes"] for each in largest.tables] == sizes[1:3]
    ((written,),) = ecom.run("SELECT sum(length(t::text)) FROM customers t")
    (customers,) = contents.list_contents(filename, query="PUBLIC.Cust").tables
    assert written / 2 < customers["bytes"] < written * 2

    chosen = contents.choose_tables(
        get_source(filename), ["public.orders", "public.stock_movements", ODD]
    )
    told = preview_restore(get_source(filename), Kind.BESIDE, tables=chosen)
    row = restored(filename, Kind.BESIDE, tables=chosen)
    assert row.tables == [{"schema": schema, "name": name} for schema, name in chosen]
    assert row.result["differences"] == []
    assert (row.result["tables"], row.result["rows"]) == (told.tables, told.rows)
    assert row.result["tables"] == 8
    assert row.result["leftOut"] == told.left_out
    assert "FK CONSTRAINT orders orders_customer_id_fkey" in told.left_out
    assert row.result["notCompared"]
    copy = Database(row.database, url_of(server, row.database))
    for table in ("orders", "stock_movements", ODD):
        assert rows(copy, table) == rows(ecom, table)
    values = "SELECT sequencename, last_value FROM pg_sequences ORDER BY 1"
    brought = copy.run(values)
    assert len(brought) == 3
    assert set(brought) <= set(ecom.run(values))
    assert copy.run("SELECT to_regclass('customers'), to_regclass('reports.monthly_sales')") == [
        (None, None)
    ]
    # It says nothing of the whole backup.
    made = proofs.list_proofs(backups.get_backup(filename).id)
    assert [each.level for each in made] == [Level.READ]


@pytest.mark.usefixtures("context")
def test_what_differs_is_told_and_proves_nothing(living: Database, server: Conninfo):
    living.run("CREATE TABLE items (id serial); INSERT INTO items DEFAULT VALUES")
    filename = backed_up()
    with writing() as session:
        made = backups.get_backup(filename)
        held = made.contents or {}
        tables = [each | {"rows": 7} for each in held["tables"]]
        sequences = [each | {"value": [9, True]} for each in held["sequences"]]
        row = session.get_one(DatabaseBackup, made.id)
        row.contents = held | {"tables": tables, "sequences": sequences}
    done = restored(filename, Kind.BESIDE, tables=[("public", "items")])
    assert done.result["differences"] == [
        "rows of public.items: 7 expected, 1 found",
        "value of public.items_id_seq: [9, True] expected, [1, True] found",
    ]
    whole = [("public", "customers"), ("public", "orders")]
    foreign = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'"
    both = restored(filename, Kind.BESIDE, tables=whole, into=f"{living.name}_both")
    assert Database(both.database, url_of(server, both.database)).run(foreign) == [(1,)]
    assert both.result["leftOut"] == []
    made = proofs.list_proofs(backups.get_backup(filename).id)
    assert [each.level for each in made] == [Level.READ]


@pytest.mark.usefixtures("context")
def test_a_table_whose_function_reads_another_is_told_and_leaves_nothing(
    living: Database, leftovers: Callable[[], list[str]]
):
    living.run(
        "CREATE FUNCTION known(int) RETURNS boolean LANGUAGE sql AS"
        " 'SELECT EXISTS (SELECT FROM customers WHERE id = $1)';"
        "CREATE TABLE notes (customer int CHECK (known(customer)));"
        "INSERT INTO notes VALUES (1)"
    )
    filename = backed_up()
    row = attempt(filename, Kind.BESIDE, tables=[("public", "notes")])
    assert row.error_message == "these tables cannot be restored on their own"
    assert 'relation "customers" does not exist' in row.error_detail + (row.log or "")
    assert leftovers() == []
    made = proofs.list_proofs(backups.get_backup(filename).id)
    assert [each.level for each in made] == [Level.READ]


@pytest.mark.usefixtures("context")
def test_what_cannot_be_chosen_is_refused_before_anything_starts(living: Database):
    living.run(
        "CREATE EXTENSION hstore; CREATE TABLE conf (a int); CREATE SCHEMA crm;"
        "CREATE TABLE crm.one (id int); CREATE TABLE crm.two (id int);"
        "ALTER EXTENSION hstore ADD TABLE conf"
    )
    filename = backed_up()
    for wanted, message, hint in (
        ("public.ordesr", "the backup holds no table public.ordesr", "Did you mean public.orders?"),
        ("cmr.*", "the backup holds no tables of a schema cmr", "Did you mean crm?"),
        ("public.conf", "the backup holds no table public.conf", ""),
        ("xyzzy.*", "the backup holds no tables of a schema xyzzy", "flask backup contents"),
    ):
        with pytest.raises(InvalidInput, match=message) as refused:
            contents.choose_tables(get_source(filename), [wanted])
        assert refused.value.hint.startswith(hint)
    chosen = contents.choose_tables(get_source(filename), ["crm.*", "crm.one", "public.orders"])
    assert chosen == [("crm", "one"), ("crm", "two"), ("public", "orders")]
    with pytest.raises(InvalidInput, match=r"holds no table public\.ordesr"):
        attempt(filename, Kind.BESIDE, tables=[("public", "ordesr")])
    for kind in (Kind.REPLACE, Kind.DRILL):
        with pytest.raises(InvalidInput, match="some tables can only be restored beside"):
            attempt(filename, kind, tables=chosen)
    with pytest.raises(Conflict, match="exists already"):
        preview_restore(get_source(filename), Kind.BESIDE, "postgres", chosen)
    assert restores.list_restores() == []
