"""One archive out of a directory: pg_restore finds in it what pg_dump would have written."""

import errno
import gzip
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from app.errors import DumpError, StorageError, StorageFull
from app.postgres.archive import read_entries, read_header
from app.postgres.assembly import Assembly, assemble, finished_entry
from app.postgres.assembly.pieces import SUFFIXES
from app.postgres.blocks import check_blocks
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.embedded import sample
from app.postgres.tools import Toolchain
from tests.conftest import Database, url_of
from tests.postgres.conftest import as_admin, at, exported, nothing
from tests.servers import toolchain
from tests.services.restores.test_rich import RICH

MAJORS = (15, 17, 18)

ODD = r"""
    CREATE SCHEMA "a b.c";
    CREATE TABLE "a b.c"."d ""e"" FROM stdin;" ("x; ""y"" " int, "z\" text);
    INSERT INTO "a b.c"."d ""e"" FROM stdin;" SELECT n, E'\\.\n' || n FROM generate_series(1, 99) n;
    CREATE TABLE "two
lines" (a int);
    INSERT INTO "two
lines" VALUES (1);
    CREATE TABLE no_columns ();
    INSERT INTO no_columns DEFAULT VALUES;
    CREATE TABLE no_rows (a int, b text);
    CREATE TABLE dropped (a int, b int, c int GENERATED ALWAYS AS (a * 2) STORED);
    INSERT INTO dropped SELECT n, n FROM generate_series(1, 500) n;
    ALTER TABLE dropped DROP COLUMN b;
    CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS id;
    CREATE TYPE mood AS ENUM ('a', 'b', 'c');
    CREATE TABLE hashed (m mood, n int) PARTITION BY HASH (m);
    CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO hashed SELECT (ARRAY['a', 'b', 'c'])[1 + n % 3]::mood, n
        FROM generate_series(1, 99) n;
    CREATE TABLE parents (id int PRIMARY KEY);
    CREATE TABLE children (more text, parent int REFERENCES parents) INHERITS (parents);
    INSERT INTO parents VALUES (1);
    INSERT INTO children VALUES (2, 'more', 1);
    CREATE TABLE fat AS SELECT n, repeat(md5(n::text), 30000) AS t FROM generate_series(1, 3) n;
    CREATE TABLE bytes AS SELECT n, decode(md5(n::text), 'hex') AS b FROM generate_series(1, 999) n;
    CREATE TABLE hidden (a int);
    ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
    CREATE POLICY few ON hidden USING (a > 1);
    CREATE MATERIALIZED VIEW summed AS SELECT count(*) FROM bytes;
    CREATE SEQUENCE alone START 17;
    SELECT nextval('alone');

    SELECT lo_from_bytea(0, decode(repeat(md5(n::text), n), 'hex')) FROM generate_series(1, 99) n;
    SELECT lo_from_bytea(4294967295, 'the last'), lo_from_bytea(2147483648, 'in the middle');
    SELECT lo_from_bytea(70001, (SELECT string_agg(decode(md5(n::text), 'hex'), '')
                                 FROM generate_series(1, 99999) n));
    SELECT lo_create(70002), lo_create(70003);
    COMMENT ON LARGE OBJECT 70001 IS 'large';
    COMMENT ON LARGE OBJECT 4294967295 IS 'last';
    GRANT SELECT ON LARGE OBJECT 70001 TO PUBLIC;
    GRANT SELECT ON LARGE OBJECT 70003 TO pg_read_all_data;
    ALTER LARGE OBJECT 70002 OWNER TO pg_read_all_stats;
"""
LARGE = """
    CREATE TABLE large AS
        SELECT n, md5(n::text) || md5((n + 1)::text) AS t FROM generate_series(1, 160000) n;
    CREATE TABLE small AS SELECT 1 AS n;
"""
_RESTRICT = re.compile(rb"^\\(un)?restrict .*$", re.MULTILINE)  # a new word each time


