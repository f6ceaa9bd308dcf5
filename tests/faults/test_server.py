"""The server ends sessions, stops, locks, is full, or changes under a running backup."""

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
import pytest

from app.postgres.conninfo import Conninfo
from app.postgres.embedded import cluster, installations
from app.postgres.embedded.accounts import account_for
from app.postgres.embedded.cluster import Cluster
from tests.conftest import SMALL_SHOP, Database, url_of
from tests.faults.lab import PATIENCE, Lab, log_of, wait_until
from tests.faults.middle import DUMPING, HOLDER, failed, locked, locked_table, told, waiting_backup
from tests.postgres.conftest import Role, new_role
from tests.servers import a_server, programs

__all__ = ["new_role"]

pytestmark = pytest.mark.faults


def test_pg_dump_whose_session_is_ended_fails_with_the_reason(lab: Lab):
    with locked(lab.database):
        create = waiting_backup(lab)
        lab.server.run(f"SELECT pg_terminate_backend(pid) FROM ({DUMPING}) x")
        row = failed(lab, create)
    assert "terminating connection" in told(row)
    assert row.error_hint
    lab.check()


def test_a_run_fails_whose_lock_and_snapshot_were_lost_although_pg_dump_succeeds(lab: Lab):
    with locked(lab.database) as locker:
        create = waiting_backup(lab)
        ended = lab.server.run(f"SELECT pg_terminate_backend(pid) FROM ({HOLDER}) x")
        assert len(ended) == 1
        locker.release()
        row = failed(lab, create)
    assert row.error_message == "the connection that holds the lock was lost"
    assert row.error_hint
    lab.check()


def test_a_lock_that_stays_is_told_and_its_holder_is_not_disturbed(lab: Lab):
    with locked_table(lab.database) as locker:
        create = waiting_backup(lab, BACKSTOP_LOCK_TIMEOUT="1")
        row = failed(lab, create)
        assert locker.works_on()
    assert row.error_message == "a table stayed locked for longer than 1 s"
    assert "pg_stat_activity" in row.error_hint
    lab.check()


def test_a_lock_among_many_tables_is_told_as_well(make_lab: Callable[..., Lab]):
    # pg_dump names every table in its error; the reason comes first and must not be cut off.
    lab = make_lab(
        "CREATE TABLE orders (id int);"
        "DO $$ BEGIN FOR n IN 1..300 LOOP"
        " EXECUTE 'CREATE TABLE a_table_with_a_long_name_' || n || ' (id int)'; END LOOP; END $$"
    )
    with locked_table(lab.database):
        row = failed(lab, waiting_backup(lab, BACKSTOP_LOCK_TIMEOUT="1"))
    assert row.error_message == "a table stayed locked for longer than 1 s", told(row)
    lab.check()


def test_a_table_that_is_changed_or_dropped_meanwhile_makes_no_half_backup(lab: Lab):
    for change in (
        "ALTER TABLE orders ADD COLUMN more int DEFAULT 7",
        "DROP TABLE orders; CREATE TABLE orders (id int)",
    ):
        with locked_table(lab.database) as locker:
            create = waiting_backup(lab)
            with locker.connection.cursor() as cursor:
                cursor.execute(change)
            locker.release()
            create.wait(PATIENCE)
        row = lab.rows()[max(lab.rows())]
        assert (create.returncode, row.is_completed) == (0, True), log_of(create)
        lab.check()


@pytest.mark.parametrize(
    "change", ["DROP DATABASE {0} WITH (FORCE)", "ALTER DATABASE {0} RENAME TO {0}_away"]
)
def test_a_database_that_goes_away_meanwhile_fails_the_run_and_may_come_back(
    make_lab: Callable[..., Lab], change: str
):
    lab = make_lab()
    name = lab.database.name
    with locked(lab.database):
        create = waiting_backup(lab)
        others = "pg_stat_activity WHERE datname = %s"
        if "RENAME" in change:  # it is refused while anybody is connected
            lab.server.run(f"SELECT pg_terminate_backend(pid) FROM {others}", name)
            wait_until(lambda: not lab.server.run(f"SELECT FROM {others}", name), "sessions")
        lab.server.run(change.format(name))
    row = failed(lab, create)
    assert row.error_message
    assert row.error_hint
    gone = lab.flask("backup", "create")
    assert gone.returncode == 1
    assert f'database "{name}" does not exist' in gone.stderr
    assert "Hint: " in gone.stderr
    if "RENAME" in change:
        lab.server.run(f"ALTER DATABASE {name}_away RENAME TO {name}")
    else:
        lab.server.run(f"CREATE DATABASE {name}")
    lab.check()


@pytest.mark.parametrize("limit", [0, 1])
def test_a_role_without_a_connection_left_is_told(
    lab: Lab, server: Conninfo, new_role: Callable[..., Role], limit: int
):
    """With none left for the snapshot, and with one left but none for pg_dump."""
    role = new_role("IN ROLE pg_read_all_data CONNECTION LIMIT 10")
    lab.server.run(f"ALTER ROLE {role.name} CONNECTION LIMIT {limit}")
    url = url_of(server, lab.database.name, role.name, role.password)
    row = failed(lab, lab.start("backup", "create", DATABASE_URL=url))
    assert "too many connections" in told(row)
    assert "CONNECTION LIMIT of that role" in row.error_hint
    lab.check()


