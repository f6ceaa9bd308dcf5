"""A session with its locks and its snapshot, as pg_dump uses it."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from app.postgres import relay
from app.postgres.connection import connect
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.dump import Request
from app.postgres.parallel_dump import Parts, dump_in_parallel
from app.postgres.relay import alone
from app.postgres.tools import Toolchain
from app.programs.command import Watch
from tests.conftest import Database
from tests.postgres.conftest import (
    LIMITS,
    encrypted_server,
    hold_snapshot,
    make_dump,
    nothing,
    take,
)
from tests.servers import toolchain


def restored(chain: Toolchain, dump: Path) -> str:
    done = subprocess.run([chain.pg_restore, "-f", "-", dump], capture_output=True, check=True)
    return done.stdout.decode()


def dumped(chain: Toolchain, database: Database, target: Path) -> list[str]:
    """A dump through a lent session, of a database that others change meanwhile."""
    with (
        hold_snapshot(parse_url(database.url), application_name="test") as held,
        held.lend() as address,
    ):
        database.run("INSERT INTO customers VALUES (1000, 'late')")
        assert address is not None
        return make_dump(chain, address, target, snapshot=None, environment=alone())


def test_pg_dump_goes_on_with_a_session_that_is_lent(
    shop: Database, own_toolchain: Toolchain, tmp_path: Path
):
    target = tmp_path / "a.dump"
    lines = dumped(own_toolchain, shop, target)
    assert not [line for line in lines if "warning" in line]
    sql = restored(own_toolchain, target)
    assert sql.count("customer ") >= 50
    assert "late" not in sql
    assert f"Dbname: {shop.name}" in subprocess.run(
        [own_toolchain.pg_restore, "-l", target], capture_output=True, text=True, check=True
    ).stdout.replace("dbname", "Dbname")


def test_a_lent_session_needs_no_password_and_no_variable(
    shop: Database, own_toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {
        "PGHOSTADDR": "127.0.0.1", "PGREQUIREAUTH": "scram-sha-256", "PGSERVICE": "none",
        "PGDATABASE": "other", "PGSSLMODE": "verify-full", "PGTARGETSESSIONATTRS": "standby",
    }.items():  # fmt: skip
        with hold_snapshot(parse_url(shop.url), application_name="test") as held:
            monkeypatch.setenv(name, value)
            with held.lend() as address:
                assert address is not None
                assert not address.password
                make_dump(
                    own_toolchain, address, tmp_path / name, snapshot=None, environment=alone()
                )
            monkeypatch.delenv(name)


def test_the_locks_are_held_until_the_session_ends(
    shop: Database, own_toolchain: Toolchain, tmp_path: Path
):
    info = parse_url(shop.url)
    with hold_snapshot(info, application_name="test") as held, held.lend() as address:
        assert address is not None
        make_dump(own_toolchain, address, tmp_path / "a", snapshot=None, environment=alone())
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            take(shop, "orders")
    shop.run("TRUNCATE orders")


def test_nothing_of_it_lies_about_while_pg_dump_runs(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nor is a folder with a long name in the way."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with hold_snapshot(parse_url(shop.url), application_name="test") as held, held.lend() as lent:
        assert lent is not None
        folder = Path(lent.parameters["host"])
        assert folder.stat().st_mode & 0o777 == 0o700
        with connect(lent, application_name="test") as connection:
            assert connection.info.dbname == shop.name
            assert not folder.exists()


def test_a_session_that_nobody_uses_is_given_back(shop: Database):
    with hold_snapshot(parse_url(shop.url), application_name="test") as held, held.lend():
        pass


def test_a_program_that_is_ended_gives_the_session_back(shop: Database, own_toolchain: Toolchain):
    shop.run("CREATE TABLE wide AS SELECT repeat(n::text, 1000) FROM generate_series(1, 9999) n")
    with hold_snapshot(parse_url(shop.url), application_name="test") as held, held.lend() as lent:
        assert lent is not None
        with subprocess.Popen(
            [own_toolchain.pg_dump, "-d", lent.dsn(), "-w"], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.read(100_000)
            process.kill()


def test_where_nobody_can_be_let_in_pg_dump_has_the_snapshot_alone(
    shop: Database, own_toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(relay, "_bytes_of", lambda *_: None)
    info = parse_url(shop.url)
    with hold_snapshot(info, application_name="test") as held, held.lend() as address:
        assert address is None
        held.check(now=True)
        make_dump(own_toolchain, info, tmp_path / "a", snapshot=held.id)


@pytest.fixture
def encrypted(passable_dir: Path) -> Iterator[Conninfo]:
    with encrypted_server(passable_dir) as info:
        yield info


def test_an_encrypted_session_is_lent_too(encrypted: Conninfo, tmp_path: Path):
    chain, target = toolchain(15), tmp_path / "a.dump"
    with connect(encrypted, application_name="test") as admin, admin.cursor() as cursor:
        cursor.execute("CREATE TABLE many AS SELECT md5(n::text) FROM generate_series(1, 99999) n")
        admin.commit()
    with hold_snapshot(encrypted, application_name="test") as held, held.lend() as lent:
        assert held._session.connection.info.ssl_in_use
        assert lent is not None
        make_dump(chain, lent, target, snapshot=None, environment=alone())
    assert restored(chain, target).count("\n") > 99_999


def test_several_encrypted_sessions_are_lent_at_once(encrypted: Conninfo, tmp_path: Path):
    chain, target = toolchain(15), tmp_path / "a.dump"
    with connect(encrypted, application_name="test") as admin, admin.cursor() as cursor:
        for name in ("one", "two", "three"):
            cursor.execute(
                f"CREATE TABLE {name} AS SELECT md5(n::text) FROM generate_series(1, 50000) n"
            )
        admin.commit()
    target.touch()
    (tmp_path / "parts").mkdir()
    with (
        hold_snapshot(encrypted, application_name="test") as held,
        held.lend_several(3, application_name="test", on_wait=nothing) as (lent, sessions),
    ):
        assert lent is not None
        assert sessions == 3
        dump_in_parallel(
            Request(chain, lent, alone(), None, "gzip"),
            target,
            Parts(tmp_path / "parts", 2),
            limits=LIMITS,
            watch=Watch(),
            sign_of_life=nothing,
        )
    assert restored(chain, target).count("\n") > 150_000