@contextmanager
def filled(info: Conninfo, *statements: str) -> Iterator[Conninfo]:
    """A database of its own."""
    name = f"assembly_{os.urandom(4).hex()}"
    as_admin(info).run(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        for each in statements:
            Database(name, url_of(info, name)).run(each.replace("{database}", name))
        yield at(info, name)
    finally:
        as_admin(info).run(f"DROP DATABASE {name} WITH (FORCE)")


def _server(request: pytest.FixtureRequest, major: int) -> Conninfo:
    info: Conninfo = request.getfixturevalue("server" if major == 17 else f"server_{major}")
    return info


@pytest.fixture(scope="module", params=MAJORS)
def everything(request: pytest.FixtureRequest) -> Iterator[tuple[Toolchain, Conninfo]]:
    """The sample, odd names and types, and large objects, on each version."""
    text = re.sub("(DATABASE) ecom", r"\1 {database}", sample._SQL.read_text())
    with filled(_server(request, request.param), text, f"SET search_path = public; {ODD}") as info:
        yield toolchain(request.param), info


@pytest.fixture(scope="module")
def odd(server: Conninfo) -> Iterator[Conninfo]:
    with filled(server, ODD) as info:
        yield info


@dataclass(frozen=True)
class Pair:
    """Two dumps of one snapshot."""

    chain: Toolchain
    ordinary: Path
    directory: Path
    method: str

    @property
    def assembled(self) -> Path:
        return self.directory.with_name("assembled.dump")

    def assemble(self) -> None:
        with self.assembled.open("wb") as target:
            assemble(self.directory, target, nothing)

    def again(self, name: str) -> "Pair":
        """The same with a copy of the directory."""
        folder = self.directory.parent / name
        shutil.copytree(self.directory, folder / "directory")
        return replace(self, directory=folder / "directory")


def dumped(
    chain: Toolchain, info: Conninfo, folder: Path, method: str = "zstd", *options: str
) -> Pair:
    folder.mkdir()
    pair = Pair(chain, folder / "ordinary.dump", folder / "directory", method)
    with exported(info) as snapshot:
        command = pg_dump(pair, info, f"--snapshot={snapshot}", *options)
        subprocess.run([*command, "-F", "c", "-f", pair.ordinary], check=True)
        subprocess.run([*command, *PARALLEL, "-f", pair.directory], check=True)
    return pair


PARALLEL = ("-F", "d", "-j", "2", "--no-sync")


def pg_dump(pair: Pair, info: Conninfo, *options: str) -> list[str | Path]:
    compress = {"none": "0", "gzip": "6"}.get(pair.method, pair.method)
    url = url_of(info, info.parameters["dbname"])
    return [pair.chain.pg_dump, "-Z", compress, "-d", url, *options]


def sql(chain: Toolchain, archive: Path, *options: str | Path, piped: bool = False) -> bytes:
    """What pg_restore makes of an archive."""
    command = [chain.pg_restore, "-f", "-", *options, *([] if piped else [archive])]
    content = archive.read_bytes() if piped else None
    done = subprocess.run(command, input=content, check=True, capture_output=True)
    return _RESTRICT.sub(b"", done.stdout)


def entries_with_data(archive: Path, *kinds: str) -> list[int]:
    kinds = kinds or ("TABLE DATA", "BLOBS")
    with archive.open("rb") as file:
        return [each.id for each in read_entries(file) if each.kind in kinds]


def readers(pair: Pair) -> Iterator[Toolchain]:
    """Each pg_restore that can read an ordinary dump of this version and method."""
    with pair.ordinary.open("rb") as file:
        header = read_header(file)
    for major in MAJORS:
        chain = toolchain(major)
        if chain.reads(header.oldest_reader, header.compression):
            yield chain


def assert_equal_as_sql(pair: Pair) -> None:
    for chain in readers(pair):
        expected = sql(chain, pair.ordinary)
        assert sql(chain, pair.assembled) == expected
        assert sql(chain, pair.assembled, piped=True) == expected
        assert _listed(chain, pair.assembled) == _listed(chain, pair.ordinary)
    with pair.assembled.open("rb") as file:
        check_blocks(file, nothing)


def _listed(chain: Toolchain, archive: Path) -> bytes:
    done = subprocess.run([chain.pg_restore, "-l", archive], check=True, capture_output=True)
    return b"\n".join(line for line in done.stdout.splitlines() if b"created at" not in line)


# What pg_restore finds


def test_everything_is_found_as_in_an_ordinary_dump(
    everything: tuple[Toolchain, Conninfo], tmp_path: Path
):
    chain, info = everything
    assert chain.methods >= ({*SUFFIXES} if chain.version.major == 17 else {"none", "gzip"})
    for method in chain.methods:
        pair = dumped(chain, info, tmp_path / method, method)
        pair.assemble()
        assert_equal_as_sql(pair)
        assert [each.name for each in pair.directory.iterdir()] == ["toc.dat"]


def test_every_kind_of_object_is_found(server: Conninfo, tmp_path: Path):
    rich = RICH
    for name in ("ann", "bob", "cid"):
        as_admin(server).run(f"CREATE ROLE assembly_{name}")
        rich = rich.replace(f"{{{name}}}", f"assembly_{name}")
    with filled(server, rich) as info:
        pair = dumped(toolchain(17), info, tmp_path / "pair", "zstd", "--create")
    as_admin(server).run("DROP ROLE assembly_ann, assembly_bob, assembly_cid")
    pair.assemble()
    assert_equal_as_sql(pair)
    for options in (["-C"], ["-c", "--if-exists"], ["-s"], ["-a"], ["--section=post-data"]):
        expected = sql(pair.chain, pair.ordinary, *options)
        assert sql(pair.chain, pair.assembled, *options) == expected


@pytest.mark.parametrize("major", MAJORS)
def test_an_empty_database_becomes_an_archive(
    major: int, request: pytest.FixtureRequest, tmp_path: Path
):
    with filled(_server(request, major)) as info:
        pair = dumped(toolchain(major), info, tmp_path / "pair", "none")
    pair.assemble()
    assert_equal_as_sql(pair)


@pytest.mark.parametrize("method", SUFFIXES)
def test_a_large_table_becomes_many_chunks(method: str, server: Conninfo, tmp_path: Path):
    with filled(server, LARGE) as info:
        pair = dumped(toolchain(17), info, tmp_path / "pair", method)
    pair.assemble()
    assert pair.assembled.stat().st_size > 3 * 1024**2
    assert_equal_as_sql(pair)


def test_it_is_restored_by_several_jobs_and_from_a_pipe(
    odd: Conninfo, server: Conninfo, new_database: Callable[..., Database], tmp_path: Path
):
    chain = toolchain(17)
    pair = dumped(chain, odd, tmp_path / "pair")
    pair.assemble()
    expected = sql(chain, pair.ordinary)
    for restored_by in (["-j", "3"], []):
        copy = new_database()
        command = [chain.pg_restore, "-e", *restored_by, "-d", copy.url]
        if restored_by:
            subprocess.run([*command, pair.assembled], check=True)
        else:
            subprocess.run(command, input=pair.assembled.read_bytes(), check=True)
        again = dumped(chain, parse_url(copy.url), tmp_path / copy.name)
        lines = sql(chain, again.ordinary).splitlines()
        assert sorted(lines) == sorted(expected.splitlines())  # rows of partitions change places


def test_parts_of_it_are_found_by_name_and_by_list(odd: Conninfo, tmp_path: Path):
    pair = dumped(chain := toolchain(17), odd, tmp_path / "pair")
    pair.assemble()
    listed = _listed(chain, pair.ordinary).splitlines()
    rows = [line for line in listed if b" TABLE DATA " in line or b" BLOBS " in line]
    (tmp_path / "list").write_bytes(b"\n".join(reversed(rows)))
    for options in (
        ["-t", "bytes"],
        ["-a", "-t", "fat"],
        ["-L", tmp_path / "list"],
        ["-n", "a b.c"],
    ):
        expected = sql(chain, pair.ordinary, *options)
        assert b"COPY " in expected
        assert sql(chain, pair.assembled, *options) == expected


def test_rows_that_are_inserts_are_found(odd: Conninfo, tmp_path: Path):
    pair = dumped(toolchain(17), odd, tmp_path / "pair", "none", "--inserts")
    pair.assemble()
    assert_equal_as_sql(pair)


# While pg_dump runs


def test_tables_are_moved_as_they_are_finished(odd: Conninfo, tmp_path: Path):
    pair = Pair(toolchain(17), tmp_path / "ordinary.dump", tmp_path / "directory", "zstd")
    moved = []
    with exported(odd) as snapshot:
        command = pg_dump(pair, odd, f"--snapshot={snapshot}")
        subprocess.run([*command, "-F", "c", "-f", pair.ordinary], check=True)
        process = subprocess.Popen(
            [*command, *PARALLEL, "-v", "-f", pair.directory],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert process.stderr is not None
        assembly = None
        with pair.assembled.open("wb") as target, process.stderr as log:
            for line in log:
                if (entry := finished_entry(line)) is not None:
                    assembly = assembly or Assembly(pair.directory, target, nothing)
                    assembly.take(entry)
                    moved.append(entry)
            assert process.wait() == 0
            assert assembly is not None
            assembly.finish()
    assert sorted(moved) == sorted(entries_with_data(pair.ordinary, "TABLE DATA"))
    assert_equal_in_another_order(pair)


def test_any_order_of_tables_makes_an_archive(odd: Conninfo, tmp_path: Path):
    pair = dumped(toolchain(17), odd, tmp_path / "pair", "gzip")
    tables = entries_with_data(pair.ordinary, "TABLE DATA")
    large_objects = entries_with_data(pair.ordinary, "BLOBS")
    assert len(large_objects) > 1
    orders = [tables[::-1], tables[::3], [*large_objects, *tables[5:]]]
    for number, order in enumerate(orders):
        copy = pair.again(str(number))
        with copy.assembled.open("wb") as target:
            assembly = Assembly(copy.directory, target, nothing)
            for entry in order:
                assembly.take(entry)
                assembly.take(entry)  # a second time, nothing is left of it
            assembly.finish()
        soon = [entry for entry in order if entry in tables]
        later = [entry for entry in tables if entry not in soon]
        assert entries_with_data(copy.assembled) == [*soon, *later, *large_objects]
        assert_equal_in_another_order(copy)


def assert_equal_in_another_order(pair: Pair) -> None:
    for chain in readers(pair):
        expected = sql(chain, pair.ordinary)
        for piped in (False, True):
            written = sql(chain, pair.assembled, piped=piped)
            assert sorted(written.splitlines()) == sorted(expected.splitlines())
    one = pair.assembled.with_name("one")
    for entry in entries_with_data(pair.ordinary)[::4]:  # each block is that of its entry
        one.write_text(f"{entry}; 0 0 TABLE DATA x x x\n")
        expected = sql(pair.chain, pair.ordinary, "-L", one)
        assert sql(pair.chain, pair.assembled, "-L", one) == expected


def test_rows_without_their_tables_keep_their_order(odd: Conninfo, tmp_path: Path):
    """Foreign keys hold already where such rows are loaded."""
    pair = dumped(toolchain(17), odd, tmp_path / "pair", "none", "--data-only")
    with pair.assembled.open("wb") as target:
        assembly = Assembly(pair.directory, target, nothing)
        for entry in reversed(entries_with_data(pair.ordinary)):
            assembly.take(entry)
        assembly.finish()
    assert_equal_as_sql(pair)


def test_rows_of_extensions_keep_their_order(
    server_18: Conninfo, passable_dir: Path, tmp_path: Path
):
    folder = passable_dir / "linked" / "extension"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o755)
    folder.chmod(0o755)
    (folder / "linked.control").write_text("default_version = '1'\n")
    (folder / "linked--1.sql").write_text("""
        CREATE TABLE z_first (n int PRIMARY KEY);
        CREATE TABLE a_second (n int REFERENCES z_first);
        SELECT pg_extension_config_dump('z_first', '');
        SELECT pg_extension_config_dump('a_second', '');
    """)
    path = f"SET extension_control_path = '$system:{folder.parent}'"
    fill = f"""{path}; CREATE EXTENSION linked; CREATE TABLE mine AS SELECT 7 AS n;
               INSERT INTO z_first VALUES (1); INSERT INTO a_second VALUES (1)"""
    with filled(server_18, fill) as info:
        pair = dumped(toolchain(18), info, tmp_path / "pair", "none")
    rows = sql(pair.chain, pair.ordinary, "-a")
    assert rows.index(b"COPY public.z_first") < rows.index(b"COPY public.a_second")
    with pair.assembled.open("wb") as target:
        assembly = Assembly(pair.directory, target, nothing)
        for entry in reversed(entries_with_data(pair.ordinary)):
            assembly.take(entry)
        assembly.finish()
    rows = sql(pair.chain, pair.assembled, "-a")
    assert rows.index(b"COPY public.z_first") < rows.index(b"COPY public.a_second")
    assert rows.index(b"COPY public.mine") < rows.index(b"COPY public.z_first")


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("pg_dump: finished item 3451 TABLE DATA orders\n", 3451),
        ("pg_dump: finished item 3451 BLOBS BLOBS\n", None),
        ("pg_dump: launching item 3451 TABLE DATA orders\n", None),
        ('pg_dump: dumping contents of table "pg_dump: finished item 1 TABLE DATA x"\n', None),
    ],
)
def test_a_line_tells_of_a_finished_table(line: str, entry: int | None):
    assert finished_entry(line) == entry