# A server that may be stopped


@dataclass
class OwnServer:
    """A server of a test's own; its sockets stay where they are."""

    cluster: Cluster
    sockets: Path
    admin: Database

    def stop_at_once(self) -> None:
        found = cluster.find_postmaster(self.cluster.data)
        assert found is not None
        found.process.send_signal(signal.SIGQUIT)
        wait_until(lambda: cluster.find_postmaster(self.cluster.data) is None, "the server's end")

    def start(self) -> None:
        cluster.clear_remains(self.cluster.data)
        self.cluster.start(self.sockets)


@contextmanager
def an_own_server(home: Path, **settings: int) -> Iterator[OwnServer]:
    """A new server with these settings; `home` must not be there yet."""
    with a_server(17, home) as info:
        account = account_for(home / "data")
        installation = installations._installation(programs(17), account)
        if installation is None:  # a_server has made a copy for the account
            (program,) = home.glob("*/**/bin/postgres")
            installation = installations._installation(program.parent, account)
        assert installation is not None
        made = Cluster(home / "data", home / "log", installation, account)
        sockets = Path(info.parameters["host"])
        own = OwnServer(made, sockets, Database("postgres", url_of(info, "postgres")))
        for name, value in settings.items():
            own.admin.run(f"ALTER SYSTEM SET {name} = {value}")
        own.stop_at_once()
        own.start()
        yield own


@pytest.fixture(scope="module")
def own_server(passable_dir: Path) -> Iterator[OwnServer]:
    """A server that may be stopped, and that has little room."""
    room = {"max_connections": 12, "max_locks_per_transaction": 10}
    with an_own_server(passable_dir / "faults", **room) as own:
        yield own


@pytest.fixture(scope="module")
def own_lab(
    own_server: OwnServer, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A panel whose database lies on the server that may be stopped."""
    own_server.admin.run("CREATE DATABASE shop")
    shop = Database("shop", own_server.admin.url.replace("/postgres?", "/shop?"))
    shop.run(SMALL_SHOP)
    folder = tmp_path_factory.mktemp("own")
    (folder / "instance").mkdir()
    shutil.copy(sqlite_template, folder / "instance" / "catalogue.db")
    lab = Lab(folder, shop, own_server.admin)
    yield lab
    lab.close()


def test_a_server_that_stops_at_once_fails_the_run_and_comes_back(
    own_lab: Lab, own_server: OwnServer
):
    with locked(own_lab.database):
        create = waiting_backup(own_lab)
        own_server.stop_at_once()
        row = failed(own_lab, create)
    assert row.error_hint, told(row)
    down = own_lab.flask("backup", "create")
    assert down.returncode == 1
    assert "Is the server running" in down.stderr
    own_server.start()
    own_lab.check()


def test_a_backend_that_crashes_takes_all_sessions_and_the_run_with_it(own_lab: Lab):
    """As after the kernel's out-of-memory killer: the server restarts all its sessions."""
    with locked(own_lab.database):
        create = waiting_backup(own_lab)
        ((pid,),) = own_lab.server.run(DUMPING)
        psutil.Process(pid).kill()
        row = failed(own_lab, create)
    assert row.error_hint, told(row)
    wait_until(lambda: can_be_asked(own_lab.server), "the server to recover")
    own_lab.check()


def can_be_asked(server: Database) -> bool:
    try:
        return bool(server.run("SELECT 1"))
    except psycopg2.OperationalError:
        return False


def test_a_server_without_a_connection_left_is_told(own_lab: Lab, own_server: OwnServer):
    taken = []
    with ExitStack() as stack:
        try:
            while True:
                taken.append(psycopg2.connect(own_server.admin.url))
                stack.enter_context(closing(taken[-1]))
        except psycopg2.OperationalError as error:
            full = str(error)
        assert "too many clients" in full
        for left in (0, 1):  # none for the snapshot, then none for pg_dump
            for each in taken[:left]:
                each.close()
            wait_until(lambda left=left: can_be_asked(own_server.admin) == bool(left), "a place")
            row = failed(own_lab, own_lab.start("backup", "create"))
            assert "too many clients" in told(row)
            assert "no connection left" in row.error_hint
    own_lab.check()


def in_batches(database: Database, statement: str) -> None:
    """Run a statement for 3000 tables, n in each; a transaction has room for few."""
    for first in range(0, 3000, 50):
        database.run(
            f"DO $$ BEGIN FOR n IN {first} .. {first + 49} LOOP"
            f" EXECUTE format('{statement}', n); END LOOP; END $$"
        )


def test_more_tables_than_the_server_has_locks_for_is_told(own_lab: Lab):
    in_batches(own_lab.database, "CREATE TABLE many_%s (id int)")
    row = failed(own_lab, own_lab.start("backup", "create"))
    assert "too few locks for 3002 tables" in told(row)
    assert "max_locks_per_transaction" in row.error_hint
    in_batches(own_lab.database, "DROP TABLE many_%s")
    own_lab.check()
