"""The server, the programs for it, and what our role may read there."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from app.config import settings as current_settings
from app.errors import PostgresError
from app.postgres import connection, inspection
from app.postgres.conninfo import Conninfo
from app.postgres.embedded import EmbeddedServer
from app.postgres.tools import Toolchain, Version
from app.services.health.doctor import Finding, State
from app.services.health.doctor import server as of_server
from tests.conftest import Database, url_of
from tests.servers import a_server
from tests.services.health.doctor.conftest import OK, PROBLEM, WARNING, changed, found

pytestmark = pytest.mark.usefixtures("context")


def test_a_silent_server_is_given_up(app: Flask, monkeypatch: pytest.MonkeyPatch):
    """It takes connections and says nothing."""
    assert connection.CONNECT_TIMEOUT + inspection._PATIENCE < 20
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 2)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        with changed(app, database_url=f"postgresql://ann:s3cret@127.0.0.1:{port}/shop"):
            line = found("server")
        assert line.state is PROBLEM
        assert "no answer within 2 s" in line.told


@pytest.fixture
def role(shop: Database) -> Iterator[str]:
    name = f"low_{secrets.token_hex(4)}"
    shop.run(f"CREATE ROLE {name} LOGIN PASSWORD 'low'")
    yield name
    shop.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def as_role(
    app: Flask, context: None, role: str, shop: Database, server: Conninfo
) -> Iterator[None]:
    with changed(app, database_url=url_of(server, shop.name, role, "low")):
        yield


def test_the_server_tells_its_version_database_and_role(shop: Database):
    line = found("server")
    assert line.state is OK
    assert "PostgreSQL " in line.told
    assert shop.name in line.told
    assert "(superuser)" in line.told


def test_a_weak_server_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    inspect = of_server.inspect
    monkeypatch.setattr(of_server, "inspect", lambda i: replace(inspect(i), version=Version(17, 5)))
    line = found("server")
    assert (line.state, line.told.rpartition("; ")[2]) == (
        WARNING,
        "it lacks the fixes of CVE-2025-8714, CVE-2025-8715, CVE-2026-6477",
    )
    assert "Update" in line.hint


@pytest.mark.usefixtures("as_role")
def test_what_the_role_may_not_read_is_a_problem(role: str, shop: Database):
    shop.run('CREATE TABLE "we""ird\n\x1b[31m" (id serial)')
    shop.run("SELECT lo_from_bytea(0, 'x')")
    shop.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    tables = found("tables")
    assert tables.state is PROBLEM
    assert tables.told.startswith(f"role {role} may not read 3 of 3 tables (")
    assert "public.customers, public.orders" in tables.told
    assert '"we""ird\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m"' in tables.told
    assert "1 of 1 sequences" in tables.told
    assert f'GRANT pg_read_all_data TO "{role}"' in tables.hint
    security = found("row security")
    assert security.state is PROBLEM
    assert "1 table (public.orders)" in security.told
    assert f'ALTER ROLE "{role}" BYPASSRLS' in security.hint
    large = found("large objects")
    assert large.state is PROBLEM
    assert "may not read 1 large object (" in large.told
    # What the hints say helps.
    shop.run(tables.hint.removeprefix("As a superuser: ").partition(" (")[0])
    shop.run(security.hint.removeprefix("As a superuser: ").rstrip("."))
    shop.run(f"GRANT SELECT ON LARGE OBJECT {large.told.partition('(')[2].rstrip(')')} TO {role}")
    assert [found(each).state for each in ("tables", "row security", "large objects")] == [OK] * 3


@pytest.mark.usefixtures("as_role")
def test_many_tables_are_five_names_and_a_number(shop: Database):
    shop.run("".join(f"CREATE TABLE t{n} ();" for n in range(20)))
    assert found("tables").told.endswith("public.t0, public.t1, public.t10 and 17 more)")


def test_rights_that_take_too_long_to_look_through_are_a_warning(monkeypatch: pytest.MonkeyPatch):
    def refuse(_: object) -> None:
        raise PostgresError("the server did not answer", detail="Statement timeout.")

    monkeypatch.setattr(of_server, "inspect_rights", refuse)
    assert found("server").state is OK
    for subject in ("tables", "row security", "large objects"):
        assert found(subject) == Finding(subject, WARNING, "not examined: Statement timeout.")


@pytest.mark.parametrize(
    ("ahead", "state"),
    [(0, OK), (4.9, OK), (5.1, WARNING), (-5.1, WARNING), (61, PROBLEM), (-61, PROBLEM)],
)
def test_the_server_clock_may_differ_by_a_little(
    monkeypatch: pytest.MonkeyPatch, ahead: float, state: State
):
    inspect = of_server.inspect
    monkeypatch.setattr(of_server, "inspect", lambda i: replace(inspect(i), clock_ahead=ahead))
    line = found("server clock")
    assert line.state is state
    if state is not OK:
        assert ("ahead of" if ahead > 0 else "behind") in line.told


# The embedded server


def test_an_embedded_server_that_nobody_needs_just_now_is_a_warning(app: Flask):
    with changed(app, database_url=None):
        line = found("server")
        assert line.state is WARNING
        assert "start it by themselves" in line.hint
        assert not EmbeddedServer(current_settings().instance_dir).status().running


def test_an_embedded_server_that_was_stopped_is_a_problem(app: Flask):
    with changed(app, database_url=None):
        EmbeddedServer(current_settings().instance_dir).stop()
        line = found("server")
        assert line.state is PROBLEM
        assert "flask server start" in line.hint


# pg_dump


def chain(major: int, minor: int) -> Toolchain:
    return Toolchain(Path(f"/opt/{major}.{minor}"), Version(major, minor), frozenset({"gzip"}))


@pytest.mark.parametrize(
    ("chains", "state", "part"),
    [
        ([(17, 10), (18, 6)], OK, "17.10 in /opt/17.10, compression gzip; chosen because it is of"),
        ([(18, 6)], OK, "18.6 in /opt/18.6, compression gzip; chosen because it is the next newer"),
        ([(17, 9), (18, 6)], WARNING, "lacks the fixes of CVE-2026-6477"),
        ([(15, 20)], PROBLEM, "pg_dump 15.20 is too old for this server, which is 17.10"),
        ([], PROBLEM, "no pg_dump was found"),
    ],
)
def test_the_pair_for_the_server_is_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, chains: list[tuple[int, int]], state: State, part: str
):
    inspect = of_server.inspect
    monkeypatch.setattr(
        of_server, "inspect", lambda i: replace(inspect(i), version=Version(17, 10))
    )
    monkeypatch.setattr(of_server, "find_toolchains", lambda _: [chain(*each) for each in chains])
    line = found("pg_dump")
    assert line.state is state
    assert part in line.told
    assert bool(line.hint) is (state is not OK)


def test_without_a_server_no_tool_at_all_is_a_problem(app: Flask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(of_server, "find_toolchains", lambda _: [])
    with changed(app, database_url="postgresql://ann@127.0.0.1:1/shop"):
        assert found("pg_dump").state is PROBLEM


def test_a_folder_of_tools_that_has_none_is_a_problem(app: Flask, tmp_path: Path):
    with changed(app, pg_bin_dir=tmp_path):
        line = found("pg_dump")
    assert line.state is PROBLEM
    assert str(tmp_path) in line.told


def test_a_named_folder_of_tools_is_the_reason(app: Flask):
    folder = Path(found("pg_dump").told.partition(" in ")[2].partition(",")[0])
    with changed(app, pg_bin_dir=folder):
        assert "BACKSTOP_PG_BIN_DIR names it" in found("pg_dump").told


def test_a_compression_that_the_tool_lacks_is_a_problem(
    app: Flask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(of_server, "find_toolchains", lambda _: [chain(99, 0)])
    with changed(app, compression="zstd:3"):
        assert "cannot compress with zstd" in found("pg_dump").told


@pytest.mark.slow
def test_a_server_that_lets_no_new_role_sign_in_is_named(app: Flask, passable_dir: Path):
    home = passable_dir / f"shut-{secrets.token_hex(3)}"
    with a_server(17, home) as info:
        admin = Database("postgres", url_of(info, "postgres"))
        rules = home / "data" / "pg_hba.conf"
        own = "local all backstop scram-sha-256\n"
        for method, state in (
            ("peer", WARNING),
            ("ident", WARNING),
            ("reject", WARNING),
            ("scram-sha-256", OK),
            ("trust", OK),
        ):
            rules.write_text(f"{own}local all all {method}\n")
            admin.run("SELECT pg_reload_conf()")
            with changed(app, database_url=admin.url):
                line = found("restores")
                assert (method, line.state) == (method, state)
                assert ("BACKSTOP_RESTORE_URL" in line.hint) == (state is WARNING)
        rules.write_text(own)
        admin.run("SELECT pg_reload_conf()")
        with changed(app, database_url=admin.url):
            assert "no pg_hba.conf entry" in found("restores").told
        with changed(app, database_url=admin.url, restore_url=admin.url):
            assert found("restores").state is OK
        assert admin.run("SELECT rolname FROM pg_roles WHERE rolname LIKE 'backstop_%'") == []
