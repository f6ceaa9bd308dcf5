"""A real PostgreSQL behind a real sshd, both on loopback."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg2
import pytest

from app.errors import ConfigurationError, ConnectError, DumpError, ToolError
from app.postgres import tunnel as tunnel_module
from app.postgres.connection import connect
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.ssh_host import SshHost, fingerprint
from app.postgres.tools import Toolchain
from app.postgres.tunnel import tunnel
from tests.conftest import Database
from tests.postgres.conftest import encrypted_server, make_dump, wait_until
from tests.sshd import Sshd, an_sshd, new_key

ROOT = Path(__file__).resolve().parents[2]

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


@pytest.fixture(autouse=True)
def folder_for_sockets(passable_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For these tests alone."""
    folder = passable_dir / "tunnels"
    folder.mkdir(mode=0o711, exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with an_sshd(tmp_path / "sshd") as started:
        yield started


@pytest.fixture
def encrypted(passable_dir: Path) -> Iterator[Conninfo]:
    with encrypted_server(passable_dir) as info:
        yield info


def refusal(ssh: SshHost, info: Conninfo, patience: float = 20) -> ConnectError:
    with pytest.raises(ConnectError) as refused, tunnel(ssh, info, patience=patience):
        pass
    assert tunnels() == []
    return refused.value


def tunnels() -> list[psutil.Process]:
    """The programs of ssh that this process runs."""
    return [child for child in psutil.Process().children() if child.name() == "ssh"]


def folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("backstop-tunnel-*"))


def at(host: str, port: int, **others: str) -> Conninfo:
    return Conninfo(
        {"host": host, "port": str(port), "user": "ann", "dbname": "shop"} | others,
        "secret-word",
        server=f"{host}:{port}",
    )


def answer(info: Conninfo, sql: str) -> object:
    with connect(info, application_name="test") as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()[0][0]


# The way


def test_a_dump_is_made_through_a_tunnel(
    sshd: Sshd, shop: Database, own_toolchain: Toolchain, tmp_path: Path
):
    info = parse_url(shop.url)
    with tunnel(sshd.address, info) as through:
        assert (through.server, through.password) == (info.server, info.password)
        make_dump(own_toolchain, through, tmp_path / "a.dump")
    listed = subprocess.run(
        [own_toolchain.pg_restore, "-f", "-", tmp_path / "a.dump"], capture_output=True, check=True
    )
    assert b"customer 50" in listed.stdout


def test_nothing_is_left_afterwards(sshd: Sshd, shop: Database):
    descriptors = psutil.Process().num_fds()
    with tunnel(sshd.address, parse_url(shop.url)):
        [process] = tunnels()
        assert folders()
    assert not psutil.pid_exists(process.pid)
    assert folders() == []
    assert psutil.Process().num_fds() == descriptors


def test_no_other_user_can_open_the_socket(sshd: Sshd, shop: Database):
    with tunnel(sshd.address, parse_url(shop.url)) as through:
        folder = Path(through.parameters["host"])
        assert folder.stat().st_mode & 0o777 == 0o700
        [process] = tunnels()
        assert process.net_connections("tcp")  # to sshd
        assert all(line.status != psutil.CONN_LISTEN for line in process.net_connections("tcp"))


def test_variables_of_libpq_lead_nowhere_else(
    sshd: Sshd, shop: Database, monkeypatch: pytest.MonkeyPatch
):
    info = parse_url(shop.url)
    with tunnel(sshd.address, info) as through, monkeypatch.context() as changed:
        for name, value in {"PGHOSTADDR": "127.0.0.1", "PGPORT": "1", "PGHOST": "x"}.items():
            changed.setenv(name, value)
        assert answer(through, "SELECT current_database()") == shop.name


