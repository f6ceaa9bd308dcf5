"""Archives as they are read: their contents, their rows, and what is none."""

import errno
import hashlib
import io
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.errors import DumpError, PostgresError, StorageError, ToolError
from app.postgres.archive import Entry, Expected, read_entries, read_header, read_whole
from app.postgres.blocks import check_blocks
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.rows import RowCounter
from app.postgres.tools import Toolchain, Version
from app.programs import command
from app.programs.command import Watch
from tests.conftest import Database
from tests.postgres.conftest import as_admin, at, make_dump, nothing
from tests.servers import toolchain

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's own ways")


class Enough(Exception):
    """Raised by a test."""


@pytest.fixture
def archive(own_toolchain: Toolchain, standing: Database, tmp_path: Path) -> Path:
    """A whole dump of the small shop."""
    make_dump(own_toolchain, parse_url(standing.url), tmp_path / "whole.dump")
    return tmp_path / "whole.dump"


def entries_of(path: Path) -> list[Entry]:
    with path.open("rb") as file:
        return read_entries(file)


# What is no dump


def refusal(chain: Toolchain, archive: Path) -> DumpError:
    with pytest.raises(DumpError, match="cannot be read back") as refused:
        read_whole(chain, archive)
    assert refused.value.detail
    return refused.value


