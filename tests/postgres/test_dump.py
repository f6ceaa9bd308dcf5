"""Real dumps of real servers: what is in them, and what is no dump."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.errors import DumpError, PostgresError, StorageFull, ToolError
from app.postgres import dump as dumping
from app.postgres.archive import read_header, read_whole
from app.postgres.conninfo import Conninfo, parse_url, write_passfile
from app.postgres.dump import Limits
from app.postgres.tools import Toolchain, Version, choose_toolchain, find_toolchains
from app.programs import command
from app.programs.command import Watch
from tests.conftest import Database, url_of
from tests.postgres.conftest import (
    LIMITS,
    Role,
    as_admin,
    at,
    hold_snapshot,
    make_dump,
    pg_dump_process,
    signed_in_as,
    wait_until,
)
from tests.servers import programs, toolchain

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's own ways")


# Restoring and comparing


def restored(chain: Toolchain, archive: Path, target: Database) -> Database:
    """The target, after a plain pg_restore."""
    ended = subprocess.run(
        [chain.pg_restore, "--exit-on-error", "-d", target.url, archive],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    return target


#: Each tells one side of a database: a name, and what it holds.
SIDES = {
    "relations": """
        SELECT oid::regclass::text, relkind, relpersistence, relrowsecurity, relacl::text
        FROM pg_class WHERE oid >= 16384 AND relnamespace::regnamespace::text !~ '^pg_'""",
    "columns": """
        SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull,
               attidentity, attgenerated, pg_get_expr(adbin, adrelid)
        FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
             LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attnum > 0 AND NOT attisdropped AND attrelid >= 16384
              AND relnamespace::regnamespace::text !~ '^pg_'""",
    "indexes": "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid >= 16384"
    " AND indrelid::regclass::text !~ '^pg_'",
    "constraints": """
        SELECT conrelid::regclass::text, contypid::regtype::text, conname,
               pg_get_constraintdef(oid)
        FROM pg_constraint WHERE oid >= 16384""",
    "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger"
    " WHERE oid >= 16384 AND NOT tgisinternal",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE oid >= 16384",
    "views": "SELECT oid::regclass::text, pg_get_viewdef(oid) FROM pg_class"
    " WHERE relkind IN ('v', 'm') AND oid >= 16384",
    "enums": "SELECT enumtypid::regtype::text, enumlabel, rank() OVER (ORDER BY enumsortorder)"
    " FROM pg_enum",
    "comments": """
        SELECT (pg_identify_object(classoid, objoid, objsubid)).identity, description
        FROM pg_description WHERE objoid >= 16384""",
    "large objects": "SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata",
}


def contents_of(database: Database) -> dict[str, Any]:
    """Everything that a dump must bring back, told so that two databases compare."""
    with closing(psycopg2.connect(database.url)) as connection, connection.cursor() as cursor:

        def rows(query: str) -> list[tuple[Any, ...]]:
            cursor.execute(query)
            return cursor.fetchall()

        # What is set on the database itself is not in a dump.
        cursor.execute("SET search_path = pg_catalog; SET timezone = 'UTC'; SET datestyle = 'ISO'")
        told: dict[str, Any] = {side: sorted(rows(sql), key=repr) for side, sql in SIDES.items()}
        for name, kind in rows(
            "SELECT format('%I.%I', nspname, relname), relkind FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind IN ('r', 'm', 'S') AND c.oid >= 16384 AND nspname !~ '^pg_'"
        ):
            if kind == "S":
                told[name] = rows(f"SELECT last_value, is_called FROM {name}")
            else:
                told[name] = rows(
                    "SELECT count(*), md5(string_agg(line, E'\\n' ORDER BY line COLLATE \"C\"))"
                    f" FROM (SELECT t::text AS line FROM ONLY {name} t) x"
                )
    return told


@pytest.fixture
def ecom(server: Conninfo) -> Conninfo:
    return at(server, "ecom")


@pytest.fixture
def info(standing: Database) -> Conninfo:
    return parse_url(standing.url)


@pytest.fixture
def archive(own_toolchain: Toolchain, info: Conninfo, tmp_path: Path) -> Path:
    """A whole dump of the small shop."""
    make_dump(own_toolchain, info, tmp_path / "whole.dump")
    return tmp_path / "whole.dump"


@pytest.fixture
def big(new_database: Callable[..., Database]) -> Database:
    """Some megabytes that do not compress, in two tables."""
    made = new_database()
    for table in ("first", "second"):
        made.run(f"CREATE TABLE {table} AS SELECT n, md5(n::text) FROM generate_series(1, 60000) n")
    return made


# A dump is whole


def test_a_dump_brings_everything_back(
    own_toolchain: Toolchain,
    ecom: Conninfo,
    server: Conninfo,
    new_database: Callable[..., Database],
    tmp_path: Path,
):
    archive = tmp_path / "ecom.dump"
    lines = make_dump(own_toolchain, ecom, archive)
    read_whole(own_toolchain, archive)

    before = contents_of(Database("ecom", url_of(server, "ecom")))
    after = contents_of(restored(own_toolchain, archive, new_database()))
    assert after.keys() == before.keys()
    for side in before:
        assert after[side] == before[side], side
    assert {"reports.best_sellers", "public.order_number", "public.notes"} < before.keys()
    assert any('"Bestände 2026.""alt"" %"' in side for side in before)
    for side in ("comments", "large objects", "triggers", "enums"):
        assert before[side]
    assert any('dumping contents of table "public.orders"' in line for line in lines)


def test_a_dump_is_what_the_database_was_in_the_snapshot(
    own_toolchain: Toolchain,
    shop: Database,
    new_database: Callable[..., Database],
    tmp_path: Path,
):
    info, before = parse_url(shop.url), contents_of(shop)
    with hold_snapshot(info, application_name="backstop test") as held:
        shop.run("INSERT INTO customers VALUES (1000, 'too late')")
        shop.run("DELETE FROM orders WHERE id % 2 = 0")
        shop.run("CREATE TABLE too_late (id int)")
        make_dump(own_toolchain, info, tmp_path / "x.dump", snapshot=held.id)
    back = restored(own_toolchain, tmp_path / "x.dump", new_database())
    assert contents_of(back) == before


def test_a_dump_goes_into_the_private_file_that_is_there(
    own_toolchain: Toolchain, info: Conninfo, tmp_path: Path
):
    target = tmp_path / "x.dump"
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=0o600)
    make_dump(own_toolchain, info, target)
    assert os.fstat(descriptor).st_size == target.stat().st_size > 0
    assert target.stat().st_mode & 0o777 == 0o600
    os.close(descriptor)


def test_two_dumps_in_one_snapshot_hold_the_same_rows(
    own_toolchain: Toolchain, shop: Database, tmp_path: Path
):
    info = parse_url(shop.url)
    with hold_snapshot(info, application_name="backstop test") as held:
        for name in "ab":
            make_dump(own_toolchain, info, tmp_path / name, snapshot=held.id, compression="none")
            shop.run("DELETE FROM orders WHERE id > 50")
    texts = [
        command.run([own_toolchain.pg_restore, "-a", "-f", "-", tmp_path / name], timeout=20).output
        for name in "ab"
    ]
    # 17.6 and later put a random word into the text.
    one, two = (re.sub(r"(?m)^\\(un)?restrict .*$", "", text) for text in texts)
    assert one == two
    assert one.count("customer ") >= 50


# What may be seen of it


@contextmanager
def locked(database: Database, table: str) -> Iterator[None]:
    with closing(psycopg2.connect(database.url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


class Enough(Exception):
    """Raised by a tick that has seen what it came for."""


def test_no_secret_is_seen_by_others_and_the_session_is_named(
    own_toolchain: Toolchain, info: Conninfo, standing: Database, tmp_path: Path
):
    seen: list[tuple[list[str], dict[str, str], list[Any]]] = []
    waiting = "SELECT application_name FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    def look() -> None:
        process, sessions = pg_dump_process(), standing.run(waiting)
        if process is not None and sessions:
            seen.append((process.cmdline(), process.environ(), sessions))
            raise Enough

    write_passfile(tmp_path / "pgpass", info.password)
    environment = {"PGPASSFILE": str(tmp_path / "pgpass"), "PGAPPNAME": "backstop a.dump"}
    with locked(standing, "orders"), pytest.raises(Enough):
        make_dump(own_toolchain, info, tmp_path / "x.dump", environment=environment, on_tick=look)
    arguments, environment, sessions = seen[0]
    assert info.password not in " ".join(arguments)
    assert info.password not in " ".join(environment.values())
    assert sessions == [("backstop a.dump",)]
    assert {"-F", "c", "-b", "-v", "-w"} <= set(arguments)
    assert pg_dump_process() is None


def test_the_session_is_named_for_the_backup_whatever_the_url_says(
    own_toolchain: Toolchain, info: Conninfo, standing: Database, tmp_path: Path
):
    # The name in a connection string would win over PGAPPNAME.
    named = replace(info, parameters={**info.parameters, "application_name": "shop"})
    waiting = "SELECT application_name FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    seen: list[tuple[str]] = []

    def look() -> None:
        seen.extend(standing.run(waiting))
        if seen:
            raise Enough

    write_passfile(tmp_path / "pgpass", info.password)
    environment = {"PGPASSFILE": str(tmp_path / "pgpass"), "PGAPPNAME": "backstop a.dump"}
    with locked(standing, "orders"), pytest.raises(Enough):
        make_dump(own_toolchain, named, tmp_path / "x.dump", environment=environment, on_tick=look)
    assert seen == [("backstop a.dump",)]


# Compression


@pytest.mark.parametrize("method", ["none", "gzip", "lz4", "zstd"])
def test_a_header_tells_format_and_compression(
    method: str, info: Conninfo, server: Conninfo, tmp_path: Path
):
    chain = toolchain(17)
    make_dump(chain, info, tmp_path / "x.dump", compression=method)
    with (tmp_path / "x.dump").open("rb") as file:
        header = read_header(file)
    assert header.format == (1, 16)
    assert header.oldest_reader == 17
    read_whole(chain, tmp_path / "x.dump")


@pytest.mark.parametrize("wanted", ["zstd:3", "zstd:level=3,long", "gzip:9", "9", "0", "lz4:1"])
def test_wanted_levels_are_taken(wanted: str, info: Conninfo, tmp_path: Path):
    chain = toolchain(17)
    make_dump(chain, info, tmp_path / "x.dump", compression=chain.compression(wanted))
    read_whole(chain, tmp_path / "x.dump")


def test_an_old_pg_dump_is_given_its_numbers(server_15: Conninfo, tmp_path: Path):
    chain = toolchain(15)
    as_admin(server_15).run("DROP TABLE IF EXISTS words")
    as_admin(server_15).run(
        "CREATE TABLE words AS SELECT md5((n % 97)::text) || md5((n * n % 503)::text) || n"
        " FROM generate_series(1, 5000) n"
    )
    sizes = {}
    for wanted in ("none", "0", "gzip", "6", "1", "gzip:1", "9", "gzip:9", "gzip:level=9"):
        path = tmp_path / wanted
        make_dump(chain, server_15, path, compression=chain.compression(wanted))
        read_whole(chain, path)
        sizes[wanted] = path.stat().st_size
    assert sizes["none"] == sizes["0"] > sizes["1"] == sizes["gzip:1"]
    assert sizes["gzip"] == sizes["6"] < sizes["1"]
    assert sizes["9"] == sizes["gzip:9"] == sizes["gzip:level=9"] != sizes["6"]


# Versions


def round_trip(server: Conninfo, dumper: int, tmp_path: Path) -> Path:
    """Dump a small database of that server with that pg_dump, and restore it there."""
    admin = as_admin(server)
    admin.run("CREATE DATABASE source TEMPLATE template0")
    admin.run("CREATE DATABASE target TEMPLATE template0")
    try:
        source, target = as_admin(server, "source"), as_admin(server, "target")
        source.run('CREATE TABLE "Größe" (id int PRIMARY KEY, t text)')
        source.run("INSERT INTO \"Größe\" SELECT n, 'row ' || n FROM generate_series(1, 999) n")
        source.run("SELECT lo_from_bytea(4711, 'large')")
        chain, archive = toolchain(dumper), tmp_path / "x.dump"
        make_dump(chain, at(server, "source"), archive)
        read_whole(chain, archive)
        ended = subprocess.run(
            [chain.pg_restore, "-d", target.url, archive],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:  # a newer pg_restore sets what an older server does not know
            assert "transaction_timeout" in ended.stderr
            assert "errors ignored on restore: 1" in ended.stderr
        assert contents_of(target) == contents_of(source)
        return archive
    finally:
        admin.run("DROP DATABASE source")
        admin.run("DROP DATABASE target")


@pytest.mark.parametrize(("dumper", "form"), [(15, (1, 14)), (17, (1, 16))])
def test_a_server_15_is_dumped_by_its_own_and_newer_programs(
    dumper: int, form: tuple[int, int], server_15: Conninfo, tmp_path: Path
):
    with round_trip(server_15, dumper, tmp_path).open("rb") as file:
        header = read_header(file)
    assert header.format == form
    assert header.oldest_reader == {15: 12, 17: 17}[dumper]


def test_a_server_18_is_dumped_by_its_own_programs(server_18: Conninfo, tmp_path: Path):
    with round_trip(server_18, 18, tmp_path).open("rb") as file:
        assert read_header(file).format == (1, 16)


def test_programs_that_are_too_old_for_a_server_are_not_even_tried(server_18: Conninfo):
    version = Version.of_number(int(as_admin(server_18).run("SHOW server_version_num")[0][0]))
    with pytest.raises(ToolError, match=f"too old for this server, which is {version}"):
        choose_toolchain([toolchain(15), toolchain(17)], version)


def test_programs_that_are_too_old_refuse_themselves(server_18: Conninfo, tmp_path: Path):
    with pytest.raises(DumpError, match="pg_dump failed") as refused:
        make_dump(toolchain(17), server_18, tmp_path / "x.dump")
    assert "aborting because of server version mismatch" in refused.value.detail


def test_an_old_pg_restore_does_not_read_a_new_format(archive: Path, server: Conninfo):
    with archive.open("rb") as file:
        assert read_header(file).oldest_reader > 15
    with pytest.raises(DumpError, match="cannot be read back") as refused:
        read_whole(toolchain(15), archive)
    assert "unsupported version" in refused.value.detail


# What is left of a dump that was killed


@pytest.fixture
def killed(
    big: Database,
    own_toolchain: Toolchain,
    tmp_path: Path,
    proxy: Callable[..., Conninfo],
) -> tuple[Path, PostgresError]:
    """What is left of a dump whose pg_dump was killed, and what was told."""
    info, target = parse_url(big.url), tmp_path / "killed.dump"

    def kill_it() -> None:
        if target.stat().st_size > 200_000:
            pg_dump_process().kill()

    with pytest.raises(PostgresError) as failed:
        make_dump(
            own_toolchain, info, target,
            over=proxy(info, after=2_000_000), compression="none", on_tick=kill_it,
        )  # fmt: skip
    return target, failed.value


def test_a_dump_that_was_killed_lists_but_is_refused(
    killed: tuple[Path, PostgresError], own_toolchain: Toolchain
):
    """Fact 1: a list of the contents proves nothing."""
    target, _ = killed
    listed = command.run([own_toolchain.pg_restore, "-l", target], timeout=20)
    assert listed.status == 0
    assert "TABLE DATA public second" in listed.output
    with pytest.raises(DumpError, match="cannot be read back"):
        read_whole(own_toolchain, target)


def test_a_pg_dump_that_was_killed_is_told_as_such(killed: tuple[Path, PostgresError]):
    # Every log has the line "reading row-level security policies": that is no reason.
    _, error = killed
    assert isinstance(error, ToolError)
    assert error.message == "pg_dump was ended by signal 9"


# What can go wrong


def failure(*args: Any, **options: Any) -> DumpError:
    with pytest.raises(DumpError) as failed:
        make_dump(*args, **options)
    info = options.get("over") or args[1]
    assert info.password not in failed.value.in_words()
    assert pg_dump_process() is None
    return failed.value


def test_a_table_that_stays_locked_is_told_as_such(
    own_toolchain: Toolchain, info: Conninfo, standing: Database, tmp_path: Path
):
    with locked(standing, "orders"):
        error = failure(own_toolchain, info, tmp_path / "x", limits=replace(LIMITS, lock=1))
    assert error.message == "a table stayed locked for longer than 1 s"
    assert re.search("LOCK TABLE .*public.orders IN ACCESS SHARE MODE", error.detail)
    assert "pg_stat_activity" in error.hint
    assert "BACKSTOP_LOCK_TIMEOUT" in error.hint


@pytest.mark.parametrize("major", [15, 18])
def test_a_table_that_stays_locked_is_told_by_other_versions_too(
    major: int, request: pytest.FixtureRequest, tmp_path: Path
):
    server = request.getfixturevalue(f"server_{major}")
    as_admin(server).run("CREATE TABLE IF NOT EXISTS busy (id int)")
    with locked(as_admin(server), "busy"):
        error = failure(toolchain(major), server, tmp_path / "x", limits=replace(LIMITS, lock=1))
    assert "stayed locked for longer than 1 s" in error.message


def test_a_lock_that_is_let_go_in_time_does_not_matter(
    own_toolchain: Toolchain, info: Conninfo, standing: Database, tmp_path: Path
):
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    holder = psycopg2.connect(standing.url)
    holder.cursor().execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")

    def let_go() -> None:
        if not holder.closed and standing.run(waiting) == [(1,)]:
            holder.close()

    make_dump(own_toolchain, info, tmp_path / "x.dump", on_tick=let_go)
    assert holder.closed
    read_whole(own_toolchain, tmp_path / "x.dump")


def test_rows_that_row_level_security_hides_are_never_left_out(
    own_toolchain: Toolchain,
    shop: Database,
    new_role: Callable[..., Role],
    tmp_path: Path,
):
    role = new_role("IN ROLE pg_read_all_data")
    shop.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    error = failure(own_toolchain, signed_in_as(role, parse_url(shop.url)), tmp_path / "x.dump")
    assert error.message == "row-level security hides rows from this role"
    assert 'row-level security policy for table "orders"' in error.detail
    assert "BYPASSRLS" in error.hint


def test_a_role_with_bypassrls_dumps_those_rows(
    own_toolchain: Toolchain,
    shop: Database,
    new_role: Callable[..., Role],
    tmp_path: Path,
):
    role = new_role("BYPASSRLS IN ROLE pg_read_all_data")
    shop.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    make_dump(own_toolchain, signed_in_as(role, parse_url(shop.url)), tmp_path / "x.dump")
    text = command.run(
        [own_toolchain.pg_restore, "-a", "-t", "orders", "-f", "-", tmp_path / "x.dump"], timeout=20
    ).output
    assert len(re.findall(r"(?m)^\d+\t\d+\t[\d.]+$", text)) == 500


def test_a_table_that_the_role_may_not_read_is_told_with_the_grant(
    own_toolchain: Toolchain, info: Conninfo, new_role: Callable[..., Role], tmp_path: Path
):
    error = failure(own_toolchain, signed_in_as(new_role(), info), tmp_path / "x.dump")
    assert error.message == "pg_dump failed"
    assert "permission denied for table" in error.detail
    assert "pg_read_all_data" in error.hint


def test_a_large_object_of_somebody_else_is_told_as_such(
    own_toolchain: Toolchain,
    shop: Database,
    new_role: Callable[..., Role],
    tmp_path: Path,
):
    shop.run("SELECT lo_from_bytea(4711, 'of the superuser')")
    role = new_role("IN ROLE pg_read_all_data")
    error = failure(own_toolchain, signed_in_as(role, parse_url(shop.url)), tmp_path / "x.dump")
    assert error.message == "pg_dump failed"
    assert "permission denied for large object 4711" in error.detail
    assert re.search("Grant the role|arge object", error.hint)


def test_a_connection_that_breaks_is_told_as_such(
    own_toolchain: Toolchain, big: Database, tmp_path: Path, proxy: Callable[..., Conninfo]
):
    info = parse_url(big.url)
    broken = proxy(info, after=1_000_000, breaks=True)
    error = failure(own_toolchain, info, tmp_path / "x.dump", over=broken)
    assert error.message == "pg_dump failed"
    assert "server closed the connection" in error.detail
    assert "Is the server running" in error.hint


def test_a_session_that_an_administrator_ends_is_told_as_such(
    own_toolchain: Toolchain, big: Database, tmp_path: Path
):
    def end_it(line: str) -> None:
        if "dumping contents of table" in line:
            process = pg_dump_process()
            process.suspend()
            ended = big.run(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE application_name = 'pg_dump'"
            )
            process.resume()
            assert ended in ([(True,)], [])

    error = failure(own_toolchain, parse_url(big.url), tmp_path / "x.dump", on_line=end_it)
    assert error.message == "pg_dump failed"
    assert re.search("terminating connection|server closed the connection", error.detail)


def test_a_wrong_password_is_told_with_its_hint(
    own_toolchain: Toolchain, info: Conninfo, tmp_path: Path
):
    write_passfile(tmp_path / "pgpass", "wrong")
    error = failure(
        own_toolchain, info, tmp_path / "x.dump",
        environment={"PGPASSFILE": str(tmp_path / "pgpass")},
    )  # fmt: skip
    assert "password authentication failed" in error.detail
    assert "Check the user and the password" in error.hint


def test_no_password_is_never_asked_for(
    own_toolchain: Toolchain, info: Conninfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    error = failure(own_toolchain, info, tmp_path / "x", environment={"PGPASSFILE": "/nowhere"})
    assert "no password supplied" in error.detail


def test_a_snapshot_that_is_gone_is_a_failure(
    own_toolchain: Toolchain, info: Conninfo, tmp_path: Path
):
    error = failure(own_toolchain, info, tmp_path / "x", snapshot="00000003-0000001B-1")
    assert "snapshot" in error.detail


def test_a_role_s_own_timeouts_do_not_end_a_dump(
    own_toolchain: Toolchain,
    big: Database,
    server: Conninfo,
    new_role: Callable[..., Role],
    tmp_path: Path,
):
    role = new_role("SUPERUSER")
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        as_admin(server).run(f"ALTER ROLE {role.name} SET {name} = '100ms'")
    info = signed_in_as(role, parse_url(big.url))
    with locked(big, "second") as _, pytest.raises(DumpError, match="stayed locked for longer"):
        make_dump(own_toolchain, info, tmp_path / "x.dump", limits=replace(LIMITS, lock=1))
    make_dump(own_toolchain, info, tmp_path / "y.dump")
    read_whole(own_toolchain, tmp_path / "y.dump")


def test_a_peer_that_stalls_is_noticed(
    own_toolchain: Toolchain, big: Database, tmp_path: Path, proxy: Callable[..., Conninfo]
):
    """Fact 10: pg_dump itself would wait for ever."""
    info = parse_url(big.url)
    start = time.monotonic()
    error = failure(
        own_toolchain, info, tmp_path / "x.dump",
        over=proxy(info, after=1_000_000), limits=replace(LIMITS, stall=1),
    )  # fmt: skip
    assert error.message == "the dump did not move for 1 s and was ended"
    assert "BACKSTOP_STALL_TIMEOUT" in error.hint
    assert 1 < time.monotonic() - start < 10


def test_a_server_that_stalls_is_noticed_before_the_first_byte(
    own_toolchain: Toolchain, info: Conninfo, tmp_path: Path, proxy: Callable[..., Conninfo]
):
    error = failure(
        own_toolchain, info, tmp_path / "x.dump",
        over=proxy(info, after=1), limits=replace(LIMITS, stall=1),
    )  # fmt: skip
    assert "did not move for 1 s" in error.message


def test_a_dump_that_takes_too_long_is_ended(
    own_toolchain: Toolchain, big: Database, tmp_path: Path, proxy: Callable[..., Conninfo]
):
    info = parse_url(big.url)
    error = failure(
        own_toolchain, info, tmp_path / "x.dump",
        over=proxy(info, after=1_000_000), limits=Limits(lock=5, stall=60, total=1),
    )  # fmt: skip
    assert error.message == "the dump took longer than 1 s and was ended"
    assert "BACKSTOP_DUMP_TIMEOUT" in error.hint


def test_what_a_tick_raises_ends_the_dump_on_the_server_too(
    own_toolchain: Toolchain, big: Database, tmp_path: Path, proxy: Callable[..., Conninfo]
):
    target, info = tmp_path / "x.dump", parse_url(big.url)

    def tick() -> None:
        if target.stat().st_size:
            raise Enough

    with pytest.raises(Enough):
        make_dump(
            own_toolchain, info, target, over=proxy(info, after=1_000_000),
            compression="none", on_tick=tick,
        )  # fmt: skip
    assert pg_dump_process() is None


def test_a_backend_does_not_go_on_after_its_dump_was_ended(
    own_toolchain: Toolchain, info: Conninfo, standing: Database, tmp_path: Path
):
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'"

    def tick() -> None:
        if standing.run(sessions) == [(1,)]:
            raise Enough

    with locked(standing, "orders"):
        with pytest.raises(Enough):
            make_dump(own_toolchain, info, tmp_path / "x.dump", on_tick=tick)
        wait_until(lambda: standing.run(sessions) == [(0,)], "the backend ends")


@only_linux
def test_a_full_disk_is_told_as_such(own_toolchain: Toolchain, info: Conninfo, tmp_path: Path):
    write_passfile(tmp_path / "pgpass", info.password)
    environment, target = {"PGPASSFILE": str(tmp_path / "pgpass")}, Path("/dev/full")
    with hold_snapshot(info, application_name="test") as held:
        request = dumping.Request(own_toolchain, info, environment, held.id, "none")
        with pytest.raises(StorageFull) as full:
            dumping.dump(request, target, limits=LIMITS, watch=Watch())
    assert full.value.message == "no space is left where the dump is written"
    assert "No space left on device" in full.value.detail
    assert "BACKSTOP_BACKUP_DIR" in full.value.hint


def test_a_full_disk_of_the_server_is_not_taken_for_ours(info: Conninfo, tmp_path: Path):
    # To fill up the server's disk cannot be had here: a script says what pg_dump would.
    (tmp_path / "pg_dump").write_text(
        "#!/bin/sh\n"
        'echo "pg_dump: error: query failed: ERROR:  could not write to file'
        ' \\"base/pgsql_tmp/pgsql_tmp7.0\\": No space left on device" >&2\n'
        "exit 1\n"
    )
    (tmp_path / "pg_dump").chmod(0o755)
    chain = Toolchain(tmp_path, Version(17, 0), frozenset({"gzip"}))
    with pytest.raises(PostgresError, match="pg_dump failed") as failed:
        make_dump(chain, info, tmp_path / "x.dump")
    assert "base/pgsql_tmp" in failed.value.detail


def test_a_dump_that_somebody_removed_meanwhile_is_an_error_that_can_be_told(
    own_toolchain: Toolchain, info: Conninfo, tmp_path: Path
):
    target = tmp_path / "x.dump"
    with pytest.raises(DumpError):
        make_dump(own_toolchain, info, target, on_line=lambda _: target.unlink(missing_ok=True))


def test_secrets_are_starred_in_what_pg_dump_says(
    own_toolchain: Toolchain, shop: Database, tmp_path: Path
):
    info = parse_url(shop.url)
    shop.run(f'CREATE TABLE "x {info.password} y" AS SELECT 1')
    lines = make_dump(own_toolchain, info, tmp_path / "x.dump")
    assert any('table "public.x ***** y"' in line for line in lines)
    assert not any(info.password in line for line in lines)


def test_older_programs_can_be_had_from_the_machine():
    """The tests above of other versions are not skipped where it matters."""
    for major in (15, 17, 18):
        assert shutil.which(programs(major) / "pg_dump")
    assert find_toolchains()
