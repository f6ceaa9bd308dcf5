"""Some tables of real archives: what makes them is complete, and nothing else comes along."""

import subprocess
from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.postgres.archive import Entry, read_entries
from app.postgres.conninfo import Conninfo
from app.postgres.selection import Selection, read_name, select, written
from tests.conftest import Database
from tests.postgres.conftest import as_admin, at, make_dump
from tests.servers import toolchain

# What ecom does not have.
_OTHERS = """
    CREATE SCHEMA code;
    CREATE FUNCTION code.inner(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
    CREATE FUNCTION code.outer(int) RETURNS boolean LANGUAGE sql IMMUTABLE
        AS 'SELECT code.inner($1)';
    CREATE TABLE people (id serial PRIMARY KEY);
    CREATE FUNCTION code.all_people() RETURNS SETOF people LANGUAGE sql
        BEGIN ATOMIC SELECT * FROM people; END;
    CREATE TABLE checked (id int CHECK (code.outer(id)), person int REFERENCES people);
    CREATE SEQUENCE numbers START 17;
    CREATE TABLE numbered (id int DEFAULT nextval('numbers'), other int DEFAULT
        nextval('people_id_seq'), kin people);
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (more int, UNIQUE (id)) INHERITS (parent);
    CREATE TABLE guarded (id int PRIMARY KEY, owner text);
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON guarded USING (owner = current_user);
    CREATE POLICY kin ON guarded USING (id IN (SELECT id FROM people));
    CREATE RULE nothing AS ON DELETE TO guarded DO INSTEAD NOTHING;
    CREATE RULE copied AS ON INSERT TO guarded DO ALSO INSERT INTO people DEFAULT VALUES;
    CREATE VIEW seen AS SELECT * FROM guarded;
    CREATE FUNCTION code.touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER touched BEFORE UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION code.touched();
    CREATE STATISTICS linked (dependencies) ON id, owner FROM guarded;
    CREATE INDEX by_owner ON guarded (owner);
    COMMENT ON INDEX by_owner IS 'told';
    COMMENT ON FUNCTION code.touched() IS 'told too';
    GRANT SELECT ON guarded TO PUBLIC;
    CREATE TABLE deep (a int, b int) PARTITION BY LIST (a);
    CREATE TABLE deep_1 PARTITION OF deep FOR VALUES IN (1) PARTITION BY LIST (b);
    CREATE TABLE deep_1_1 PARTITION OF deep_1 FOR VALUES IN (1);
    CREATE TABLE deep_2 PARTITION OF deep FOR VALUES IN (2);
    INSERT INTO deep VALUES (1, 1), (2, 2);
    INSERT INTO people DEFAULT VALUES;
    INSERT INTO checked VALUES (1, 1);
    INSERT INTO child VALUES (1, 2);
    INSERT INTO guarded VALUES (1, 'ann');
"""


