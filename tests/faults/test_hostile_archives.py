"""Archives that were made to hurt, and huge ones of our own: each read ends within its limits."""

import random
import re
import resource
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path

import psutil
import pytest

from app.errors import DumpError, PostgresError
from app.postgres import archive as archives
from app.postgres.archive import Expected, read_header, read_whole
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.dump import Limits
from app.postgres.tools import Toolchain
from tests.conftest import Database, url_of
from tests.faults.lab import SEED, N, chance
from tests.faults.test_server import an_own_server
from tests.postgres.conftest import at, make_dump
from tests.servers import a_server, toolchain

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]  # the long run's dumps take minutes

PATIENT = Limits(lock=60, stall=600, total=1200)

#: The long run takes everything at full size.
MIB = 1024**2
FULL = N > 8
TRIALS = 600 if FULL else 60
LARGE_OBJECTS = 500_000 if FULL else 20_000
TABLES = 20_000 if FULL else 2_000


@pytest.fixture
def chain() -> Toolchain:
    return toolchain(17)


@pytest.fixture
def whole(chain: Toolchain, shop: Database, server: Conninfo, tmp_path: Path) -> Path:
    """A whole dump of the small shop."""
    make_dump(chain, at(server, shop.name), tmp_path / "whole.dump")
    return tmp_path / "whole.dump"