# What is damaged


@pytest.fixture(scope="module")
def small(server: Conninfo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """A table and two large objects, by method."""
    folder = tmp_path_factory.mktemp("small")
    fill = """CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 200) n;
              SELECT lo_from_bytea(70001, 'some'), lo_from_bytea(70002, 'more')"""
    with filled(server, fill) as info:
        return {each: dumped(toolchain(17), info, folder / each, each) for each in SUFFIXES}


def refusal(pair: Pair) -> str:
    with pytest.raises(DumpError, match="the directory of the dump is damaged") as refused:
        pair.assemble()
    return refused.value.detail


def changed(pair: Pair, name: str, content: bytes, folder: Path) -> Pair:
    """A copy in which one file is another."""
    copy = folder / "directory"
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(pair.directory, copy)
    (copy / name).write_bytes(content)
    return replace(pair, directory=copy)


@pytest.mark.parametrize("method", SUFFIXES)
def test_no_file_may_be_cut_or_grown(method: str, small: dict[str, Pair], tmp_path: Path):
    for path in sorted(small[method].directory.iterdir()):
        if method == "none" and path.name.startswith("blob_"):
            continue  # nothing tells how long it was
        content = path.read_bytes()
        for length in {0, 1, 3, 6, 9, len(content) // 2, len(content) - 5, len(content) - 1}:
            if length < len(content) and (length or "blob_" not in path.name):
                assert refusal(changed(small[method], path.name, content[:length], tmp_path))
        grown = changed(small[method], path.name, content + b"x", tmp_path)
        assert path.name in refusal(grown)


@pytest.mark.parametrize("method", SUFFIXES)
def test_no_file_may_be_missing_or_strange(method: str, small: dict[str, Pair], tmp_path: Path):
    names = sorted(each.name for each in small[method].directory.iterdir())
    assert len(names) == 5
    for name in names:
        copy = changed(small[method], name, b"", tmp_path)
        (copy.directory / name).unlink()
        assert refusal(copy) == f"{name}: it is missing."
    strange = changed(small[method], "99.dat", b"", tmp_path)
    assert refusal(strange) == "99.dat: it belongs to no entry of the table of contents."


def test_a_link_is_not_followed(small: dict[str, Pair], tmp_path: Path):
    copy = changed(small["zstd"], "toc.dat", b"", tmp_path)
    (copy.directory / "toc.dat").unlink()
    (copy.directory / "toc.dat").symlink_to(small["zstd"].directory / "toc.dat")
    assert refusal(copy) == "toc.dat: it is missing."


def test_a_flipped_bit_of_the_contents_is_an_error_or_harmless(
    small: dict[str, Pair], tmp_path: Path
):
    """In a name or a definition it cannot be noticed; but no row is lost by any."""
    content = (small["zstd"].directory / "toc.dat").read_bytes()
    chance = random.Random(13)  # noqa: S311
    refused = 0
    for position in [*range(60), *chance.sample(range(60, len(content)), 300)]:
        flipped = bytearray(content)
        flipped[position] ^= 1 << chance.randrange(8)
        copy = changed(small["zstd"], "toc.dat", bytes(flipped), tmp_path)
        try:
            copy.assemble()
        except DumpError:
            refused += 1
        else:
            with copy.assembled.open("rb") as file:
                assert len(read_entries(file)) > 5
                file.seek(0)
                check_blocks(file, nothing)
    assert refused > 50


def test_a_flipped_bit_of_a_gzip_file_is_noticed(small: dict[str, Pair], tmp_path: Path):
    (path,) = small["gzip"].directory.glob("[0-9]*.gz")
    content = path.read_bytes()
    for position in (
        0,
        1,
        2,
        3,
        *range(10, len(content), 41),
        *range(len(content) - 8, len(content)),
    ):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        copy = changed(small["gzip"], path.name, bytes(flipped), tmp_path)
        assert path.name in refusal(copy)


@pytest.mark.parametrize("method", ["zstd", "lz4"])
def test_a_flipped_bit_in_the_structure_of_a_frame_is_noticed(
    method: str, small: dict[str, Pair], tmp_path: Path
):
    (path,) = small[method].directory.glob("[0-9]*.dat.*")
    content = path.read_bytes()
    start = {"zstd": 6, "lz4": 7}[method]  # of the first block's header
    for position in (0, 1, 2, 3, *range(start, start + 3)):
        for bit in range(8):
            if (method, position, bit) == ("zstd", start, 2):
                continue  # makes a raw block a packed one of the same length
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            assert path.name in refusal(changed(small[method], path.name, bytes(flipped), tmp_path))


@pytest.mark.parametrize(
    "line", [b"0 blob_0.dat\n", b"70001 ../x\n", b"4294967296 blob_4294967296.dat\n",
             b"70001 blob_70002.dat\n", b"\n", b"70001 blob_70001.dat", b"70001" * 1000]
)  # fmt: skip
def test_a_list_of_large_objects_names_nothing_else(
    line: bytes, small: dict[str, Pair], tmp_path: Path
):
    (path,) = small["zstd"].directory.glob("blobs*.toc")
    assert refusal(changed(small["zstd"], path.name, line, tmp_path)).startswith(path.name)


# The machine


@pytest.mark.parametrize("method", ["none", "gzip"])
def test_a_huge_table_takes_no_memory(method: str, small: dict[str, Pair], tmp_path: Path):
    (path,) = small[method].directory.glob("[0-9]*.dat*")
    copy = changed(small[method], path.name, b"", tmp_path)
    size = 400 * 1024**2
    if method == "none":
        with (copy.directory / path.name).open("wb") as file:
            file.truncate(size)
            file.seek(size)
            file.write(b"\n\\.\n\n\n")
    else:  # as little as possible for what it unpacks to
        with (
            (copy.directory / path.name).open("wb") as raw,
            gzip.GzipFile("", "wb", 1, raw) as file,
        ):
            for _ in range(size // 1024**2):
                file.write(bytes(1024**2))
    tracemalloc.start()
    copy.assemble()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 1024**2
    if method == "none":
        assert copy.assembled.stat().st_size > size


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's own ways")
def test_rows_lie_on_the_disk_once(small: dict[str, Pair], tmp_path: Path):
    (path,) = small["none"].directory.glob("[0-9]*.dat")
    size = 40 * 1024**2
    copy = changed(small["none"], path.name, bytes(size) + b"\n\\.\n\n\n", tmp_path)
    used = []

    def tick() -> None:
        files = [copy.assembled, *copy.directory.iterdir()]
        used.append(sum(file.stat().st_blocks * 512 for file in files))

    with copy.assembled.open("wb") as target:
        assemble(copy.directory, target, tick)
    assert len(used) > 40
    assert max(used) < size + 4 * 1024**2


def test_a_file_system_that_cannot_copy_is_written_to(
    odd: Conninfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    pair = dumped(toolchain(17), odd, tmp_path / "pair", "none")
    pair.assemble()
    assert_equal_as_sql(pair)


def test_a_full_disk_is_named(small: dict[str, Pair], tmp_path: Path):
    copy = small["none"].again("full")
    with Path("/dev/full").open("wb") as full, pytest.raises(StorageFull) as told:
        assemble(copy.directory, full, nothing)
    assert told.value.message == "no space is left where the dump is written"
    assert (copy.directory / "toc.dat").exists()


def test_a_limit_on_the_size_of_files_is_named(server: Conninfo, tmp_path: Path):
    with filled(server, LARGE) as info:
        pair = dumped(toolchain(17), info, tmp_path / "pair", "none")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 1024**2, hard))
    try:
        with pytest.raises(StorageFull):
            pair.assemble()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_target_that_cannot_be_written_is_named(small: dict[str, Pair], tmp_path: Path):
    copy = small["none"].again("closed")
    (tmp_path / "read only").touch()
    with (tmp_path / "read only").open("rb") as target, pytest.raises(StorageError) as told:
        assemble(copy.directory, target, nothing)
    assert told.value.message == "the dump cannot be written"


def test_what_a_tick_raises_ends_it(small: dict[str, Pair], tmp_path: Path):
    class Enough(Exception):
        pass

    def tick() -> None:
        raise Enough

    copy = small["zstd"].again("ended")
    with copy.assembled.open("wb") as target, pytest.raises(Enough):
        assemble(copy.directory, target, tick)
