"""The embedded server, as people and processes use it: real ones, no doubles."""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg2
import pytest

from app.errors import ConfigurationError, ConnectError, PostgresError, ToolError
from app.postgres.embedded import EmbeddedServer, cluster, installations, sample

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = Path("/var/lib/backstop")
AS_ROOT = os.geteuid() == 0
PATIENCE = 60  # seconds

as_root = pytest.mark.skipif(not AS_ROOT, reason="only root can take another account")

# The adapter alone, without the application around it: so it is there at once.
ENTER = """
import sys, types
from pathlib import Path
sys.modules["app"] = bare = types.ModuleType("app")
bare.__path__ = ["app"]
from app.postgres.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
"""
HOLD = (
    ENTER
    + """
with server.used():
    print("in", flush=True)
    sys.stdin.read()
"""
)
START = ENTER + "server.start()"
WORK = (
    ENTER
    + """
import psycopg2
for _ in range(6):
    with server.used():
        info = server.conninfo()
        connection = psycopg2.connect(info.dsn(), password=info.password)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM customers")
        connection.close()
"""
)
# Python itself may lie where the account cannot read: all that is needed is imported before.
AS_NOBODY = (
    ENTER
    + """
import os, pwd
nobody = pwd.getpwnam("nobody")
os.setgroups([]), os.setgid(nobody.pw_gid), os.setuid(nobody.pw_uid)
with server.used():
    pid = server.status().pid
    print(os.stat(f"/proc/{pid}").st_uid, server.conninfo().database, server.status().data)
print(server.alive())
"""
)


# Places and people