def test_the_configuration_of_the_user_is_not_read(
    sshd: Sshd, shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with tunnel(sshd.address, parse_url(shop.url)):
        [process] = tunnels()
        assert "SSH_AUTH_SOCK" not in process.environ()
        words = process.cmdline()
    assert words[words.index("-F") + 1] == "none"
    assert "BatchMode=yes" in words
    assert "StrictHostKeyChecking=yes" in words


def test_tls_and_the_name_of_the_server_are_verified(sshd: Sshd, encrypted: Conninfo):
    named = {
        "host": "localhost",
        "hostaddr": encrypted.parameters["host"],
        "sslmode": "verify-full",
        "sslrootcert": str(answer(encrypted, "SHOW ssl_cert_file")),
    }
    info = replace(encrypted, parameters={**encrypted.parameters, **named})
    with tunnel(sshd.address, info) as through:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert answer(through, query) is True
        other = replace(through, parameters={**through.parameters, "host": "other.example"})
        with pytest.raises(ConnectError) as refused:
            answer(other, "SELECT 1")
        assert "does not match host name" in refused.value.detail
    plain = replace(info, parameters={**info.parameters, "sslmode": "disable"})
    with tunnel(sshd.address, plain) as through:
        assert through.parameters["host"].startswith("/")
        assert answer(through, query) is False


def test_only_our_own_programs_can_use_the_port_that_tls_needs(
    sshd: Sshd, encrypted: Conninfo, tmp_path: Path
):
    with tunnel(sshd.address, encrypted) as through:
        port = int(through.parameters["port"])
        script = (
            "import socket, sys, time\n"
            f"line = socket.create_connection(('127.0.0.1', {port}))\n"
            "line.sendall(bytes.fromhex('0000000804d21630'))\n"
            f"open({str(tmp_path / 'said')!r}, 'wb').write(b'[' + line.recv(1) + b']')\n"
        )
        asks = [sys.executable, "-I", "-S", "-c", script]
        subprocess.run(asks, check=True)
        assert (tmp_path / "said").read_bytes() in (b"[G]", b"[N]")
        (tmp_path / "said").unlink()
        # A process whose parent has ended is no child of ours any more.
        subprocess.run(["/bin/sh", "-c", '"$@" &', "sh", *asks], check=True)
        wait_until((tmp_path / "said").exists, "the stranger was answered")
        wait_until((tmp_path / "said").read_bytes, "the answer is written")
        assert (tmp_path / "said").read_bytes() == b"[]"


@pytest.mark.parametrize("mode", ["require", "disable"])
def test_the_server_logs_nothing_about_the_way(sshd: Sshd, encrypted: Conninfo, mode: str):
    info = replace(encrypted, parameters={**encrypted.parameters, "sslmode": mode})
    log = Path(str(answer(info, "SHOW data_directory"))).with_name("log")
    before = log.read_text()
    for _ in range(5):
        with tunnel(sshd.address, info) as through:
            answer(through, "SELECT 1")
    assert log.read_text() == before


def test_a_session_that_stays_open_does_not_keep_the_tunnel(
    sshd: Sshd, encrypted: Conninfo, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tunnel_module, "_END_PATIENCE", 0.1)
    for mode in ("require", "disable"):
        info = replace(encrypted, parameters={**encrypted.parameters, "sslmode": mode})
        with ExitStack() as sessions:
            with tunnel(sshd.address, info) as through:
                session = sessions.enter_context(connect(through, application_name="test"))
            with session.cursor() as cursor, pytest.raises(psycopg2.OperationalError):
                cursor.execute("SELECT 1")


# What is in the way


def test_a_host_with_another_key_is_refused(sshd: Sshd, shop: Database, tmp_path: Path):
    other = " ".join(new_key(tmp_path / "other").split()[:2])
    error = refusal(replace(sshd.address, host_key=other), parse_url(shop.url))
    assert error.message == f"no SSH connection to {sshd.address}"
    assert f"The host sent {fingerprint(sshd.address.host_key)}." in error.detail
    assert f"The pinned key is {fingerprint(other)}." in error.detail
    assert "another host may pretend" in error.hint
    assert not error.is_passing


def test_a_host_with_a_key_of_another_kind_is_refused(sshd: Sshd, shop: Database, tmp_path: Path):
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", tmp_path / "rsa"], check=True)
    other = " ".join((tmp_path / "rsa.pub").read_text().split()[:2])
    error = refusal(replace(sshd.address, host_key=other), parse_url(shop.url))
    assert "another host may pretend" in error.hint


def test_an_identity_that_the_host_does_not_know_is_refused(sshd: Sshd, shop: Database):
    error = refusal(replace(sshd.address, identity_file=sshd.keys["stranger"]), parse_url(shop.url))
    assert "Permission denied (publickey" in error.detail
    assert "authorized_keys" in error.hint
    assert not error.is_passing


def test_an_identity_with_a_passphrase_is_refused(sshd: Sshd, shop: Database, tmp_path: Path):
    new_key(tmp_path / "locked", passphrase="long enough")
    error = refusal(replace(sshd.address, identity_file=tmp_path / "locked"), parse_url(shop.url))
    assert "without a passphrase" in error.hint or "with a passphrase" in error.hint


def test_an_identity_that_others_can_read_is_refused(sshd: Sshd, shop: Database):
    sshd.keys["identity"].chmod(0o644)
    error = refusal(sshd.address, parse_url(shop.url))
    assert "chmod 600" in error.hint


def test_a_missing_identity_is_named(sshd: Sshd, shop: Database, tmp_path: Path):
    missing = replace(sshd.address, identity_file=tmp_path / "missing")
    with pytest.raises(ConfigurationError) as refused, tunnel(missing, parse_url(shop.url)):
        pass
    assert refused.value.detail == f"{tmp_path}/missing: No such file or directory."


def test_a_host_where_no_sshd_runs_is_unreachable(sshd: Sshd, shop: Database):
    sshd.kill()
    error = refusal(sshd.address, parse_url(shop.url))
    assert "Connection refused" in error.detail
    assert "Does sshd run" in error.hint
    assert error.is_passing


def test_a_host_whose_name_is_unknown_is_unreachable(sshd: Sshd, shop: Database):
    error = refusal(replace(sshd.address, host="nowhere.invalid"), parse_url(shop.url))
    assert "Could not resolve hostname" in error.detail
    assert "this machine can resolve it" in error.hint


def test_a_host_that_never_answers_is_given_up(sshd: Sshd, shop: Database):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        silent = replace(sshd.address, port=deaf.getsockname()[1])
        error = refusal(silent, parse_url(shop.url), patience=0.5)
    assert "no answer" in error.message
    assert error.is_passing


def test_a_database_server_that_never_answers_is_given_up(sshd: Sshd):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        error = refusal(sshd.address, at("127.0.0.1", deaf.getsockname()[1]), patience=2)
    assert "no answer from 127.0.0.1" in error.message
    assert error.is_passing


def test_a_database_server_that_is_down_is_named(sshd: Sshd):
    error = refusal(sshd.address, at("127.0.0.1", 1))
    assert error.message == f"no connection from {sshd.address} to 127.0.0.1:1"
    assert "Connection refused" in error.detail
    assert "as the SSH host sees them" in error.hint
    assert error.is_passing


@pytest.mark.parametrize("is_quicker", [False, True])
@pytest.mark.parametrize("setting", ["PermitOpen none", "AllowTcpForwarding no"])
def test_a_host_that_refuses_to_forward_is_named(
    setting: str, is_quicker: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also one whose refusal is there before we have said a word."""
    connected = tunnel_module._connected

    def connected_and_closed(path: Path) -> socket.socket | None:
        if (line := connected(path)) is not None:
            select.select([line], [], [])
        return line

    if is_quicker:
        monkeypatch.setattr(tunnel_module, "_connected", connected_and_closed)
    with an_sshd(tmp_path / "sshd", setting) as sshd:
        error = refusal(sshd.address, at("127.0.0.1", 1))
    assert "administratively prohibited" in error.detail
    assert "refuses to forward" in error.hint
    assert not error.is_passing


@pytest.mark.parametrize("host", ["", "one,two", "-oProxyCommand=x", "a b", "a]:1:[b", "/a:b"])
def test_a_tunnel_leads_to_one_host(sshd: Sshd, host: str):
    with (
        pytest.raises(ConfigurationError, match="one database server"),
        tunnel(sshd.address, at(host, 5432)),
    ):
        pass


def test_a_machine_without_ssh_is_told_what_to_install(
    sshd: Sshd, shop: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(ToolError, match="ssh was not found") as refused,
        tunnel(sshd.address, parse_url(shop.url)),
    ):
        pass
    assert "openssh-client" in refused.value.hint


def test_a_machine_without_a_folder_for_sockets_is_told_what_to_set(
    sshd: Sshd, shop: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tunnel_module, "_FOLDER", "x" * 99)
    with (
        pytest.raises(ConfigurationError, match="no folder for the socket") as refused,
        tunnel(sshd.address, parse_url(shop.url)),
    ):
        pass
    assert "TMPDIR" in refused.value.hint


def test_whoever_waits_can_stop(sshd: Sshd, shop: Database):
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tunnel(sshd.address, parse_url(shop.url), on_wait=stop):
        pass
    assert tunnels() == []
    assert folders() == []


# While it is used


def test_a_tunnel_that_dies_is_reported(
    sshd: Sshd, shop: Database, own_toolchain: Toolchain, tmp_path: Path
):
    info = parse_url(shop.url)
    shop.run("CREATE TABLE wide AS SELECT repeat(n::text, 1000) FROM generate_series(1, 9999) n")

    def cut(line: str) -> None:
        if "dumping contents" in line:
            sshd.kill()

    with pytest.raises(ConnectError) as lost, tunnel(sshd.address, info) as through:
        make_dump(own_toolchain, through, tmp_path / "a.dump", on_line=cut, compression="none")
    assert lost.value.message == f"the SSH connection to {sshd.address} was lost"
    assert lost.value.detail
    assert isinstance(lost.value.__cause__, DumpError | ConnectError)
    assert lost.value.is_passing
    assert folders() == []


def test_an_error_of_the_database_stays_as_it_is(sshd: Sshd, shop: Database):
    with (
        pytest.raises(psycopg2.errors.DivisionByZero),
        tunnel(sshd.address, parse_url(shop.url)) as through,
    ):
        answer(through, "SELECT 1 / 0")


USE = """
import json, sys
from pathlib import Path
import psutil
from app.postgres.conninfo import Conninfo
from app.postgres.ssh_host import parse_ssh_host
from app.postgres.tunnel import tunnel

address, parameters, password = json.loads(sys.argv[1])
with tunnel(parse_ssh_host(*address), Conninfo(parameters, password)):
    print([child.pid for child in psutil.Process().children() if child.name() == "ssh"][0],
          flush=True)
    sys.stdin.read()
"""


@only_linux
def test_no_ssh_outlives_a_process_that_is_killed(sshd: Sshd, shop: Database):
    info, ssh = parse_url(shop.url), sshd.address
    address = [str(ssh), str(ssh.identity_file), ssh.host_key]
    told = json.dumps([address, dict(info.parameters), info.password])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    user = subprocess.Popen(
        [sys.executable, "-c", USE, told], cwd=ROOT, env=environment, text=True, **pipes
    )
    with user:
        assert user.stdout is not None
        process = psutil.Process(int(user.stdout.readline()))
        assert process.is_running()
        user.send_signal(signal.SIGKILL)
        wait_until(lambda: not runs(process), "ssh ends")
    [left] = folders()
    with tunnel(ssh, info):
        assert left in folders()  # it could be one that is being made
        long_ago = time.time() - 3600
        os.utime(left, (long_ago, long_ago))
    with tunnel(ssh, info):
        assert left not in folders()
        assert len(folders()) == 1


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