@pytest.fixture(autouse=True)
def nothing_is_left(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Whatever crashes leaves neither a core dump, even where they are on, nor a process."""
    folder = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    children = set(psutil.Process().children(recursive=True))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    # A core dump would lie where the panel was started, with the rows in clear.
    assert set(psutil.Process().children(recursive=True)) <= children
    assert list(folder.iterdir()) == []


def read(chain: Toolchain, archive: Path, contents: int = 0) -> None:
    """Read an archive as a backup does, header first."""
    with archive.open("rb") as file:
        header = read_header(file)
    read_whole(chain, archive, Expected(header.entries, contents))


def first_block(chain: Toolchain, archive: Path) -> int:
    """Where the contents end and the first table's data begins.

    A block of data begins with 1 and the number of its entry (pg_backup_custom.c).
    """
    listed = subprocess.run(
        [chain.pg_restore, "-l", archive], capture_output=True, text=True, check=True
    ).stdout
    raw = archive.read_bytes()
    numbers = re.findall(r"^(\d+); .* TABLE DATA", listed, re.MULTILINE)
    return min(raw.index(struct.pack("<BBi", 1, 0, int(number))) for number in numbers)


def mutated(raw: bytes, end: int, dice: random.Random) -> bytes:
    """The archive with some bytes of its table of contents flipped, lost, doubled or extreme."""
    hurt = bytearray(raw)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(11, end - 8)  # what lies before is told by the header
        match dice.randrange(4):
            case 0:
                hurt[place] ^= 1 << dice.randrange(8)
            case 1:
                del hurt[place : place + dice.randint(1, 8)]
            case 2:
                hurt[place:place] = dice.randbytes(dice.randint(1, 8))
            case _:
                extreme = dice.choice([-1, 0, 2**31 - 1, -(2**31), 2**30, 1_000_000])
                hurt[place : place + 4] = struct.pack("<i", extreme)
    return bytes(hurt)


def test_mutated_contents_end_as_a_dump_error_or_not_at_all(
    chain: Toolchain, whole: Path, tmp_path: Path, record_property: Callable[[str, str], None]
):
    dice = chance("archives")
    raw, end = whole.read_bytes(), first_block(chain, whole)
    refused = 0
    for trial in range(TRIALS):
        archive = tmp_path / "mutated.dump"
        archive.write_bytes(mutated(raw, end, dice))
        try:
            read(chain, archive)
        except PostgresError:  # it is not whole, or goes beyond a limit
            refused += 1
        except Exception as error:
            raise AssertionError(f"trial {trial}, FAULTS_SEED={SEED}: {error!r}") from error
    record_property("faults", f"{TRIALS} archives with mutated contents, {refused} refused")
    # Names and SQL can change without a sign: that is what our own SHA-256 is for.
    assert refused > TRIALS // 4, f"FAULTS_SEED={SEED}"


def data_chunks(raw: bytes, begin: int) -> tuple[int, int]:
    """Where the compressed data of the block at `begin` lies, without its end mark."""
    place = begin + 6
    while length := struct.unpack_from("<i", raw, place + 1)[0]:
        place += 5 + length
    return begin + 6, place


def test_a_bomb_is_ended_in_time(
    chain: Toolchain,
    new_database: Callable[..., Database],
    server: Conninfo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    database = new_database()
    database.run("CREATE TABLE zeros AS SELECT repeat('0', 50000000) AS x")
    make_dump(chain, at(server, database.name), tmp_path / "seed.dump", compression="zstd:1")
    raw = (tmp_path / "seed.dump").read_bytes()
    begin, end = data_chunks(raw, first_block(chain, tmp_path / "seed.dump"))
    bomb = tmp_path / "bomb.dump"
    with bomb.open("wb") as file:  # 50 MB a frame, 1 TB in all, in some 30 MB
        file.write(raw[:begin])
        for _ in range(200):
            file.write(raw[begin:end] * 100)
        file.write(raw[end:])
    monkeypatch.setattr(archives, "_READ_SECONDS", 2)
    monkeypatch.setattr(archives, "_READ_BYTES_PER_SECOND", 1024**3)
    with pytest.raises(PostgresError, match="took longer than 2 s"):
        read(chain, bomb)


def test_a_count_of_entries_that_is_not_true_buys_no_memory(
    chain: Toolchain, whole: Path, tmp_path: Path
):
    raw = bytearray(whole.read_bytes())
    with whole.open("rb") as file:
        entries = read_header(file).entries
        place = file.tell() - 5  # not found by its value: a date may hold the same number
    assert struct.unpack_from("<Bi", raw, place) == (0, entries)
    raw[place : place + 5] = struct.pack("<Bi", 0, 2**31 - 1)
    try:
        header = read_header(BytesIO(raw))
    except DumpError:
        return
    archive = tmp_path / "boastful.dump"
    archive.write_bytes(raw)
    with pytest.raises(DumpError):
        read_whole(chain, archive, Expected(header.entries))


@pytest.fixture(scope="module")
def many_tables(server: Conninfo, passable_dir: Path) -> Iterator[Path]:
    """A dump of many tables; all of them need a lock at once."""
    with ExitStack() as stack:
        info = server
        if FULL:
            room = {"max_locks_per_transaction": 512, "fsync": 0}
            own = stack.enter_context(an_own_server(passable_dir / "roomy", **room))
            info = parse_url(own.admin.url)
        admin = Database("postgres", url_of(info, "postgres"))
        admin.run("CREATE DATABASE many_tables")
        stack.callback(admin.run, "DROP DATABASE many_tables WITH (FORCE)")
        database = Database("many_tables", url_of(info, "many_tables"))
        for first in range(0, TABLES, 1000):
            database.run(
                f"DO $$ BEGIN FOR n IN {first} .. {first + 999} LOOP"
                " EXECUTE 'CREATE TABLE t' || n || ' (id int)'; END LOOP; END $$"
            )
        archive = passable_dir / "tables.dump"
        make_dump(toolchain(17), at(info, "many_tables"), archive, limits=PATIENT)
    yield archive
    archive.unlink()


def test_many_tables_are_read_back_within_the_limits(chain: Toolchain, many_tables: Path):
    read(chain, many_tables)


@pytest.mark.parametrize("major", [15, 17])
def test_many_large_objects_are_read_back_within_the_limits(
    server: Conninfo, passable_dir: Path, tmp_path: Path, major: int
):
    """pg_dump 15 writes an entry for each of them, 17 one for a thousand."""
    with ExitStack() as stack:
        info = server
        if major != major_of(server):
            info = stack.enter_context(a_server(major, passable_dir / f"objects-{major}"))
        admin = Database("postgres", url_of(info, "postgres"))
        admin.run("CREATE DATABASE many_objects")
        stack.callback(admin.run, "DROP DATABASE many_objects WITH (FORCE)")
        database = Database("many_objects", url_of(info, "many_objects"))
        database.run("SELECT count(lo_create(0)) FROM generate_series(1, %s)", LARGE_OBJECTS)
        archive = tmp_path / "objects.dump"
        make_dump(toolchain(major), at(info, "many_objects"), archive, limits=PATIENT)
        read(toolchain(major), archive, size_of(database))


def major_of(server: Conninfo) -> int:
    """The major version of the tests' own server."""
    admin = Database("postgres", url_of(server, "postgres"))
    return int(admin.run("SHOW server_version_num")[0][0]) // 10_000


def size_of(database: Database) -> int:
    return int(database.run("SELECT pg_database_size(current_database())")[0][0])


def test_a_limit_that_is_hit_is_told_as_a_limit(
    chain: Toolchain, whole: Path, many_tables: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archives, "_READ_MEMORY_PER_ENTRY", 0)
    for memory in range(8 * MIB, 1024 * MIB, MIB):
        monkeypatch.setattr(archives, "_READ_MEMORY", memory)
        with suppress(PostgresError):
            read(chain, whole)
            break  # enough for the programs themselves and a small archive
    with pytest.raises(PostgresError) as caught:
        read(chain, many_tables)
    assert caught.value.message.startswith("reading the dump back needs more memory than")
    assert caught.value.hint