@contextmanager
def place_of_its_own():
    """A folder for instances that the server's account can enter; nothing stays behind."""
    folder = Path(tempfile.mkdtemp(prefix="backstop-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        for lock in folder.rglob("postgres/lock"):
            EmbeddedServer(lock.parent.parent).stop()
            if elsewhere(lock.parent.parent).exists():
                shutil.rmtree(elsewhere(lock.parent.parent))
                with suppress(OSError):  # another instance's may lie there too
                    ELSEWHERE.rmdir()
        shutil.rmtree(folder)


def elsewhere(instance: Path) -> Path:
    return ELSEWHERE / hashlib.sha256(os.fsencode(instance)).hexdigest()[:16]


@pytest.fixture(scope="module")
def instance():
    """One instance for all tests that leave it as they found it."""
    with place_of_its_own() as folder:
        with EmbeddedServer(folder / "instance").used():
            pass
        yield folder / "instance"


@pytest.fixture
def server(instance):
    """Its server, down, and not on purpose."""
    shared = EmbeddedServer(instance)
    shared._files.note(stopped_on_purpose=False)
    yield shared
    shared.stop()


@pytest.fixture
def place():
    """A folder for instances of the test's own."""
    with place_of_its_own() as folder:
        yield folder


@pytest.fixture
def spare(instance, place):
    """The server of a copy, for tests that spoil it."""
    return EmbeddedServer(copied(instance, place / "spare"))


def copied(instance: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", instance, target], check=True)
    return target


@contextmanager
def process(script: str, *arguments: Path):
    """A Python process that runs the script; killed at the end if it still runs."""
    started = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
    )  # fmt: skip
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def ended_well(started: "subprocess.Popen[str]") -> str:
    output, errors = started.communicate(timeout=PATIENCE)
    assert started.returncode == 0, errors
    return output


def connect(server: EmbeddedServer, **changes: str):
    info = server.conninfo()
    return closing(
        psycopg2.connect(**(dict(info.parameters) | {"password": info.password} | changes))
    )


def ask(server: EmbeddedServer, query: str, database: str = "ecom"):
    with connect(server, dbname=database) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def drop_sample(server: EmbeddedServer) -> None:
    with connect(server, dbname="postgres") as connection:
        connection.autocommit = True
        connection.cursor().execute("DROP DATABASE ecom")


def forget_sample(server: EmbeddedServer) -> None:
    """As if the server had only been initialised."""
    with server.used():
        drop_sample(server)
    server._files.note(has_sample=False)


def kill_postmaster(server: EmbeddedServer) -> None:
    pid = server.status().pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not server.alive())


# Start, stop, status


def test_a_server_that_never_ran_is_down_and_nothing_is_made_by_asking(tmp_path):
    server = EmbeddedServer(tmp_path / "instance")
    status = server.status()
    assert not server.alive()
    assert (status.running, status.pid, status.version, status.socket) == (False, None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_down_says_how_to_start_it(server):
    with pytest.raises(ConnectError) as raised:
        server.conninfo()
    assert "not running" in raised.value.message
    assert "flask server start" in raised.value.hint


def test_start_status_stop(server):
    server.start()
    status = server.status()
    assert status.running
    assert psutil.Process(status.pid).name().startswith("postgres")
    assert ask(server, "SHOW server_version").startswith(status.version)
    assert (status.programs / "pg_ctl").exists()
    assert ask(server, "SHOW data_directory") == str(status.data)
    server.stop()
    assert not server.alive()
    assert server.status().pid is None
    assert not status.socket.exists()


def test_stop_is_no_error_when_nothing_runs(server):
    server.stop()
    server.stop()
    assert server.status().stopped_on_purpose


def test_the_sample_is_there_with_many_rows(server):
    with server.used(), connect(server) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                       " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")  # fmt: skip
        rows = 0
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT count(*) FROM ONLY {table}")
            rows += cursor.fetchone()[0]
        assert rows >= 50_000
        cursor.execute("SELECT datconnlimit FROM pg_database WHERE datname = 'ecom'")
        assert cursor.fetchone() == (-1,)


def test_a_second_start_is_quick_and_changes_nothing(spare):
    began = time.monotonic()
    spare.start()
    assert time.monotonic() - began < 5
    before = spare.status(), ask(spare, "SELECT pg_postmaster_start_time()")
    with connect(spare) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE public.mine (); DROP TABLE public.order_items CASCADE")
        connection.commit()
    began = time.monotonic()
    spare.start()
    assert time.monotonic() - began < 0.5
    assert (spare.status(), ask(spare, "SELECT pg_postmaster_start_time()")) == before
    spare.stop()
    spare.start()
    assert ask(spare, "SELECT to_regclass('public.mine') IS NOT NULL")
    assert ask(spare, "SELECT to_regclass('public.order_items') IS NULL")


def test_a_sample_that_a_person_dropped_is_not_loaded_again(spare):
    with spare.used():
        drop_sample(spare)
    with spare.used():
        assert (
            ask(spare, "SELECT count(*) FROM pg_database WHERE datname = 'ecom'", "postgres") == 0
        )


# Users


def test_the_last_user_stops_the_server_and_an_earlier_one_does_not(server):
    with server.used():
        with server.used():
            assert server.alive()
        assert server.alive()
        assert ask(server, "SELECT 1") == 1
    assert not server.alive()


def test_the_server_stops_though_its_last_user_fails(server):
    with pytest.raises(ZeroDivisionError), server.used():
        raise ZeroDivisionError
    assert not server.alive()


def test_a_server_that_a_person_started_outlives_its_users(server):
    server.start()
    with server.used():
        pass
    assert server.alive()


def test_a_person_can_ask_a_server_in_use_to_stay(server):
    with server.used():
        server.start()
    assert server.alive()


def test_another_process_is_a_user(server, instance):
    with process(HOLD, instance) as other:
        assert other.stdout.readline() == "in\n"
        with server.used():
            pass
        assert server.alive()
        other.stdin.close()
        other.stdin = None
        ended_well(other)
    assert not server.alive()


def test_a_killed_user_does_not_count(server, instance):
    with process(HOLD, instance) as other:
        assert other.stdout.readline() == "in\n"
        with server.used():
            other.kill()
            other.wait()
            assert server.alive()
        assert not server.alive()


def test_a_server_whose_only_user_was_killed_ends_with_the_next_one(server, instance):
    with process(HOLD, instance) as other:
        assert other.stdout.readline() == "in\n"
        other.kill()
        other.wait()
    assert server.alive()
    with server.used():
        pass
    assert not server.alive()


def test_stopped_on_purpose_is_respected_until_somebody_insists(server):
    server.start()
    server.stop()
    with server.used():
        assert not server.alive()
        with pytest.raises(ConnectError, match="not running") as raised:
            server.conninfo()
        assert "on purpose" in raised.value.detail
    with server.used(insist=True):
        assert server.alive()
        assert not server.status().stopped_on_purpose
    assert not server.alive()
    with server.used():
        assert server.alive()


def test_stop_does_not_wait_for_users(server):
    with server.used():
        server.stop()
        assert not server.alive()
    assert server.status().stopped_on_purpose


def test_two_processes_may_start_it_for_the_first_time_at_once(place):
    instance = place / "instance"
    with process(WORK, instance) as one, process(WORK, instance) as other:
        ended_well(one)
        ended_well(other)
    assert not EmbeddedServer(instance).alive()


def test_many_may_come_and_go_at_once(server, instance):
    with (
        process(WORK, instance) as first,
        process(WORK, instance) as second,
        process(WORK, instance) as third,
        process(WORK, instance) as fourth,
    ):
        for each in (first, second, third, fourth):
            ended_well(each)
    assert not server.alive()
    assert server.status().socket is None


# What the server is like


def test_no_port_is_open(server):
    with server.used():
        postmaster = psutil.Process(server.status().pid)
        for each in (postmaster, *postmaster.children()):
            with suppress(psutil.NoSuchProcess):  # a child may end at any time
                assert each.net_connections(kind="inet") == []
        assert ask(server, "SHOW listen_addresses") == ""


@pytest.mark.parametrize("database", ["ecom", "postgres", "template1"])
def test_nobody_gets_in_without_the_password(server, database):
    with server.used():
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            connect(server, password="wrong", dbname=database)
        with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
            connect(server, password="", passfile="/dev/null", dbname=database)


def test_no_line_of_the_server_says_trust(server):
    with server.used():
        methods = ask(server, "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules")
    assert methods == ["scram-sha-256"]


def test_the_socket_lies_in_a_short_private_folder_of_the_servers_account(server):
    with server.used():
        status = server.status()
        folder = status.socket.stat()
        assert folder.st_mode & 0o777 == 0o700
        assert folder.st_uid == psutil.Process(status.pid).uids().real
        assert len(os.fsencode(status.socket / ".s.PGSQL.5432")) < 100
        assert (status.socket / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0


def test_the_socket_goes_elsewhere_where_temporary_folders_have_long_names(
    server, place, monkeypatch
):
    long = place / ("x" * 90)
    long.mkdir(mode=0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with server.used():
        assert server.status().socket.parent == Path("/tmp")  # noqa: S108 - what is fallen back to
    assert list(long.iterdir()) == []


def test_secrets_are_for_us_alone(server, instance):
    with server.used():
        info = server.conninfo()
        for path in (
            instance / "postgres" / "password",
            info.passfile,
            instance / "postgres" / "state.json",
        ):
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.stat().st_uid == os.geteuid()
        assert info.password not in repr(info)
        for each in psutil.process_iter():
            try:
                assert not any(info.password in word for word in each.cmdline())
            except psutil.Error:
                continue


def test_a_person_can_sign_in_with_the_password_file(server):
    with server.used():
        info = server.conninfo()
        with connect(server, password="", passfile=str(info.passfile)) as connection:
            assert connection.info.dbname == "ecom"


def test_settings_of_other_servers_in_the_environment_do_no_harm(server, monkeypatch):
    for name, value in {"PGPORT": "6000", "PGDATA": "/nonexistent", "PGHOST": "nowhere"}.items():
        monkeypatch.setenv(name, value)
    with server.used():
        assert ask(server, "SHOW port") == "5432"


def test_our_settings_are_not_in_the_servers_environment(server, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "canary")
    monkeypatch.setenv("BACKSTOP_ADMIN_PASSWORD", "canary")
    with server.used():
        assert "canary" not in psutil.Process(server.status().pid).environ().values()


def test_a_folder_may_have_any_name(instance, place):
    instance = copied(instance, place / """it's a "$HOME" `büro`, 1""")
    server = EmbeddedServer(instance)
    with server.used():
        assert ask(server, "SELECT count(*) FROM customers") > 0


def test_the_server_outlives_the_command_and_lets_go_of_its_terminal_and_pipes(server, instance):
    with process(START, instance) as command:
        ended_well(command)  # reads both pipes to their end
    assert server.alive()
    pid = server.status().pid
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) not in (os.getpgid(0), command.pid)


# What can go wrong


def test_after_the_server_was_killed_the_next_start_recovers(spare):
    spare.start()
    old_socket = spare.status().socket
    with connect(spare) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE public.kept AS SELECT 1 AS one")
        connection.commit()
    kill_postmaster(spare)
    with spare.used():
        assert ask(spare, "SELECT one FROM public.kept") == 1
        assert not old_socket.exists()
    assert not spare.alive()  # the person's server ended with the kill


def test_a_busy_child_of_a_killed_server_does_not_stand_in_the_way(spare, monkeypatch):
    monkeypatch.setattr(cluster, "_LEFTOVERS_TIMEOUT", 0.2)
    spare.start()
    info = spare.conninfo()
    connection = psycopg2.connect(info.dsn(), password=info.password, async_=1)
    wait_until(lambda: connection.poll() == psycopg2.extensions.POLL_OK)
    connection.cursor().execute(
        "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b"
    )
    connection.poll()
    child = psutil.Process(connection.info.backend_pid)
    wait_until(lambda: child.cpu_times().user > 0.1)
    kill_postmaster(spare)
    assert child.is_running()
    with spare.used():
        assert ask(spare, "SELECT count(*) FROM customers") > 0
        assert not cluster._is_over(psutil.Process(spare.status().pid))
        assert cluster._is_over(child)
    connection.close()


def test_a_process_that_got_the_number_of_a_dead_server_does_not_confuse(server):
    with server.used():
        owner = psutil.Process(server.status().pid).uids().real
        data = server.status().data
        pid_file = (data / "postmaster.pid").read_text()
    with subprocess.Popen(
        ["sleep", "60"], user=owner, group=os.getegid() if not AS_ROOT else data.stat().st_gid
    ) as stranger:
        _, rest = pid_file.split("\n", 1)
        (data / "postmaster.pid").write_text(f"{stranger.pid}\n{rest}")
        try:
            assert not server.alive()
            server.stop()
            assert stranger.poll() is None
            server.start()
            assert server.alive()
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_an_empty_postmaster_pid_does_not_confuse(server):
    (server.status().data / "postmaster.pid").write_text("")
    with server.used():
        assert server.alive()


def test_a_copied_folder_is_an_instance_of_its_own(server, instance, place):
    with server.used():
        copy = EmbeddedServer(copied(instance, place / "copy"))
        assert not copy.alive()
        with copy.used():
            assert copy.status().pid != server.status().pid
            assert copy.status().socket != server.status().socket
        assert server.alive()
        assert ask(server, "SELECT 1") == 1


def test_an_interrupted_initdb_heals(place):
    instance = place / "instance"
    with process(START, instance) as command:
        wait_until(lambda: list(instance.glob("postgres/partial-*/PG_VERSION")))
        command.kill()
        command.wait()
    assert not (instance / "postgres" / "data").exists()
    server = EmbeddedServer(instance)
    with server.used():
        assert ask(server, "SELECT count(*) FROM customers") > 0
    with server.used():
        assert list(instance.glob("postgres/partial-*")) == []


def test_an_interrupted_sample_heals(spare):
    forget_sample(spare)

    def is_loading():
        try:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'ecom'"
            return ask(spare, query, "postgres")
        except (ConnectError, psycopg2.OperationalError):
            return False

    with process(START, spare.status().data.parents[1]) as command:
        wait_until(is_loading)
        command.kill()
        command.wait()
    with spare.used():
        assert ask(spare, "SELECT count(*) FROM customers") > 0
        assert ask(spare, "SELECT datconnlimit FROM pg_database WHERE datname = 'ecom'") == -1


def test_a_sample_that_cannot_be_loaded_is_told_and_nothing_stays_up(spare, monkeypatch, tmp_path):
    forget_sample(spare)
    (tmp_path / "sample.sql").write_text("CREATE TABLE half (); SELECT no_such_thing()")
    with monkeypatch.context() as broken:
        broken.setattr(sample, "_SQL", tmp_path / "sample.sql")
        with pytest.raises(PostgresError, match="sample") as raised:
            spare.start()
    assert "no_such_thing" in raised.value.detail
    assert not spare.alive()
    with spare.used():
        assert ask(spare, "SELECT count(*) FROM customers") > 0


def test_a_failed_start_tells_the_last_lines_of_the_log(spare):
    with (spare.status().data / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = on\n")
    with pytest.raises(ToolError) as raised:
        spare.start()
    assert "no_such_setting" in raised.value.detail
    assert "log" in raised.value.hint
    assert not spare.alive()
    assert spare._files.state.socket == ""


def test_a_lost_password_is_made_anew(server, instance):
    (instance / "postgres" / "password").unlink()
    with server.used():
        assert ask(server, "SELECT count(*) FROM customers") > 0


def test_a_large_log_begins_anew(server, instance):
    log = instance / "postgres" / "log"
    log.write_bytes(b"old\n" * 300_000)
    with server.used():
        assert b"old" not in log.read_bytes()
        assert b"ready to accept connections" in log.read_bytes()


# Programs


def test_without_the_wheel_the_hosts_programs_serve(place, monkeypatch):
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and not os.environ.get("CI"):
        pytest.skip("no PostgreSQL server of the host in /usr/lib/postgresql")
    server = EmbeddedServer(place / "instance")
    with monkeypatch.context() as without_wheel:
        without_wheel.setattr(installations, "wheel_bin_dir", None)
        with server.used():
            version = ask(server, "SHOW server_version").split()[0]
            assert server.status().version == version
            assert server.status().programs.is_relative_to("/usr/lib/postgresql")
            assert ask(server, "SELECT count(*) FROM customers") > 0
    with server.used():  # the wheel is back, but the data decides
        assert server.status().version == version


def test_neither_wheel_nor_host_is_one_error_that_says_what_to_install(place, monkeypatch):
    monkeypatch.setattr(installations, "wheel_bin_dir", None)
    monkeypatch.setattr(installations, "FOLDERS", ())
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(ConfigurationError) as raised:
        EmbeddedServer(place / "instance").start()
    assert "no programs" in raised.value.message
    for word in ("apt install postgresql", "brew install postgresql", "DATABASE_URL"):
        assert word in raised.value.hint


def test_data_of_a_version_without_programs_is_an_error_that_names_both(spare):
    (spare.status().data / "PG_VERSION").write_text("99\n")
    with pytest.raises(ConfigurationError) as raised:
        spare.start()
    assert "99" in raised.value.message
    assert any(f"{major}." in raised.value.detail for major in (15, 16, 17, 18))
    assert "99" in raised.value.hint


# Accounts


@as_root
def test_as_root_it_runs_under_an_unprivileged_account(server, instance):
    with server.used():
        status = server.status()
        owner = psutil.Process(status.pid)
        assert owner.username() in ("postgres", "nobody")
        assert owner.gids().real != 0
        assert status.data.stat().st_uid == owner.uids().real
        assert status.data == instance / "postgres" / "data"
        assert (instance / "postgres").stat().st_mode & 0o777 == 0o711


@as_root
def test_in_roots_closed_checkout_data_and_programs_lie_elsewhere(place, monkeypatch):
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    instance = closed / "instance"
    if installations.wheel_bin_dir is not None:
        wheel = Path(installations.wheel_bin_dir())
        subprocess.run(["cp", "-a", wheel.parent, closed / "pginstall"], check=True)
        (closed / "pginstall" / "share").chmod(0o700)  # as pip does under umask 077
        monkeypatch.setattr(installations, "wheel_bin_dir", lambda: str(closed / "pginstall/bin"))
    server = EmbeddedServer(instance)
    with server.used():
        assert ask(server, "SELECT count(*) FROM customers") > 0
        assert server.status().data == elsewhere(instance) / "data"
        if installations.wheel_bin_dir is not None:
            assert server.status().programs.is_relative_to(elsewhere(instance))
    assert closed.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(instance)  # and with it the password
    for copy in elsewhere(instance).glob("programs-*"):
        copy.rename(copy.with_name("programs-0.1"))  # as before an update of the wheel
    with server.used():
        assert not (elsewhere(instance) / "programs-0.1").exists()
        assert server.status().data == elsewhere(instance) / "data"
        assert ask(server, "SELECT count(*) FROM customers") > 0


@as_root
def test_an_ordinary_user_runs_it_as_themselves(place):
    instance = place / "instance"
    instance.mkdir(mode=0o711)
    shutil.chown(instance, "nobody")
    with process(AS_NOBODY, instance) as user:
        uid, database, data, alive = ended_well(user).split()
    assert int(uid) == pwd.getpwnam("nobody").pw_uid
    assert (database, data, alive) == ("ecom", str(instance / "postgres" / "data"), "False")
    server = EmbeddedServer(instance)
    with server.used():  # root helps out, and the folder stays the user's
        assert psutil.Process(server.status().pid).uids().real == int(uid)
    assert {path.stat().st_uid for path in (instance / "postgres").iterdir()} == {int(uid)}


@as_root
def test_files_of_somebody_else_are_told_as_such(instance):
    with process(AS_NOBODY, instance) as user:
        _, errors = user.communicate(timeout=PATIENCE)
    assert user.returncode != 0
    assert "ConfigurationError: the embedded PostgreSQL server's files cannot be used" in errors
