"""Databases of every kind are backed up, read back and told of in their manifest."""

import json
import os
import secrets
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from flask import Flask

from app.errors import ConfigurationError, ConnectError
from app.extensions import db
from app.models import DatabaseBackup, Trigger
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.embedded import cluster
from app.postgres.embedded.accounts import account_for
from app.postgres.inspection import inspect
from app.postgres.poolers import refuse_shared_sessions
from app.services.backups import manifests
from app.services.backups import service as backups
from app.services.databases.configured import storage
from app.services.proofs import records as proofs
from tests.conftest import Database, url_of
from tests.servers import a_pooler, a_server, programs


@pytest.fixture
def encoded(server: Conninfo) -> Iterator[Callable[[str], Database]]:
    """Make databases with an encoding of their own."""
    admin, made = Database("postgres", url_of(server, "postgres")), []

    def make(encoding: str) -> Database:
        name = f"encoded_{secrets.token_hex(4)}"
        made.append(name)
        admin.run(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
            " STRATEGY file_copy"
        )
        return Database(name, url_of(server, name))

    yield make
    for name in made:
        admin.run(f"DROP DATABASE {name} WITH (FORCE)")


def backed_up(app: Flask) -> DatabaseBackup:
    with app.app_context():
        made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
        assert made.is_completed, (made.error_message, made.error_detail)
        (read,) = proofs.list_proofs(made.id)
        assert (read.evidence["differences"], read.evidence["uncounted"]) == ([], [])
        assert manifests.read_manifest(storage().manifest(made.filename))
        assert made.contents
        db.session.expunge(made)
        return made


@pytest.mark.parametrize(
    ("encoding", "name"), [("LATIN1", "Größe"), ("EUC_JP", "日本"), ("WIN1252", "preis €")]
)
def test_names_beyond_ascii_in_any_encoding(
    encoding: str, name: str, encoded: Callable, make_app: Callable[..., Flask]
):
    database = encoded(encoding)
    database.run(f'CREATE TABLE "{name}" (id serial, "{name}" text)')
    database.run(f"INSERT INTO \"{name}\" SELECT n, '{name}' FROM generate_series(1, 7) n")
    made = backed_up(make_app(database_url=database.url))
    assert made.contents["encoding"] == encoding
    assert [(each["name"], each["rows"]) for each in made.contents["tables"]] == [(name, 7)]
    assert [each["name"] for each in made.contents["sequences"]] == [f"{name}_id_seq"]