def test_a_truncated_dump_is_refused(own_toolchain: Toolchain, archive: Path):
    content = archive.read_bytes()
    short = archive.with_name("short.dump")
    for length in (1, 5, 11, 12, 100, len(content) // 2, len(content) * 9 // 10, len(content) - 1):
        short.write_bytes(content[:length])
        refusal(own_toolchain, short)


def test_an_empty_file_is_refused(own_toolchain: Toolchain, tmp_path: Path):
    (tmp_path / "empty.dump").touch()
    refusal(own_toolchain, tmp_path / "empty.dump")
    with pytest.raises(DumpError, match="not an archive"):
        read_header(io.BytesIO())


def test_text_is_refused(own_toolchain: Toolchain, tmp_path: Path):
    (tmp_path / "x.dump").write_text("-- PostgreSQL database dump\nSELECT 1;\n" * 100)
    refusal(own_toolchain, tmp_path / "x.dump")


def test_a_flipped_bit_in_the_header_is_refused(own_toolchain: Toolchain, archive: Path):
    content = archive.read_bytes()
    assert content.startswith(b"PGDMP")
    flipped = archive.with_name("flipped.dump")
    for position, bit in ((0, 0), (1, 3), (2, 7), (3, 5), (4, 1), (5, 4), (10, 2)):
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        flipped.write_bytes(changed)
        refusal(own_toolchain, flipped)


@pytest.mark.parametrize("position", [0, 1, 2, 3, 4, 10])
def test_a_header_with_any_flipped_bit_is_none(position: int, archive: Path):
    content = archive.read_bytes()
    for bit in range(8):
        changed = bytearray(content[:64])
        changed[position] ^= 1 << bit
        with pytest.raises(DumpError, match="not an archive of pg_dump's custom format"):
            read_header(io.BytesIO(changed))


@pytest.mark.parametrize("method", ["c", "t"])
def test_only_the_custom_format_has_our_header(
    method: str, own_toolchain: Toolchain, shop: Database, tmp_path: Path
):
    subprocess.run(
        [own_toolchain.pg_dump, "-F", method, "-f", tmp_path / "x", "-d", shop.url], check=True
    )
    with (tmp_path / "x").open("rb") as file:
        if method == "c":
            assert read_header(file).oldest_reader == 17
        else:
            with pytest.raises(DumpError):
                read_header(file)


@pytest.mark.parametrize(
    ("version", "oldest_reader"),
    [((1, 12), 10), ((1, 13), 10), ((1, 14), 12), ((1, 15), 16), ((1, 16), 17)],
)
def test_a_header_tells_who_can_read_it(version: tuple[int, int], oldest_reader: int):
    head = b"PGDMP" + bytes([*version, 0, 4, 8, 1])
    compression = number(0) if version < (1, 15) else b"\3"
    names = (number(4) + b"shop") * 3
    rest = compression + number(1) * 7 + names + number(70_000) + b"the entries"
    header = read_header(io.BytesIO(head + rest))
    assert header.oldest_reader == oldest_reader
    assert header.entries == 70_000
    for end in range(len(rest) - len(b"the entries")):
        with pytest.raises(DumpError, match="not an archive"):
            read_header(io.BytesIO(head + rest[:end]))


def number(value: int) -> bytes:
    """As pg_dump writes one: its sign, then four bytes, the lowest first."""
    return bytes([value < 0]) + abs(value).to_bytes(4, "little")


@pytest.mark.parametrize("head", [b"\1\x11\0\4\x08\1\3", b"\x02\x10\0\4\x08\1\3",
                                  b"\1\x10\0\5\x08\1\3", b"\1\x10\0\4\x03\1\3"])  # fmt: skip
def test_a_header_of_a_form_that_nobody_knows_is_none(head: bytes):
    rest = number(1) * 7 + (number(4) + b"shop") * 3 + number(3)
    with pytest.raises(DumpError, match="not an archive"):
        read_header(io.BytesIO(b"PGDMP" + head + rest))


@pytest.mark.parametrize("entries", [0, -1, -70_000])
def test_a_header_without_entries_is_none(entries: int):
    """Else nothing of it would be read, and nothing found wrong."""
    names = (number(4) + b"shop") * 3
    head = b"PGDMP" + bytes([1, 16, 0, 4, 8, 1, 3]) + number(1) * 7 + names
    for ask in (read_header, read_entries):
        with pytest.raises(DumpError, match="not an archive"):
            ask(io.BytesIO(head + number(entries) + b"\0" * 1000))


def test_a_name_in_a_header_has_an_end():
    long = number(1025) + b"x" * 1025
    head = b"PGDMP" + bytes([1, 16, 0, 4, 8, 1, 3]) + number(1) * 7
    with pytest.raises(DumpError, match="not an archive"):
        read_header(io.BytesIO(head + long * 3 + number(3)))


def test_an_archive_that_was_copied_as_text_is_damaged(archive: Path):
    """In text mode each line feed grows: wherever it stands, the walk finds it."""
    content = archive.read_bytes()
    with pytest.raises(DumpError):
        check_blocks(io.BytesIO(content.replace(b"\n", b"\r\n")), nothing)
    check_blocks(io.BytesIO(content), nothing)
    for damaged in (content + b"\n", content[:-1], content[:-100], content + content[-200:]):
        with pytest.raises(DumpError):
            check_blocks(io.BytesIO(damaged), nothing)


def test_the_blocks_of_every_version_are_walked(
    many_rows: tuple[Path, bytes], server_15: Conninfo, server_18: Conninfo, tmp_path: Path
):
    with many_rows[0].open("rb") as file:
        check_blocks(file, nothing)
    for major, info in ((15, server_15), (18, server_18)):
        as_admin(info).run("SELECT lo_from_bytea(0, 'x'), lo_from_bytea(0, 'y')")
        make_dump(toolchain(major), info, tmp_path / "x.dump")
        with (tmp_path / "x.dump").open("rb") as file:
            check_blocks(file, nothing)


def test_the_entries_are_those_that_pg_restore_counts(own_toolchain: Toolchain, archive: Path):
    listed = command.run([own_toolchain.pg_restore, "-l", archive], timeout=30).output
    with archive.open("rb") as file:
        assert f"TOC Entries: {read_header(file).entries}\n" in listed


@pytest.mark.parametrize("width", [0, 1, 8, 255])
def test_a_header_with_mad_numbers_is_none(width: int):
    mad = b"PGDMP" + bytes([1, 16, 0, width, 8, 1, 3]) + b"\0" + b"\xff" * 3000
    with suppress(DumpError):
        assert isinstance(read_header(io.BytesIO(mad)).entries, int)


def test_a_pg_restore_that_crashes_means_no_whole_dump(archive: Path, tmp_path: Path):
    """Hostile archives end it by a signal; one that does so each time is a script."""
    (tmp_path / "pg_restore").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (tmp_path / "pg_restore").chmod(0o755)
    chain = Toolchain(tmp_path, Version(17, 0), frozenset())
    assert "status -11" in refusal(chain, archive).detail


def test_reading_that_takes_too_long_is_ended(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = command.run
    monkeypatch.setattr(
        command, "run", lambda *args, timeout, **options: real(*args, timeout=0.3, **options)
    )
    (tmp_path / "pg_restore").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "pg_restore").chmod(0o755)
    with pytest.raises(PostgresError, match="took longer than 60 s") as told:
        read_whole(Toolchain(tmp_path, Version(17, 0), frozenset()), archive)
    assert not isinstance(told.value, DumpError)  # it says nothing of the dump


@only_linux
def test_reading_is_limited_in_memory(archive: Path, tmp_path: Path):
    (tmp_path / "pg_restore").write_text("#!/bin/sh\nulimit -v > '" + f"{tmp_path}/limit'\n")
    (tmp_path / "pg_restore").chmod(0o755)
    read_whole(Toolchain(tmp_path, Version(17, 0), frozenset()), archive)
    assert int((tmp_path / "limit").read_text()) == 1024**2  # KiB


@only_linux
def test_the_limits_grow_with_what_is_read(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[float] = []
    real = command.run

    def run(*args: Any, timeout: float, **options: Any) -> command.Outcome:
        asked.append(timeout)
        return real(*args, timeout=timeout, **options)

    monkeypatch.setattr(command, "run", run)
    (tmp_path / "pg_restore").write_text("#!/bin/sh\nulimit -v > '" + f"{tmp_path}/limit'\n")
    (tmp_path / "pg_restore").chmod(0o755)
    chain = Toolchain(tmp_path, Version(17, 0), frozenset())
    with archive.open("r+b") as file:  # a small archive does not have many entries
        file.truncate(64 * 1000)
    read_whole(chain, archive, Expected(10**9, 10 * 1024**3))
    assert int((tmp_path / "limit").read_text()) == 1024**2 + 1000 * 4
    assert asked == [60 + 512]


def test_a_memory_limit_is_told_as_a_limit(archive: Path, tmp_path: Path):
    (tmp_path / "pg_restore").write_text(
        "#!/bin/sh\necho 'pg_restore: error: out of memory' >&2\nexit 1\n"
    )
    (tmp_path / "pg_restore").chmod(0o755)
    with pytest.raises(PostgresError, match="needs more memory than the 1024 MiB") as told:
        read_whole(Toolchain(tmp_path, Version(17, 0), frozenset()), archive)
    assert "not known" in told.value.detail
    assert not isinstance(told.value, DumpError)


@pytest.mark.parametrize(
    "script",
    [
        "kill -KILL $$",
        "kill -TERM $$",
        "echo 'pg_restore: error: could not read from input file: Input/output error' >&2; exit 1",
        "echo 'pg_restore: error while loading shared libraries: libz.so.1' >&2; exit 127",
        "exit 1",
    ],
)
def test_what_the_machine_does_to_pg_restore_says_nothing_of_the_dump(
    script: str, archive: Path, tmp_path: Path
):
    (tmp_path / "pg_restore").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "pg_restore").chmod(0o755)
    with pytest.raises(ToolError):
        read_whole(Toolchain(tmp_path, Version(17, 0), frozenset()), archive)


def test_a_disk_that_does_not_answer_says_nothing_of_the_dump():
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    for ask in (read_header, read_entries):
        with pytest.raises(StorageError, match="could not be read") as told:
            ask(Broken(b"PGDMP" * 9))
        assert told.value.detail == "Input/output error."


def test_what_a_tick_raises_ends_the_reading(own_toolchain: Toolchain, archive: Path):
    def tick() -> None:
        raise Enough

    with pytest.raises(Enough):
        read_whole(own_toolchain, archive, watch=Watch(on_tick=tick))


def test_reading_changes_nothing(own_toolchain: Toolchain, archive: Path):
    before = hashlib.sha256(archive.read_bytes()).hexdigest()
    read_whole(own_toolchain, archive)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == before
    assert sorted(each.name for each in archive.parent.iterdir()) == ["private", "whole.dump"]


# The table of contents


_NAMES = """
    CREATE SCHEMA "a b.c";
    CREATE TABLE "a b.c"."d ""e"" \'f\'" (id int PRIMARY KEY, "x; y" text);
    CREATE TABLE "Größe 日本" (id serial);
    CREATE TABLE "two\nlines" ("in\nit" int);
    CREATE TABLE "TABLE DATA public x" (id int);
    CREATE VIEW " leading" AS SELECT 1 AS one;
    CREATE FUNCTION "f(x" (a int, b text) RETURNS int LANGUAGE sql AS \'SELECT 1\';
    COMMENT ON TABLE "two\nlines" IS \'a\nb;\';
    CREATE ROLE "o w\\n""er";
    ALTER TABLE "Größe 日本" OWNER TO "o w\\n""er";
    SELECT setval(\'"Größe 日本_id_seq"\', 42);
    SELECT lo_from_bytea(77, \'x\');
"""


def _sanitized(text: str) -> str:
    """As pg_restore lists a name."""
    return re.sub(r"[\r\n]", " ", text)


@pytest.mark.parametrize("major", [15, 17, 18])
def test_the_entries_are_those_that_pg_restore_lists(
    major: int, request: pytest.FixtureRequest, tmp_path: Path
):
    server: Conninfo = request.getfixturevalue("server" if major == 17 else f"server_{major}")
    admin, chain = as_admin(server), toolchain(major)
    admin.run("CREATE DATABASE names TEMPLATE template0")
    try:
        as_admin(server, "names").run(_NAMES)
        make_dump(chain, at(server, "names"), tmp_path / "x.dump")
    finally:
        admin.run("DROP DATABASE names")
        admin.run('DROP ROLE "o w\\n""er"')
    listed = command.run([chain.pg_restore, "-l", tmp_path / "x.dump"], timeout=30).output
    entries = entries_of(tmp_path / "x.dump")
    lines = {
        int(line.partition(";")[0]): line
        for line in listed.splitlines()
        if line and not line.startswith(";")
    }
    by_id = {each.id: each for each in entries}
    # Not listed are those that a restore without --create does not have.
    assert {each.kind for each in entries if each.id not in lines} <= {
        "ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE",
    }  # fmt: skip
    for number, line in lines.items():
        entry = by_id[number]
        told = f" {entry.kind} {_sanitized(entry.schema) or '-'} {_sanitized(entry.name)}"
        assert line.endswith(f"{told} {_sanitized(entry.owner)}"), entry
    names = {each.name for each in entries if each.kind == "TABLE"}
    assert names == {"d \"e\" 'f'", "Größe 日本", "two\nlines", "TABLE DATA public x"}
    values = {each.name: each.sequence_value for each in entries if each.sequence_value}
    assert values == {"Größe 日本_id_seq": (42, True)}
    constraint = next(each for each in entries if each.kind == "CONSTRAINT")
    table = next(each for each in entries if each.kind == "TABLE" and each.name.startswith("d "))
    assert table.id in constraint.needs


def test_contents_that_end_or_lie_are_refused_soon(archive: Path):
    """Each cut, and flips at random: refused, or read, but never without end."""
    content = archive.read_bytes()
    with archive.open("rb") as file:
        read_entries(file)
        end = file.tell()
    chance = random.Random(1)  # noqa: S311
    began = time.monotonic()
    for cut in range(0, end, 7):
        with pytest.raises(DumpError):
            read_entries(io.BytesIO(content[:cut]))
    for _ in range(2000):
        changed = bytearray(content)
        changed[chance.randrange(end)] ^= 1 << chance.randrange(8)
        with suppress(DumpError):
            assert len(read_entries(io.BytesIO(changed))) < end
    assert time.monotonic() - began < 30


def test_many_entries_are_not_believed():
    """A small file cannot make us collect for ever."""
    head = b"PGDMP" + bytes([1, 16, 0, 4, 8, 1, 0]) + number(1) * 7 + number(0) * 3
    with pytest.raises(DumpError):
        read_entries(io.BytesIO(head + number(2**31 - 1) + b"\0" * 1000))


# The rows


_ROWS = {
    "plain": "SELECT n, 'x' || n FROM generate_series(1, 1000) n",
    "empty": "SELECT 1 AS n WHERE false",
    "escapes": r"SELECT x FROM unnest(ARRAY['\.', E'\n', E'a\n\\\\.\nb', '\N', '', E'\t', NULL]) x",
    "x FROM stdin;": "SELECT 'COPY public.plain (n) FROM stdin;' FROM generate_series(1, 3)",
    "copies": r"SELECT E'\n\\\\.\n\n\nCOPY public.empty (n) FROM stdin;\n1\n'"
    " FROM generate_series(1, 5)",
    "large": "SELECT repeat('0123456789', 1000000) FROM generate_series(1, 2)",
    'quo"ted\nname': "SELECT n FROM generate_series(1, 7) n",
}


@pytest.fixture(scope="module")
def many_rows(server: Conninfo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """An archive of tables that are hard to count, and what pg_restore writes of it."""
    folder = tmp_path_factory.mktemp("rows")
    admin, chain = as_admin(server), toolchain(17)
    admin.run("CREATE DATABASE many_rows TEMPLATE template0")
    try:
        source = as_admin(server, "many_rows")
        for name, sql in _ROWS.items():
            quoted = name.replace('"', '""')
            source.run(f'CREATE TABLE "{quoted}" AS {sql}')
        source.run("CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES")
        source.run("INSERT INTO bare DEFAULT VALUES")
        source.run(
            "SELECT lo_from_bytea(0, decode(repeat('5c2e0a', 20000), 'hex'))"
            " FROM generate_series(1, 4)"
        )
        make_dump(chain, at(server, "many_rows"), folder / "x.dump")
    finally:
        admin.run("DROP DATABASE many_rows")
    told = subprocess.run(
        [chain.pg_restore, "--data-only", "-f", "-", folder / "x.dump"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    return folder / "x.dump", told


_COUNTED = {
    ("public", "plain"): 1000,
    ("public", "empty"): 0,
    ("public", "escapes"): 7,
    ("public", "x FROM stdin;"): 3,
    ("public", "copies"): 5,
    ("public", "large"): 2,
    ("public", 'quo"ted\nname'): 7,
    ("public", "bare"): 2,
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096, 65_536, 2**30])
def test_rows_are_counted_whatever_comes_at_once(size: int, many_rows: tuple[Path, bytes]):
    path, told = many_rows
    entries = entries_of(path)
    if size < 10:  # one byte at a time: without the large table
        start = told.index(b"COPY public.large ")
        end = told.index(b"\n\\.\n", start) + 4
        told = told[:start] + told[end:]
    counter = RowCounter(entries)
    for at_byte in range(0, len(told), size):
        counter.take(told[at_byte : at_byte + size])
    expected = dict(_COUNTED)
    if size < 10:
        del expected["public", "large"]
    assert counter.rows == expected
    assert counter.bytes.keys() == expected.keys()
    assert counter.bytes["public", "plain"] == sum(len(f"{n}\tx{n}\n") for n in range(1, 1001))
    assert counter.bytes["public", "empty"] == 0
    assert counter.large_objects == 4


def test_rows_are_counted_as_they_are_read(many_rows: tuple[Path, bytes]):
    path, _ = many_rows
    entries = entries_of(path)
    counter = RowCounter(entries)
    read_whole(toolchain(17), path, Expected(len(entries)), Watch(on_output=counter.take))
    assert (counter.rows, counter.large_objects) == (_COUNTED, 4)


def test_one_huge_row_takes_no_memory(many_rows: tuple[Path, bytes]):
    path, _ = many_rows
    entries = entries_of(path)
    counter = RowCounter(entries)
    counter.take(next(each.copy for each in entries if each.copy and each.name == "plain"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3200):  # 200 MB
        counter.take(b"x" * 65_536)
        assert len(counter._rest) < 8
    counter.take(b"\n\\.\n\n")
    assert counter.rows == {("public", "plain"): 1}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 20_000  # KiB


def test_copies_into_no_table_are_not_counted(many_rows: tuple[Path, bytes]):
    entries = entries_of(many_rows[0])
    counter = RowCounter(entries)
    counter.take(b"COPY public.unknown (n) FROM stdin;\n" + b"1\n" * 30_000)
    counter.take(next(each.copy for each in entries if each.copy and each.name == "plain"))
    counter.take(b"1\tx\n\\.\n\n")
    assert counter.rows == {("public", "plain"): 1}


@pytest.mark.parametrize("start", [b"", b"COPY ", b"COPY public.plain (n, x) FROM ", b"COP"])
def test_a_line_without_end_takes_neither_time_nor_memory(
    start: bytes, many_rows: tuple[Path, bytes]
):
    counter = RowCounter(entries_of(many_rows[0]))
    counter.take(start)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for _ in range(16_384):  # 1 GiB
        counter.take(b"x" * 65_536)
        assert len(counter._rest) < 1000
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 20_000  # KiB
    counter.take(b"\nSELECT pg_catalog.lo_open('1', 131072);\n")
    assert counter.large_objects == 1


def test_a_dump_of_inserts_with_large_values_is_read(
    own_toolchain: Toolchain, shop: Database, tmp_path: Path
):
    shop.run("CREATE TABLE pages AS SELECT repeat('COPY 56789', 3000000) AS page")
    shop.run("INSERT INTO pages VALUES (E'\\nCOPY public.customers (id, name) FROM stdin;\\n1\\n')")
    path = tmp_path / "inserts.dump"
    subprocess.run(
        [own_toolchain.pg_dump, "-Fc", "--inserts", "-f", path, "-d", shop.url], check=True
    )
    entries = entries_of(path)
    counter = RowCounter(entries)
    read_whole(own_toolchain, path, Expected(len(entries)), Watch(on_output=counter.take))
    assert counter.rows == {}


def test_rows_of_a_cut_archive_are_an_error(many_rows: tuple[Path, bytes], tmp_path: Path):
    path, _ = many_rows
    shutil.copy(path, tmp_path / "cut.dump")
    with (tmp_path / "cut.dump").open("r+b") as file:
        file.truncate(path.stat().st_size * 3 // 4)
    counter = RowCounter(entries_of(path))
    with pytest.raises(DumpError):
        read_whole(toolchain(17), tmp_path / "cut.dump", watch=Watch(on_output=counter.take))