@pytest.fixture(scope="module")
def ecom(server: Conninfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ecom") / "x.dump"
    make_dump(toolchain(17), at(server, "ecom"), path)
    return path


@pytest.fixture(scope="module")
def others(server: Conninfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("others") / "x.dump"
    admin = as_admin(server)
    admin.run("CREATE DATABASE others TEMPLATE template0")
    try:
        as_admin(server, "others").run(_OTHERS)
        make_dump(toolchain(17), at(server, "others"), path)
    finally:
        admin.run("DROP DATABASE others")
    return path


def entries_of(path: Path) -> list[Entry]:
    with path.open("rb") as file:
        return read_entries(file)


def chosen(path: Path, *names: str) -> Selection:
    pairs = [read_name(each) for each in names]
    return select(entries_of(path), [(schema, name or "") for schema, name in pairs])


def made(selection: Selection, *kinds: str) -> set[str]:
    return {f"{each.schema}.{each.name}" for each in selection.entries if each.kind in kinds}


def loaded(path: Path, selection: Selection, database: Database) -> Database:
    """Loaded by pg_restore, which stops at the first error."""
    list_file = path.with_suffix(".list")
    list_file.write_text("".join(f"{each.id};\n" for each in selection.entries))
    argv = [toolchain(17).pg_restore, "-e", "-L", list_file, "-d", database.url, path]
    subprocess.run(argv, check=True, capture_output=True)
    return database


@pytest.mark.parametrize("name", ["ecom", "others"])
def test_whatever_is_chosen_has_all_that_it_needs(name: str, request: pytest.FixtureRequest):
    path = request.getfixturevalue(name)
    entries = entries_of(path)
    ids = {each.id for each in entries}
    tables = [(each.schema, each.name) for each in entries if each.kind == "TABLE"]
    for table in tables:
        selection = select(entries, [table])
        taken = {each.id for each in selection.entries}
        for each in selection.entries:
            assert {need for need in each.needs if need in ids} <= taken, (table, each)
        assert table in selection.tables
        assert not made(selection, "VIEW", "MATERIALIZED VIEW", "BLOBS", "EVENT TRIGGER")
    everything = select(entries, tables)
    assert everything.definitions == []
    kinds = {"TABLE", "TABLE DATA", "FK CONSTRAINT", "CONSTRAINT", "TRIGGER", "DEFAULT", "POLICY"}
    assert made(everything, *kinds) == {
        f"{each.schema}.{each.name}" for each in entries if each.kind in kinds
    }


def test_orders_come_with_their_parts_and_without_their_customers(ecom: Path, new_database):
    selection = chosen(ecom, "public.orders")
    assert made(selection, "TABLE") == {"public.orders"}
    assert made(selection, "TYPE") >= {"public.order_status"}
    assert made(selection, "TRIGGER") == {"public.orders orders_touched"}
    assert made(selection, "SEQUENCE SET") == {"public.order_number"}
    assert made(selection, "STATISTICS") == {"public.orders_channel_delivery"}
    assert made(selection, "FK CONSTRAINT", "SCHEMA") == set()
    assert selection.left_out == [
        "FK CONSTRAINT orders orders_customer_id_address_no_fkey",
        "FK CONSTRAINT orders orders_customer_id_fkey",
        "LARGE OBJECTS",
    ]
    copy = loaded(ecom, selection, new_database())
    assert copy.run("SELECT count(*) > 0 FROM orders") == [(True,)]
    both = chosen(ecom, "public.orders", "public.customers")
    assert made(both, "FK CONSTRAINT") == {"public.orders orders_customer_id_fkey"}


def test_partitions_come_with_their_parent_and_a_parent_without_rows(ecom: Path, new_database):
    selection = chosen(ecom, "public.stock_movements")
    assert len(selection.tables) == 7
    assert (len(made(selection, "TABLE DATA")), selection.definitions) == (6, [])
    assert len(made(selection, "INDEX ATTACH")) == 12
    one = chosen(
        ecom, "public.stock_movements_2024_h1", '"Büro & ""Lager"".v1".Bestände 2026."alt" %'
    )
    assert one.definitions == ["public.stock_movements"]
    assert made(one, "SCHEMA") == {'.Büro & "Lager".v1'}
    copy = loaded(ecom, one, new_database())
    (rows,) = copy.run("SELECT count(*) FROM stock_movements_2024_h1")
    assert copy.run("SELECT count(*) FROM stock_movements") == [rows]
    assert rows > (0,)
    assert copy.run("SELECT count(*) FROM pg_inherits") == [(3,)]  # the table and two indexes


def test_what_is_hidden_in_functions_comes_along(others: Path, new_database):
    """The text of code.outer calls code.inner; the archive does not tell."""
    selection = chosen(others, "public.checked")
    assert made(selection, "FUNCTION") >= {"code.inner(integer)"}
    assert "code.all_people()" not in made(selection, "FUNCTION")
    assert made(selection, "TABLE") == {"public.checked"}
    assert selection.left_out == ["FK CONSTRAINT checked checked_person_fkey"]
    assert loaded(others, selection, new_database()).run("TABLE checked") == [(1, 1)]


def test_a_foreign_key_needs_the_rows_of_the_other_table(others: Path, new_database):
    """numbered has a column of people's type: that table is there, but empty."""
    selection = chosen(others, "public.checked", "public.numbered")
    assert selection.definitions == ["public.people"]
    assert "FK CONSTRAINT checked checked_person_fkey" in selection.left_out
    assert loaded(others, selection, new_database()).run("TABLE checked") == [(1, 1)]
    both = chosen(others, "public.checked", "public.people")
    assert loaded(others, both, new_database()).run("SELECT count(*) FROM people") == [(2,)]
    assert made(both, "FK CONSTRAINT") == {"public.checked checked_person_fkey"}


def test_each_kind_of_part_is_brought_or_told(others: Path, new_database):
    selection = chosen(others, "public.guarded", "public.child", "public.numbered", "public.deep")
    assert made(selection, "POLICY", "RULE", "TRIGGER", "ROW SECURITY") == {
        "public.guarded own", "public.guarded kin", "public.guarded nothing",
        "public.guarded copied", "public.guarded touched", "public.guarded",
    }  # fmt: skip
    # numbered has a column of people's type, so that table is there, and empty.
    assert selection.definitions == ["public.people", "public.parent"]
    copy = loaded(others, selection, new_database())
    assert copy.run("SELECT (SELECT count(*) FROM people), (SELECT count(*) FROM child)") == [
        (0, 1)
    ]
    assert copy.run("SELECT a, b FROM deep ORDER BY a") == [(1, 1), (2, 2)]
    assert copy.run("SELECT nextval('numbers')") == [(17,)]
    assert copy.run("SELECT obj_description('by_owner'::regclass)") == [("told",)]
    alone = chosen(others, "public.guarded")
    assert alone.left_out == ["RULE guarded copied", "POLICY guarded kin"]
    assert made(alone, "COMMENT") == {"public.INDEX by_owner", "code.FUNCTION touched()"}
    assert made(alone, "ACL") == {"public.TABLE guarded"}


def test_a_table_that_is_not_there_is_refused(ecom: Path):
    with pytest.raises(InvalidInput, match=r"the archive has no table public\.order"):
        chosen(ecom, "public.order")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("public.orders", ("public", "orders")),
        (" crm.* ", ("crm", None)),
        ('crm."*"', ("crm", "*")),
        ('"a.b"."c ""d"".*"', ("a.b", 'c "d".*')),
        ("public.Odd name.x", ("public", "Odd name.x")),
        ('Büro."x\ny"', ("Büro", "x\ny")),
    ],
)
def test_names_are_read_as_they_are_written(text: str, name: tuple[str, str | None]):
    assert read_name(text) == name
    if name[1] is not None:
        assert read_name(written(*name)) == name


@pytest.mark.parametrize("text", ["orders", "", ".orders", "public.", '"a.b', '"a"b.c'])
def test_what_names_no_table_is_refused(text: str):
    with pytest.raises(InvalidInput, match="does not name a table"):
        read_name(text)
