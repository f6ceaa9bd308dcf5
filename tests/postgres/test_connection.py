"""What people are told when there is no connection, and what a server says of itself."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from app.errors import ConnectError
from app.postgres import connection as connection_module
from app.postgres.connection import connect, end_sessions, error_text, hint_for, open_session
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.tools import Version
from tests.conftest import Database, url_of
from tests.postgres.conftest import Role, as_admin, at, signed_in_as

SECRET = "can@ry:word"


def refusal(info: Conninfo) -> ConnectError:
    """The error of a connection; the password is nowhere in it."""
    with pytest.raises(ConnectError) as refused, connect(info, application_name="test"):
        pass
    error = refused.value
    shown = [
        error.message,
        error.detail,
        error.hint,
        repr(error),
        str(error),
        repr(error.__cause__),
    ]
    for secret in info.secrets:
        assert secret not in " ".join(shown)
    assert "\n" not in error.message + error.detail
    assert error.detail
    return error


def test_a_connection_is_named_and_closed_at_the_end(server: Conninfo):
    with connect(server, application_name="backstop test") as connection:
        with connection.cursor() as cursor:
            cursor.execute("SHOW application_name")
            assert cursor.fetchone() == ("backstop test",)
        assert connection.closed == 0
    assert connection.closed


def test_a_connection_is_closed_after_an_error_too(server: Conninfo):
    with pytest.raises(ZeroDivisionError), connect(server, application_name="test") as connection:
        1 / 0  # noqa: B018
    assert connection.closed


def test_nothing_is_committed_by_itself(shop: Database):
    with connect(parse_url(shop.url), application_name="test") as connection:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM orders")
        assert connection.info.transaction_status != TRANSACTION_STATUS_IDLE
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]


def test_a_dead_peer_is_noticed(server: Conninfo):
    with connect(server, application_name="test") as connection:
        used = connection.info.dsn_parameters
    assert used["keepalives_idle"] == "30"
    assert used["tcp_user_timeout"] == "60000"
    assert used["connect_timeout"] == "10"


def test_what_the_url_says_wins_over_our_own(server: Conninfo):
    url = url_of(server, "postgres") + "&connect_timeout=3&keepalives_idle=77"
    with connect(parse_url(url), application_name="test") as connection:
        used = connection.info.dsn_parameters
    assert (used["connect_timeout"], used["keepalives_idle"]) == ("3", "77")
    assert used["keepalives_count"] == "3"


# Errors


def test_no_server_at_a_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = refusal(parse_url(f"postgresql://ann:can%40ry%3Aword@127.0.0.1:{port}/shop"))
    assert error.message == f'no connection to database "shop" on 127.0.0.1:{port}'
    assert "Connection refused" in error.detail
    assert "Is the server running" in error.hint


def test_no_server_at_a_socket(tmp_path: Path):
    error = refusal(Conninfo({"host": str(tmp_path), "dbname": "shop"}, SECRET, server="nowhere"))
    assert "No such file or directory" in error.detail
    assert "Is the server running" in error.hint


def test_a_server_that_never_answers():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        start = time.monotonic()
        error = refusal(parse_url(f"postgresql://ann:pw@127.0.0.1:{port}/d?connect_timeout=2"))
    assert time.monotonic() - start < 8
    assert "timeout expired" in error.detail
    assert "Is the server running" in error.hint


def test_an_unknown_host():
    error = refusal(parse_url("postgresql://ann:can%40ry%3Aword@nowhere.invalid/shop"))
    assert error.message == 'no connection to database "shop" on nowhere.invalid:5432'
    assert "could not translate host name" in error.detail
    assert (
        error.hint == "Check the host in the database's URL, and that this machine can resolve it."
    )


def test_a_wrong_password(server: Conninfo):
    error = refusal(replace(server, password=SECRET))
    assert "password authentication failed" in error.detail
    assert "Check the user and the password" in error.hint


def test_no_password(server: Conninfo, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    error = refusal(replace(server, password=""))
    assert "no password supplied" in error.detail
    assert "Check the user and the password" in error.hint


def test_a_role_that_is_not_there(server: Conninfo):
    # The server does not tell a stranger whether it is the name or the password.
    error = refusal(signed_in_as(Role("nobody_here", SECRET), server))
    assert "nobody_here" in error.detail
    assert "Check the user" in error.hint


def test_a_database_that_is_not_there(server: Conninfo):
    error = refusal(at(server, "not there"))
    assert 'database "not there"' in error.message
    assert 'database "not there" does not exist' in error.detail
    assert "Check the database's name" in error.hint


def test_a_database_that_the_role_may_not_enter(
    server: Conninfo, new_role: Callable[..., Role], new_database: Callable[..., Database]
):
    made = new_database()
    made.run(f"REVOKE CONNECT ON DATABASE {made.name} FROM PUBLIC")
    error = refusal(signed_in_as(new_role(password=SECRET), at(server, made.name)))
    assert "permission denied" in error.detail
    assert "GRANT CONNECT ON DATABASE" in error.hint


def test_a_role_without_a_connection_left(server: Conninfo, new_role: Callable[..., Role]):
    error = refusal(
        signed_in_as(new_role("CONNECTION LIMIT 0", password=SECRET), at(server, "postgres"))
    )
    assert "too many connections" in error.detail
    assert "CONNECTION LIMIT" in error.hint


def test_a_port_that_is_none_is_told_without_a_word_of_the_password(server: Conninfo):
    error = refusal(replace(at(server, "shop", port="99999"), password=SECRET))
    assert "99999" in error.detail


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("terminating connection due to conflict with recovery", "max_standby_streaming_delay"),
        ("canceling statement due to conflict with recovery", "back up the primary"),
        ('FATAL: too many connections for role "reader"', "CONNECTION LIMIT of that role"),
        ('FATAL: too many connections for database "shop"', "CONNECTION LIMIT of that role"),
        ("FATAL: sorry, too many clients already", "max_connections"),
        ("ERROR: invalid memory alloc request size 1174405123", "512 MB of bytea"),
    ],
)
def test_what_is_meant_is_told_before_what_is_like_it(text: str, hint: str):
    assert hint in hint_for(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('no pg_hba.conf entry for host "10.0.0.9", user "ann", no encryption', "pg_hba.conf"),
        ('pg_hba.conf rejects connection for host "10.0.0.9", user "ann"', "pg_hba.conf"),
        ('role "ann" does not exist', "Check the user"),
        ('role "ann" is not permitted to log in', "ALTER ROLE … LOGIN"),
        ('database "shop" is not currently accepting connections', "ALLOW_CONNECTIONS"),
        ("permission denied for database shop", "Grant the role what it lacks"),
        ("the database system is starting up", "not ready yet"),
        ("the database system is shutting down", "not ready yet"),
        ("server does not support SSL, but SSL was required", "Check sslmode"),
        ("server closed the connection unexpectedly", "Is the server running"),
        ("sorry, too many clients already", "no connection left"),
        ("permission denied for table orders", "pg_read_all_data"),
        ("something nobody has ever seen", ""),
    ],
)
def test_texts_of_servers_have_hints(text: str, hint: str):
    assert hint in hint_for(text)
    assert bool(hint) == bool(hint_for(text))


def test_an_error_is_told_in_one_line_and_without_secrets():
    info = Conninfo({}, SECRET)
    error = psycopg2.OperationalError("first line\n\tsaid can@ry:word and can%40ry%3Aword\n")
    assert error_text(error, info) == "first line said ***** and *****"


def test_an_error_without_words_is_told_by_its_name():
    assert error_text(psycopg2.InterfaceError(), Conninfo({})) == "InterfaceError"


# Facts


def test_a_session_tells_its_servers_version(shop: Database, server: Conninfo):
    with open_session(parse_url(shop.url), application_name="test") as session:
        found = session.server_version
    number = int(as_admin(server).run("SHOW server_version_num")[0][0])
    assert found == Version(number // 10_000, number % 10_000)


def test_other_servers_tell_their_version_too(server_15: Conninfo, server_18: Conninfo):
    for info, major in ((server_15, 15), (server_18, 18)):
        with open_session(info, application_name="test") as session:
            assert session.server_version.major == major


# Sessions


def test_a_session_answers_and_is_ended(shop: Database):
    with open_session(parse_url(shop.url), application_name="asker") as session:
        assert session.ask("SELECT count(*) FROM orders") == 500
        assert session.ask("SELECT %s || 'b'", "a") == "ab"
        assert session.ask("SET application_name = 'other'") is None
    with pytest.raises(psycopg2.InterfaceError):
        session.ask("SELECT 1")


def test_a_session_that_gets_no_answer_does_not_wait_for_ever(
    shop: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection_module, "_ANSWER_TIMEOUT", 0.3)
    with (
        open_session(parse_url(shop.url), application_name="asker") as session,
        pytest.raises(psycopg2.OperationalError, match="no answer"),
    ):
        session.ask("SELECT pg_sleep(60)")


def test_a_host_that_takes_long_to_accept_is_waited_for():
    with ExitStack() as opened:
        full = opened.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # more than it has room for: whatever follows is dropped
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        info = parse_url(f"postgresql://u:p@127.0.0.1:{full.getsockname()[1]}/shop")
        with (
            pytest.raises(ConnectError) as refused,
            open_session(info, application_name="asker", patience=0.6),
        ):
            pass
    assert "no answer within 0.6 s" in refused.value.detail


def test_a_session_refused_is_told_like_a_connection(shop: Database):
    wrong = shop.url.replace(shop.name, "nowhere_at_all")
    with (
        pytest.raises(ConnectError) as refused,
        open_session(parse_url(wrong), application_name="asker"),
    ):
        pass
    assert "does not exist" in refused.value.detail
    assert refused.value.hint


# Sessions that are ended

MINE = "backstop backup_2026-01-01T00-00-00-000Z.dump"
OTHER = "backstop backup_2026-01-01T00-00-00-001Z.dump"


def lives(connection: psycopg2.extensions.connection) -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.OperationalError:
        return False
    return True


def test_only_sessions_of_that_name_database_and_role_are_ended(
    shop: Database,
    server: Conninfo,
    new_database: Callable[..., Database],
    new_role: Callable[..., Role],
):
    info, elsewhere = parse_url(shop.url), new_database()
    role = new_role(password=SECRET)
    with ExitStack() as stack:

        def session(of: Conninfo, name: str) -> psycopg2.extensions.connection:
            opened = psycopg2.connect(of.dsn(application_name=name), password=of.password)
            return stack.enter_context(closing(opened))

        ended = [session(info, MINE), session(info, MINE)]
        kept = [
            session(info, OTHER),
            session(info, "backstop"),
            session(info, MINE[:-1]),
            session(info, MINE.upper()),
            session(parse_url(elsewhere.url), MINE),
            session(signed_in_as(role, info), MINE),
        ]
        assert end_sessions(info, MINE) == 2
        assert [lives(each) for each in ended] == [False, False]
        assert [lives(each) for each in kept] == [True] * len(kept)
        assert end_sessions(info, MINE) == 0
        assert end_sessions(info, "%") == 0


def test_a_session_that_waits_for_a_lock_is_ended_too(shop: Database):
    info = parse_url(shop.url)
    waits = "SELECT wait_event_type FROM pg_stat_activity WHERE application_name = %s"
    with (
        closing(psycopg2.connect(shop.url)) as holder,
        open_session(info, application_name=MINE) as waiting,
    ):
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        waiting.begin("SELECT count(*) FROM orders")
        deadline = time.monotonic() + 20
        while shop.run(waits, MINE) != [("Lock",)]:
            waiting.poll()
            assert time.monotonic() < deadline
        assert end_sessions(info, MINE) == 1
        with pytest.raises(psycopg2.Error):
            waiting.wait()


def test_sessions_of_a_server_that_is_away_cannot_be_ended():
    with pytest.raises(ConnectError):
        end_sessions(parse_url("postgresql://u:p@127.0.0.1:1/shop"), MINE)
