"""A connection checked step by step: real servers, and things that are none."""

import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from app.postgres import connection_check, inspection, poolers
from app.postgres.connection_check import (
    HOST,
    NETWORK,
    POOLER,
    RIGHTS,
    SIGN_IN,
    SIZE,
    STEPS,
    TLS,
    VERSION,
    Step,
    check_connection,
)
from app.postgres.conninfo import Conninfo, parse_url
from tests.conftest import Database
from tests.postgres.conftest import Role, encrypted_server, signed_in_as
from tests.servers import a_pooler, programs

SECRET = "can@ry:word"

HBA = """
hostssl all backstop,low,nologin,"nobody here" all scram-sha-256
hostssl all refused all reject
hostssl all trusted all trust
"""
ROLES = """
    CREATE ROLE low LOGIN PASSWORD 'can@ry:word';
    CREATE ROLE nologin PASSWORD 'can@ry:word';
    CREATE DATABASE barred;
    REVOKE CONNECT ON DATABASE barred FROM PUBLIC;
    CREATE DATABASE closed ALLOW_CONNECTIONS false
"""


def checked(info: Conninfo, **options: object) -> dict[str, Step]:
    """The steps by name: all of them in order, nothing after a failure, no secret."""
    steps = check_connection(info, **options)
    assert tuple(step.name for step in steps) == STEPS
    failed = [number for number, step in enumerate(steps) if step.passed is False]
    if failed:
        assert {(step.passed, step.detail) for step in steps[failed[0] + 1 :]} <= {
            (None, "not tried")
        }
        assert steps[failed[0]].hint
    for secret in info.secrets:
        assert secret not in repr(steps)
    assert all(step.detail.isprintable() and step.hint.isprintable() for step in steps)
    return {step.name: step for step in steps}


def failure(info: Conninfo, **options: object) -> Step:
    """The step that fails."""
    (failed,) = [step for step in checked(info, **options).values() if step.passed is False]
    return failed


@pytest.fixture(scope="module")
def guarded(passable_dir: Path) -> Iterator[Conninfo]:
    """A server with TLS and rules about who may sign in."""
    with encrypted_server(passable_dir, HBA) as info:
        with closing(psycopg2.connect(info.dsn(), password=info.password)) as admin:
            admin.autocommit = True
            for statement in ROLES.split(";"):
                admin.cursor().execute(statement)
        yield replace(info, server="db1:5432")


@pytest.fixture
def low(new_role: Callable[..., Role], shop: Database) -> Iterator[Conninfo]:
    """A role without any right of its own on the shop."""
    role = new_role()
    yield signed_in_as(role, parse_url(shop.url))
    shop.run(f"DROP OWNED BY {role.name}")


def as_low(info: Conninfo, **changes: str) -> Conninfo:
    return replace(info, parameters={**info.parameters, "user": "low", **changes}, password=SECRET)


def over(host: str, port: int, **parameters: str) -> Conninfo:
    url = f"postgresql://ann:can%40ry%3Aword@{host}:{port}/shop"
    info = parse_url(url)
    return replace(info, parameters={**info.parameters, **parameters})


# Everything passes


def test_a_good_connection_passes_each_step(guarded: Conninfo):
    steps = checked(guarded)
    assert {name for name, step in steps.items() if step.passed} == set(STEPS)
    assert steps[HOST].detail == f"{guarded.parameters['host']} is {guarded.parameters['host']}"
    assert re.match(
        r"TLSv1\.\d, the certificate is not verified \(sslmode=require\)", steps[TLS].detail
    )
    assert "verify-full" in steps[TLS].hint
    assert steps[SIGN_IN].detail == "role backstop, database postgres"
    assert re.fullmatch(
        r"PostgreSQL 15\.\d+; pg_dump \S+ in \S+ can dump it.*", steps[VERSION].detail
    )
    assert steps[POOLER].detail == "none in between"
    assert steps[RIGHTS].detail == "role backstop may read all that a dump needs"
    assert re.fullmatch(r"\d+\.\d MiB", steps[SIZE].detail)


def test_a_certificate_that_is_verified_is_told(guarded: Conninfo):
    with closing(psycopg2.connect(guarded.dsn(), password=guarded.password)) as admin:
        cursor = admin.cursor()
        cursor.execute("SHOW ssl_cert_file")
        (file,) = cursor.fetchone()
    verifies = {**guarded.parameters, "sslmode": "verify-ca", "sslrootcert": file}
    assert (
        "the certificate is verified" in checked(replace(guarded, parameters=verifies))[TLS].detail
    )
    of_another = {**verifies, "sslmode": "verify-full"}
    step = failure(replace(guarded, parameters=of_another))
    assert (step.name, "does not match host name" in step.detail) == (TLS, True)
    assert "sslmode" in step.hint


