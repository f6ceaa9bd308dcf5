"""How far a dump is, from the server's figures and from pg_dump's lines."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.postgres import progress as module
from app.postgres.conninfo import Conninfo, client_environment, parse_url
from app.postgres.dump import Request, dump
from app.postgres.progress import PAGE, DumpProgress, Table, watched
from app.postgres.tools import Toolchain
from app.programs import command
from app.programs.command import Watch
from tests.conftest import Database
from tests.postgres.conftest import LIMITS, at, hold_snapshot, wait_until

ORDERS = Table(1, "public.orders", 90 * PAGE, 1000)
CUSTOMERS = Table(2, "public.customers", 9 * PAGE, -1)
LINE = 'pg_dump: dumping contents of table "{}"'


def two() -> DumpProgress:
    return DumpProgress([replace(ORDERS), replace(CUSTOMERS)])


def test_nothing_is_done_at_first():
    progress = two()
    assert (progress.done, progress.total, progress.table, progress.fraction) == (0, 2, "", 0)
    assert not progress.has_begun


def test_an_empty_database_has_progress_too():
    progress = DumpProgress([])
    progress.heard("pg_dump: reading schemas")
    assert (progress.done, progress.total, progress.fraction) == (0, 0, 0)


def test_the_command_line_is_no_sign_that_it_has_begun():
    """Connections may be scarce: those of pg_dump come first."""
    progress = two()
    progress.heard("/usr/lib/postgresql/17/bin/pg_dump -F c -b -v")
    assert not progress.has_begun
    progress.heard("pg_dump: last built-in OID is 16383")
    assert progress.has_begun


def test_lines_alone_tell_which_tables_are_done():
    progress = two()
    progress.heard(LINE.format("public.orders"))
    assert (progress.done, progress.table, progress.fraction) == (0, "public.orders", 0)
    progress.heard(LINE.format("public.customers"))
    assert (progress.done, progress.table, progress.fraction) == (1, "public.customers", 0.9)
    progress.heard("pg_dump: saving large objects")
    assert (progress.done, progress.table, progress.fraction) == (2, "large objects", 0.99)


def test_several_tables_are_copied_at_once():
    progress = DumpProgress([replace(ORDERS), replace(CUSTOMERS)], jobs=2)
    progress.heard(LINE.format("public.orders"))
    progress.heard(LINE.format("public.customers"))
    progress.saw([(ORDERS.oid, 500, 10), (CUSTOMERS.oid, 7, 3 * PAGE)])
    assert (progress.done, progress.moved) == (0, 507)
    assert progress.table == "public.orders, public.customers"
    assert progress.fraction == pytest.approx(0.48)
    progress.heard("pg_dump: finished item 2558 TABLE DATA customers")
    assert (progress.done, progress.table) == (1, "public.orders")
    assert progress.fraction == pytest.approx(0.54)


def test_rows_move_the_figure_within_a_table():
    progress = two()
    progress.saw([(ORDERS.oid, 500, 10)])
    assert progress.fraction == pytest.approx(0.45)
    assert progress.moved == 500
    progress.saw([(ORDERS.oid, 1200, 10)])  # more than were estimated
    assert progress.fraction == pytest.approx(0.9)


def test_bytes_move_it_where_rows_were_never_counted():
    progress = two()
    progress.saw([(CUSTOMERS.oid, 77, CUSTOMERS.size // 3)])
    assert progress.fraction == pytest.approx(0.03)


def test_tables_are_weighed_anew_by_their_true_sizes():
    progress = two()
    progress.heard(LINE.format("public.orders"))
    progress.heard(LINE.format("public.customers"))
    progress.weigh([(CUSTOMERS.oid, 909 * PAGE), (ORDERS.oid, None), (4711, 5)])
    assert progress.fraction == pytest.approx(0.09)


def test_large_objects_weigh_too_and_move_with_what_is_written():
    progress = two()
    progress.weigh([(2613, 99 * PAGE)])
    progress.wrote(1000)
    progress.heard("pg_dump: saving large objects")
    assert progress.fraction == 0
    progress.wrote(1000 + 99 * PAGE // 2)
    assert progress.fraction == pytest.approx(0.25, abs=0.001)
    progress.heard(LINE.format("public.orders"))
    assert progress.fraction == pytest.approx(0.5)
    assert progress.done == 0


def test_what_is_not_in_the_list_changes_nothing():
    progress = two()
    progress.heard(LINE.format("public.others"))
    progress.saw([(4711, 5, 5)])
    assert (progress.done, progress.table, progress.fraction) == (0, "", 0)


def test_a_late_word_of_an_earlier_table_does_not_go_back():
    progress = two()
    progress.saw([(ORDERS.oid, 10, 10)])
    progress.heard(LINE.format("public.customers"))
    progress.saw([(ORDERS.oid, 1000, 10)])
    assert progress.table == "public.customers"
    assert progress.done == 1


@pytest.mark.parametrize("name", ['we ird.sch.a.b"', "a.b", "%s {}", "naïve.täble"])
def test_odd_names_are_known(name: str):
    progress = DumpProgress([Table(7, name, 0, -1)])
    progress.heard(LINE.format(name))
    assert progress.table == name


events = st.one_of(
    st.tuples(st.just("line"), st.sampled_from(["public.orders", "public.customers", "x.y"])),
    st.tuples(st.just("row"), st.integers(0, 3), st.integers(0, 2000), st.integers(0, 10**6)),
    st.tuples(st.just("size"), st.integers(0, 3), st.integers(0, 10**9)),
)


@given(st.lists(events))
def test_it_never_falls_and_never_leaves_its_bounds(happened: list[tuple]):
    progress, last = two(), 0.0
    for kind, *values in happened:
        if kind == "line":
            progress.heard(LINE.format(*values))
        elif kind == "row":
            progress.saw([tuple(values)])
        else:
            progress.weigh([tuple(values)])
        assert last <= progress.fraction <= 1
        assert 0 <= progress.done <= progress.total
        last = progress.fraction


# Against a real server


@pytest.fixture
def slow(new_database) -> Database:
    database = new_database()
    database.run(
        "CREATE TABLE big AS SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 60000) n"
    )
    database.run("CREATE TABLE small AS SELECT 1 AS n")
    database.run("ANALYZE")
    return database


def dumped(info: Conninfo, watched_at: Conninfo, chain: Toolchain, folder: Path) -> DumpProgress:
    """Dump the database while its progress is watched; what was seen is in `seen`."""
    name = "backstop test progress"
    with hold_snapshot(info, application_name=name) as snapshot:
        tables = [
            Table(each["oid"], f"{each['schema']}.{each['name']}", 0, each["rows"])
            for each in snapshot.contents()["tables"]
        ]
        progress = DumpProgress(tables)
        target = folder / "x.dump"
        target.touch()
        with (
            client_environment(info, folder / "private") as environment,
            watched(watched_at, progress, name) as look,
        ):
            request = Request(chain, info, environment | {"PGAPPNAME": name}, snapshot.id, "gzip:9")
            watch = Watch(on_line=progress.heard, on_tick=look)
            dump(request, target, limits=LIMITS, watch=watch)
    return progress


def test_a_real_dump_is_watched(
    slow: Database, own_toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_ASK_EVERY", 0.0)
    monkeypatch.setattr(command, "_TICK", 0.01)  # a quick server has it dumped in no time
    seen: list[tuple[int, int]] = []
    sizes: list[object] = []
    real_saw, real_weigh = DumpProgress.saw, DumpProgress.weigh
    monkeypatch.setattr(
        DumpProgress, "saw", lambda self, rows: (seen.extend(rows), real_saw(self, rows))
    )
    monkeypatch.setattr(
        DumpProgress, "weigh", lambda self, rows: (sizes.extend(rows), real_weigh(self, rows))
    )
    info = parse_url(slow.url)
    progress = dumped(info, info, own_toolchain, tmp_path)
    assert len(sizes) == 3  # two tables, and the large objects
    assert seen, "the server told of the COPY"
    assert {oid for oid, *_ in seen} <= set(progress.oids)
    for oid in progress.oids:
        rows = [rows for seen_oid, rows, _ in seen if seen_oid == oid]
        assert rows == sorted(rows)
    assert progress.done == 1
    assert progress.table == "public.small"
    assert progress.fraction > 0.9


def test_a_watch_that_cannot_connect_costs_nothing_but_detail(
    slow: Database, own_toolchain: Toolchain, tmp_path: Path
):
    info = parse_url(slow.url)
    for away in (at(info, "not there"), parse_url("postgresql://x:y@127.0.0.1:1/z")):
        folder = tmp_path / away.database
        folder.mkdir()
        progress = dumped(info, away, own_toolchain, folder)
        assert progress.table == "public.small"


_OURS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'backstop test%'
"""


def test_a_watch_leaves_no_connection(slow: Database, own_toolchain: Toolchain, tmp_path: Path):
    info = parse_url(slow.url)
    dumped(info, info, own_toolchain, tmp_path)
    wait_until(lambda: slow.run(_OURS) == [(0,)], "the sessions end")


def test_a_watch_does_not_connect_before_pg_dump_has(slow: Database):
    """Connections can be scarce, and pg_dump needs one."""
    with watched(parse_url(slow.url), DumpProgress([]), "backstop test early") as look:
        for _ in range(10):
            look()
        assert slow.run(_OURS) == [(0,)]