def test_bytes_that_fit_no_encoding(encoded: Callable, make_app: Callable[..., Flask]):
    """SQL_ASCII takes any: they are kept, and written as what can be read again."""
    database = encoded("SQL_ASCII")
    role = f"r\xf4le_{secrets.token_hex(4)}".encode("latin1")
    with closing(psycopg2.connect(database.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(b'CREATE TABLE "gr\xf6\xdfe" (id serial, word text)')
        cursor.execute(b"INSERT INTO \"gr\xf6\xdfe\" (word) VALUES ('\xff'), ('b')")
        cursor.execute(b'CREATE ROLE "' + role + b'"')
        cursor.execute(b'ALTER TABLE "gr\xf6\xdfe" OWNER TO "' + role + b'"')
        try:
            made = backed_up(make_app(database_url=database.url))
        finally:
            cursor.execute(b'ALTER TABLE "gr\xf6\xdfe" OWNER TO CURRENT_USER')
            cursor.execute(b'DROP ROLE "' + role + b'"')
    (table,) = made.contents["tables"]
    assert table["name"].encode("utf-8", "surrogateescape") == b"gr\xf6\xdfe"
    assert table["rows"] == 2
    assert json.dumps(made.contents)


@pytest.mark.parametrize("setting", ["default_transaction_read_only", "quote_all_identifiers"])
def test_settings_of_the_database_are_not_ours(
    setting: str, shop: Database, make_app: Callable[..., Flask]
):
    plain = backed_up(make_app(database_url=shop.url)).contents
    shop.run(f'ALTER DATABASE "{shop.name}" SET {setting} = on')
    found = backed_up(make_app(database_url=shop.url)).contents
    assert found["owned"] == plain["owned"]
    assert found["tables"] == plain["tables"]


def test_another_database_than_the_one_that_is_shown_is_not_backed_up(
    shop: Database, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
):
    """libpq takes PGDATABASE where the URL has no name: so do we, and show it."""
    monkeypatch.setenv("PGDATABASE", shop.name)
    url = shop.url.replace(f"/{shop.name}?", "/?")
    made = backed_up(make_app(database_url=url))
    assert made.database == shop.name


# What stands between us and the server


@pytest.fixture
def pooler(server: Conninfo, shop: Database, passable_dir: Path) -> Iterator[Callable[[str], str]]:
    """A pgbouncer in front of the shop, in the mode that is asked for; returns its URL."""
    with ExitStack() as running:

        def make(mode: str) -> str:
            folder = passable_dir / secrets.token_hex(3)
            info = running.enter_context(a_pooler(server, shop.name, mode, folder))
            return url_of(info, shop.name)

        yield make


def test_a_pooler_in_transaction_mode_is_refused(
    pooler: Callable[[str], str], make_app: Callable[..., Flask]
):
    url = pooler("transaction")
    assert inspect(parse_url(url)).is_pooled
    with make_app(database_url=url).app_context():
        made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
        assert "transaction mode" in made.error_message
        assert "session mode" in made.error_hint


def test_a_pooler_in_session_mode_is_taken(
    pooler: Callable[[str], str], make_app: Callable[..., Flask]
):
    url = pooler("session")
    refuse_shared_sessions(parse_url(url))
    backed_up(make_app(database_url=url))


def test_a_server_itself_is_no_pooler(shop: Database):
    assert not inspect(parse_url(shop.url)).is_pooled
    refuse_shared_sessions(parse_url(shop.url))


def test_a_server_whose_words_are_not_utf_8_is_an_error_of_the_server_s():
    said = b"SFATAL\0VFATAL\0C28000\0MDas Kennwort ist ung\xfcltig\0\0"

    def answer(listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:  # nobody asks any more
                return
            with peer:
                length = struct.unpack("!I", peer.recv(4))[0]
                if length == 8:  # it asks for encryption
                    peer.recv(4)
                    peer.sendall(b"N")
                    length = struct.unpack("!I", peer.recv(4))[0]
                peer.recv(length)
                peer.sendall(b"E" + struct.pack("!I", len(said) + 4) + said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=answer, args=(listener,), daemon=True)
        answering.start()
        port = listener.getsockname()[1]
        with pytest.raises(ConnectError, match="no connection") as told:
            inspect(parse_url(f"postgresql://u:secret@127.0.0.1:{port}/x?gssencmode=disable"))
        assert "secret" not in told.value.in_words()
        listener.shutdown(socket.SHUT_RDWR)
        answering.join()


def test_a_name_of_libpq_s_own_is_refused():
    with pytest.raises(ConfigurationError):
        parse_url("postgresql:///?service=shop")


@pytest.mark.slow
def test_a_standby_is_backed_up_without_the_rows_of_unlogged_tables(
    passable_dir: Path, make_app: Callable[..., Flask]
):
    """They are on the primary alone, and pg_dump leaves them out of a standby's dump."""
    home = passable_dir / secrets.token_hex(3)
    settings = ("wal_level = replica", "max_wal_senders = 4", "fsync = off")
    with a_server(15, home, *settings) as primary:
        first = Database("postgres", url_of(primary, "postgres"))
        first.run(
            "CREATE UNLOGGED TABLE quick AS SELECT 1 AS n; CREATE TABLE kept AS SELECT 2 AS n"
        )
        with a_standby(primary, home) as standby:
            made = backed_up(make_app(database_url=url_of(standby, "postgres")))
            assert [each["name"] for each in made.contents["tables"]] == ["kept"]


@contextmanager
def a_standby(primary: Conninfo, home: Path) -> Iterator[Conninfo]:
    folder, account = programs(15), account_for(home / "data")
    data, sockets = home / "standby", cluster.make_socket_folder(account)
    ids = [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
    as_account = ["setpriv", *ids] if account.uid != os.geteuid() else []
    home.chmod(0o777)
    try:
        subprocess.run(
            [*as_account, folder / "pg_basebackup", "-D", data, "-R", "-c", "fast", "-d",
             primary.dsn()], check=True, env=os.environ | {"PGPASSWORD": primary.password},
        )  # fmt: skip
        subprocess.run(
            [*as_account, folder / "pg_ctl", "start", "-w", "-s", "-D", data, "-l", home / "l2",
             "-o", f"-k {sockets} -c listen_addresses= -c hot_standby=on"], check=True,
        )  # fmt: skip
        yield replace(primary, parameters={**primary.parameters, "host": str(sockets)})
    finally:
        subprocess.run(
            [*as_account, folder / "pg_ctl", "stop", "-s", "-m", "immediate", "-D", data],
            check=False,
        )
        cluster.remove_socket_folder(sockets)