@pytest.mark.parametrize("major", [15, 18])
def test_a_socket_needs_neither_name_nor_tls(request: pytest.FixtureRequest, major: int):
    info = request.getfixturevalue(f"server_{major}")
    steps = checked(info, pg_bin_dir=programs(major))
    assert steps[HOST].passed
    assert steps[TLS].passed is None
    assert all(step.passed for name, step in steps.items() if name != TLS)
    assert f"PostgreSQL {major}." in steps[VERSION].detail


def test_one_of_several_hosts_is_enough(guarded: Conninfo):
    host = guarded.parameters["host"]
    several = {**guarded.parameters, "host": f"127.0.0.1,{host}", "port": "1,5432"}
    steps = checked(replace(guarded, parameters=several))
    assert steps[NETWORK].detail == f"{host}:5432 accepts connections"
    assert steps[SIZE].passed


# Nobody is reached


def test_an_unknown_host_is_named():
    step = failure(over("nowhere.invalid", 5432))
    assert step.name == HOST
    assert step.detail.startswith("nowhere.invalid: ")
    assert "Check the host" in step.hint


def test_a_host_name_that_is_none_is_named():
    step = failure(over("h" * 80, 5432))
    assert (step.name, step.detail) == (HOST, f"{'h' * 80}: not a valid host name")


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    release = threading.Event()
    monkeypatch.setattr(
        connection_check.socket, "getaddrinfo", lambda *_, **__: release.wait() and []
    )
    step = failure(over("db1", 5432), patience=0.1)
    release.set()
    assert (step.name, step.detail) == (HOST, "db1: no answer within 0.1 s")


def test_a_port_where_nobody_listens_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        step = failure(over("127.0.0.1", unused.getsockname()[1]))
    assert step.name == NETWORK
    assert "Connection refused" in step.detail
    assert "Is the server running" in step.hint


def test_a_socket_that_is_not_there_is_named(tmp_path: Path):
    step = failure(Conninfo({"host": str(tmp_path), "dbname": "shop"}, SECRET, server="nowhere"))
    assert step.name == NETWORK
    assert "No such file or directory" in step.detail


def test_a_host_that_swallows_everything_is_not_waited_for():
    with ExitStack() as opened:
        full = opened.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # more than it has room for: whatever follows is dropped
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        step = failure(over("127.0.0.1", full.getsockname()[1]), patience=0.3)
    assert (step.name, "no answer within 0.3 s" in step.detail) == (NETWORK, True)
    assert "firewall" in step.hint


# Something is reached that is no PostgreSQL


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """Something that reads a little, says this, and closes; returns its port."""

    def serve() -> None:
        with listener.accept()[0] as client:
            client.recv(1000)
            client.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(("mode", "name"), [("prefer", TLS), ("disable", SIGN_IN)])
def test_a_server_that_accepts_and_is_silent_is_not_waited_for(mode: str, name: str):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        step = failure(over("127.0.0.1", deaf.getsockname()[1], sslmode=mode), patience=0.3)
    assert step.name == name
    assert "no answer within 0.3 s" in step.detail
    assert "check the port" in step.hint


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-it\r\n", b""])
@pytest.mark.parametrize(("mode", "name"), [("require", TLS), ("disable", SIGN_IN)])
def test_what_speaks_something_else_is_recognized(reply: bytes, mode: str, name: str):
    with answering(reply) as port:
        step = failure(over("127.0.0.1", port, sslmode=mode), patience=5)
    assert step.name == name
    assert "check the port" in step.hint


def test_tls_that_is_demanded_and_not_offered_is_named():
    with answering(b"N") as port:
        step = failure(over("127.0.0.1", port, sslmode="require"), patience=5)
    assert (step.name, "does not support SSL" in step.detail) == (TLS, True)
    assert "sslmode" in step.hint


def test_a_value_that_libpq_refuses_is_told_without_the_secret():
    step = failure(over("127.0.0.1", 99999))
    assert (step.name, "99999" in step.detail) == (NETWORK, True)


# Sign-in


@pytest.mark.parametrize(
    ("changes", "detail", "hint"),
    [
        ({"user": "backstop"}, "password authentication failed", "Check the user and the pass"),
        ({"user": "nobody here"}, "password authentication failed", "Check the user"),
        ({"user": "trusted"}, 'role "trusted" does not exist', "Check the user"),
        ({"user": "nologin"}, "is not permitted to log in", "ALTER ROLE … LOGIN"),
        ({"user": "refused"}, "pg_hba.conf rejects connection", "pg_hba.conf"),
        ({"user": "stranger"}, "no pg_hba.conf entry", "pg_hba.conf"),
        ({"dbname": "not there"}, 'database "not there" does not exist', "psql --list"),
        ({"dbname": "barred"}, 'permission denied for database "barred"', "GRANT CONNECT"),
        ({"dbname": "closed"}, "not currently accepting", "ALLOW_CONNECTIONS true"),
    ],
)
def test_who_is_not_let_in_learns_why(
    guarded: Conninfo, changes: dict[str, str], detail: str, hint: str
):
    step = failure(as_low(guarded, **changes))
    assert step.name == SIGN_IN
    assert detail in step.detail
    assert hint in step.hint


def test_the_steps_before_a_refusal_passed(guarded: Conninfo):
    steps = checked(as_low(guarded, dbname="not there"))
    assert [steps[name].passed for name in (HOST, NETWORK, TLS, SIGN_IN)] == [True] * 3 + [False]


# Version and pooler


def test_tools_that_are_too_old_are_named(server: Conninfo):
    step = failure(server, pg_bin_dir=programs(15))
    assert (step.name, "is too old for this server" in step.detail) == (VERSION, True)
    assert "Install the client programs" in step.hint


def test_a_folder_without_tools_is_named(server: Conninfo, tmp_path: Path):
    assert failure(server, pg_bin_dir=tmp_path).name == VERSION


def test_a_pooler_is_recognized(server: Conninfo, shop: Database, passable_dir: Path):
    with a_pooler(server, shop.name, "transaction", passable_dir / secrets.token_hex(3)) as info:
        step = failure(info)
    assert (step.name, "transaction mode" in step.detail) == (POOLER, True)
    assert "session mode" in step.hint
    with a_pooler(server, shop.name, "session", passable_dir / secrets.token_hex(3)) as info:
        steps = checked(info)
    assert steps[POOLER].detail == "one in session mode"
    assert steps[SIZE].passed


@pytest.mark.parametrize("after", [100, 500, 600, 700])
def test_a_server_that_falls_silent_is_not_waited_for(
    proxy: Callable[..., Conninfo], shop: Database, monkeypatch: pytest.MonkeyPatch, after: int
):
    monkeypatch.setattr(poolers, "_PATIENCE", 0.3)
    monkeypatch.setattr(inspection, "_PATIENCE", 0.3)
    steps = checked(proxy(parse_url(shop.url), after=after), patience=0.3)
    (silent,) = [step for step in steps.values() if "no answer within 0.3 s" in step.detail]
    assert silent.passed is False
    assert silent.name in (SIGN_IN, POOLER, RIGHTS)


# Rights


def test_what_the_role_cannot_read_is_named_with_what_mends_it(low: Conninfo, shop: Database):
    shop.run('CREATE SCHEMA hidden; CREATE TABLE hidden."we""ird\n" (id serial)')
    shop.run("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    number = shop.run("SELECT lo_from_bytea(0, 'x')")[0][0]
    step = failure(low)
    assert step.name == RIGHTS
    assert "public.customers, public.orders" in step.detail
    assert "1 of 1 sequences" in step.detail
    assert "1 of 2 schemas (hidden)" in step.detail
    assert "hide rows of 1 table (public.orders)" in step.detail
    assert f"1 large object ({number})" in step.detail
    shop.run(step.hint.removeprefix("As a superuser: "))
    assert checked(low)[SIZE].passed


def test_many_large_objects_are_mended_at_once(low: Conninfo, shop: Database):
    shop.run("GRANT pg_read_all_data TO " + low.parameters["user"])
    shop.run("SELECT lo_from_bytea(0, 'x') FROM generate_series(1, 12)")
    step = failure(low)
    assert "and 7 more)" in step.detail
    shop.run(step.hint.removeprefix("As a superuser: "))
    assert checked(low)[RIGHTS].passed


def test_an_older_server_gets_a_grant_for_each(
    low: Conninfo, shop: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.postgres.lacks.READ_ALL_DATA", 99)
    shop.run("CREATE SCHEMA hidden; CREATE TABLE hidden.inside (id serial)")
    hint = failure(low).hint
    assert "pg_read_all_data" not in hint
    assert "GRANT USAGE ON SCHEMA hidden" in hint
    shop.run(hint.removeprefix("As a superuser: "))
    assert checked(low)[RIGHTS].passed


def test_rights_that_take_too_long_to_look_through_do_not_fail(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inspection, "_RIGHTS", "SELECT pg_sleep(60)")
    monkeypatch.setattr(
        inspection, "_PREPARE", "SELECT set_config('statement_timeout', '100', true)"
    )
    steps = checked(parse_url(shop.url))
    assert steps[RIGHTS].passed is None
    assert "statement timeout" in steps[RIGHTS].detail
    assert steps[SIZE].passed
