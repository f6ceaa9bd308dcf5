"""What the doctor finds: each state of each line, with real things in the way."""

import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text

from app.config import Settings, bind_settings
from app.config import settings as current_settings
from app.errors import PostgresError
from app.extensions import db, writing
from app.models import DatabaseBackup, Status, Trigger, Worker
from app.models.backup import filename_of
from app.models.types import now
from app.postgres import connection, inspection
from app.postgres.conninfo import Conninfo
from app.postgres.embedded import EmbeddedServer
from app.postgres.tools import Toolchain, Version
from app.queue import queue
from app.services import backups, claims, workers
from app.services.doctor import Finding, State, dumps, examine, is_healthy, machine
from app.services.doctor import catalogue as of_catalogue
from app.services.doctor import server as of_server
from tests.conftest import Database, url_of

OK, WARNING, PROBLEM = State.OK, State.WARNING, State.PROBLEM
SUBJECTS = [
    "server", "pg_dump", "server clock", "tables", "row security", "large objects",
    "backup folder", "instance folder", "secret key", "catalogue", "migrations", "queue",
    "clock", "worker", "newest backup", "dumps", "free space",
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("context")


def found(subject: str) -> Finding:
    findings = examine()
    assert [each.subject for each in findings] == SUBJECTS
    for each in findings:
        assert each.told
        assert f"{each.told}{each.hint}".isprintable()
    return next(each for each in findings if each.subject == subject)


@contextmanager
def changed(app: Flask, **changes: object) -> Iterator[Settings]:
    """Other settings for a while."""
    before = current_settings()
    bind_settings(app, replace(before, **changes))
    try:
        yield current_settings()
    finally:
        bind_settings(app, before)


def make() -> DatabaseBackup:
    return backups.create_backup(trigger=Trigger.CLI, created_by="tester")


def plant(age: timedelta, size: int, **more: object) -> None:
    """A row without a dump."""
    moment = now() - age
    with writing() as session:
        session.add(
            DatabaseBackup(
                filename=filename_of(moment),
                created_at=moment,
                size=size,
                server="s",
                database="d",
                trigger=Trigger.CLI,
                **{"status": Status.COMPLETED} | more,
            )
        )


# All of it


def test_a_panel_with_worker_and_backup_has_nothing_to_complain_of():
    make()
    workers.beat()
    current_settings().backup_dir.chmod(0o700)
    findings = examine()
    assert [each for each in findings if each.state is not OK] == []
    assert is_healthy(findings)


def test_nothing_is_changed(app: Flask):
    def state() -> object:
        rows = [tuple(r) for t in db.metadata.sorted_tables for r in db.session.execute(t.select())]
        files = sorted(
            (path, path.stat().st_size, path.stat().st_mode)
            for folder in (current_settings().backup_dir, current_settings().instance_dir)
            for path in folder.rglob("*")
            if ".db" not in path.name
        )
        return rows, files

    make()
    before = state()
    examine()
    assert state() == before


def test_a_dead_server_is_one_problem_and_the_rest_is_told_as_not_examined(app: Flask):
    with changed(app, database_url="postgresql://ann:s3cret@127.0.0.1:1/shop"):
        findings = examine()
    by_subject = {each.subject: each for each in findings}
    assert by_subject["server"].state is PROBLEM
    assert 'no connection to database "shop"' in by_subject["server"].told
    assert by_subject["server"].hint
    for subject in ("server clock", "tables", "row security", "large objects"):
        assert by_subject[subject].state is WARNING
        assert by_subject[subject].told == "not examined: the server cannot be asked"
    assert by_subject["pg_dump"].state is WARNING
    assert "depends on the server" in by_subject["pg_dump"].told
    assert by_subject["catalogue"].state is OK
    assert "s3cret" not in str(findings)
    assert not is_healthy(findings)


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


# The server


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


# Folders and the key


def test_a_backup_folder_will_be_made(app: Flask, tmp_path: Path):
    with changed(app, backup_dir=tmp_path / "not" / "yet"):
        line = found("backup folder")
        assert line.state is OK
        assert "will be made" in line.told
        assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("mode", "state"),
    [
        (0o700, OK),
        (0o711, OK),
        (0o750, WARNING),
        (0o755, WARNING),
        (0o702, PROBLEM),
        (0o777, PROBLEM),
    ],
)
def test_the_backup_folder_should_be_for_us_alone(mode: int, state: State):
    folder = current_settings().backup_dir
    folder.mkdir()
    folder.chmod(mode)
    line = found("backup folder")
    assert line.state is state
    assert ("chmod" in line.hint) is (state is not OK)
    assert list(folder.iterdir()) == []


def test_a_group_may_write_only_if_it_is_the_users_own(tmp_path: Path):
    tmp_path.chmod(0o770)
    about = tmp_path.stat()
    own = os.stat_result((*about[:4], 1000, 1000, *about[6:]))
    shared = os.stat_result((*about[:4], 1000, 100, *about[6:]))
    assert not machine._others_may_write(own)
    assert machine._others_may_write(shared)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folders_of_another_user_are_a_problem():
    folder = current_settings().backup_dir
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    line = found("backup folder")
    assert line.state is PROBLEM
    assert "belongs to uid 12345" in line.told


def test_a_file_in_the_place_of_a_folder_is_a_problem():
    current_settings().backup_dir.write_text("")
    assert "is no folder" in found("backup folder").told


def test_a_folder_that_cannot_be_written_is_a_problem(app: Flask):
    with changed(app, backup_dir=Path("/proc/sys")):
        line = found("backup folder")
    assert line.state is PROBLEM
    assert "/proc/sys cannot be written" in line.told
    assert line.hint


def test_a_folder_that_cannot_be_made_is_a_problem(app: Flask, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with changed(app, backup_dir=tmp_path / "file" / "backups"):
        line = found("backup folder")
    assert line.state is PROBLEM
    assert "cannot be made" in line.told


@pytest.mark.parametrize(("mode", "state"), [(0o711, OK), (0o755, OK), (0o777, PROBLEM)])
def test_the_instance_folder_may_be_entered_but_not_written_by_others(mode: int, state: State):
    current_settings().instance_dir.chmod(mode)
    assert found("instance folder").state is state


def test_a_key_from_the_environment_is_fine():
    assert found("secret key") == Finding(
        "secret key", OK, "from SECRET_KEY or the file that SECRET_KEY_FILE names"
    )


@pytest.mark.parametrize(
    ("mode", "state"), [(0o600, OK), (0o400, OK), (0o640, PROBLEM), (0o604, PROBLEM)]
)
def test_a_key_in_a_file_is_for_us_alone(mode: int, state: State):
    key = current_settings().instance_dir / "secret_key"
    key.write_text(f"{current_settings().secret_key}\n")
    key.chmod(mode)
    line = found("secret key")
    assert line.state is state
    assert current_settings().secret_key not in str(line)
    assert (f"chmod 600 {key}" in line.hint) is (state is PROBLEM)


# The catalogue


def is_sqlite() -> bool:
    return db.engine.dialect.name == "sqlite"


def catalogue_file() -> Path:
    if not is_sqlite():
        pytest.skip("about the file of SQLite")
    db.session.remove()
    db.engine.dispose()
    return current_settings().instance_dir / "catalogue.db"


def only_the_catalogue_is_in_the_way() -> Finding:
    findings = {each.subject: each for each in examine()}
    for subject in ("migrations", "clock", "worker", "newest backup", "dumps"):
        assert findings[subject] == Finding(
            subject, WARNING, "not examined: the catalogue cannot be read"
        )
    assert findings["free space"].state is OK
    assert findings["catalogue"].state is PROBLEM
    assert findings["catalogue"].hint
    return findings["catalogue"]


def test_a_catalogue_is_told_with_its_kind():
    assert found("catalogue").told.endswith("whole and writable")
    assert ("SQLite" if is_sqlite() else "PostgreSQL") in found("catalogue").told
    assert found("migrations").state is OK


def test_a_missing_catalogue_is_a_problem_and_is_not_made():
    file = catalogue_file()
    file.unlink()
    assert "is not there" in only_the_catalogue_is_in_the_way().told
    assert not file.exists()


def test_a_file_that_is_no_catalogue_is_a_problem():
    file = catalogue_file()
    file.write_bytes(b"something else " * 1000)
    assert "not a database" in only_the_catalogue_is_in_the_way().told
    assert file.read_bytes() == b"something else " * 1000


def test_a_damaged_catalogue_is_a_problem():
    for n in range(50):
        plant(timedelta(minutes=n), 1)
    file = catalogue_file()  # closed, its log is in it
    content = bytearray(file.read_bytes())
    pages = [n for n in range(4096, len(content), 4096) if content[n] in (10, 13)]
    for start in pages:
        content[start : start + 8] = b"\xff" * 8
    file.write_bytes(content)
    assert only_the_catalogue_is_in_the_way().told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_catalogue_that_cannot_be_written_is_a_problem(app: Flask, passable_dir: Path):
    file = catalogue_file()
    folder = passable_dir / secrets.token_hex(4)
    folder.mkdir()
    shutil.copy(file, folder / "catalogue.db")
    (folder / "catalogue.db").chmod(0o444)
    folder.chmod(0o777)  # the log beside it can be written
    shutil.move(file, file.with_suffix(".away"))
    file.symlink_to(folder / "catalogue.db")
    for each in list(file.parents)[:-2]:
        each.chmod(0o755)
    os.seteuid(65534)
    try:
        line = of_catalogue.examine_catalogue()[0]
    finally:
        os.seteuid(0)
    assert line.state is PROBLEM
    assert "readonly" in line.told
    assert line.hint


def test_a_catalogue_server_that_takes_no_writes_is_a_problem(server: Conninfo):
    if is_sqlite():
        pytest.skip("about PostgreSQL")
    name = db.engine.url.database
    Database("", url_of(server, "postgres")).run(
        f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
    )
    db.session.remove()
    db.engine.dispose()
    assert "is read-only" in only_the_catalogue_is_in_the_way().told


def test_a_catalogue_server_that_is_away_is_a_problem(server: Conninfo):
    if is_sqlite():
        pytest.skip("about PostgreSQL")
    name = db.engine.url.database
    db.session.remove()
    db.engine.dispose()
    Database("", url_of(server, "postgres")).run(f'DROP DATABASE "{name}" WITH (FORCE)')
    line = only_the_catalogue_is_in_the_way()
    assert "does not exist" in line.told
    assert server.password not in str(line)


@pytest.mark.parametrize(
    ("revision", "hint"),
    [
        ("0001", "Start the panel again"),
        (None, "Start the panel again"),
        ("9999", "newer Backstop"),
    ],
)
def test_a_catalogue_of_another_revision_is_a_problem(revision: str | None, hint: str):
    with writing() as session:
        session.execute(text("DELETE FROM alembic_version"))
        if revision:
            session.execute(text(f"INSERT INTO alembic_version VALUES ('{revision}')"))
    findings = {each.subject: each for each in examine()}
    assert findings["catalogue"].state is OK
    assert findings["migrations"].state is PROBLEM
    assert f"revision {revision or 'none'}" in findings["migrations"].told
    assert hint in findings["migrations"].hint
    assert findings["worker"].told.startswith("not examined")
    assert db.session.scalar(text("SELECT version_num FROM alembic_version")) == revision


def test_an_empty_file_is_a_catalogue_without_a_revision():
    catalogue_file().write_bytes(b"")
    assert "revision none" in found("migrations").told


@pytest.mark.parametrize(("ahead", "state"), [(30, OK), (90, PROBLEM)])
def test_a_backup_of_the_future_tells_of_a_clock_set_back(ahead: int, state: State):
    plant(-timedelta(seconds=ahead), 1)
    line = found("clock")
    assert line.state is state
    assert ("was set back" in line.told) is (state is PROBLEM)


# Queue and workers


def test_the_queue_tells_how_many_wait(app: Flask):
    backups.queue_backup(trigger=Trigger.API, created_by="ann")
    assert found("queue") == Finding("queue", OK, "can be used; tasks that wait: 1")


def test_a_queue_that_cannot_be_used_is_a_problem(app: Flask):
    path = current_settings().instance_dir / "queue.db"
    queue.storage.close()
    for each in path.parent.glob("queue.db*"):
        each.unlink()
    path.mkdir()
    line = found("queue")
    assert line.state is PROBLEM
    assert "BACKSTOP_QUEUE_URL" in line.hint


def heard(ago: timedelta, worker: str = "elsewhere boot ns 1 2") -> None:
    with writing() as session:
        session.add(Worker(id=worker, started_at=now() - ago, seen_at=now() - ago))


def test_no_worker_is_a_warning_while_nothing_waits():
    line = found("worker")
    assert (line.state, line.told) == (WARNING, "none runs")
    assert "flask worker" in line.hint
    assert "flask backup create needs none" in line.hint


def test_no_worker_is_a_problem_when_a_backup_waits():
    backup = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    time.sleep(0.01)
    line = found("worker")
    assert line.state is PROBLEM
    assert backup.filename in line.told
    assert "flask worker" in line.hint


def test_a_worker_that_lives_is_fine():
    workers.beat()
    assert found("worker").state is OK
    assert "workers that live: 1" in found("worker").told


def test_a_worker_that_is_gone_is_none():
    heard(timedelta(0), claims.runner().rpartition(" ")[0] + " 1")
    assert found("worker").told == "none runs"


def test_a_silent_worker_is_a_problem_and_beside_a_living_one_a_warning():
    heard(timedelta(minutes=5))
    line = found("worker")
    assert line.state is PROBLEM
    assert "silent, last heard of 5 minutes ago" in line.told
    workers.beat()
    line = found("worker")
    assert line.state is WARNING
    assert "1 of 2 workers are silent" in line.told


# Dumps


def test_no_backup_is_a_warning():
    line = found("newest backup")
    assert line.state is WARNING
    assert "flask backup create" in line.hint


def test_the_newest_backup_is_told_with_its_age():
    backup = make()
    line = found("newest backup")
    assert line.state is OK
    assert line.told.startswith(f"{backup.filename}, ")


def test_dumps_that_are_there_are_counted():
    make()
    make()
    assert found("dumps") == Finding("dumps", OK, "those of all completed backups are there (2)")


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_dump_that_is_gone_or_cut_is_a_problem(damage: str):
    bad, good = make().filename, make().filename
    dump = current_settings().backup_dir / bad
    if damage == "gone":
        dump.unlink()
    else:
        dump.write_bytes(dump.read_bytes()[:-1])
    line = found("dumps")
    assert line.state is PROBLEM
    assert "of 2 completed backups 1 are missing" in line.told
    assert bad in line.told
    assert good not in line.told


def test_many_missing_dumps_are_five_names_and_a_number():
    for n in range(8):
        plant(timedelta(hours=n), 1)
    assert found("dumps").told.endswith(" and 3 more")


def test_a_dump_that_no_row_knows_is_a_warning():
    make()
    stray = current_settings().backup_dir / "backup_2001-01-01T00-00-00-000Z.dump"
    stray.write_bytes(b"PGDMP")
    line = found("dumps")
    assert line.state is WARNING
    assert stray.name in line.told
    assert "reconcile --adopt" in line.hint


def test_pending_and_failed_backups_have_no_dump_to_miss():
    plant(timedelta(hours=1), 0, status=Status.FAILED)
    plant(timedelta(hours=2), 0, status=Status.PENDING)
    assert found("dumps").state is OK


# Space

GIB = 1 << 30


def test_free_space_is_told_from_the_disk():
    about = os.statvfs(current_settings().instance_dir)
    assert found("free space").state is OK
    free = dumps.storage().free_space()
    assert abs(free - about.f_bavail * about.f_frsize) < GIB


def test_the_next_backup_has_to_fit():
    plant(timedelta(days=400), 1 << 60)
    line = found("free space")
    assert line.state is PROBLEM
    assert "a backup takes 1.0 EiB, so the next one does not fit" in line.told
    assert line.hint


def test_the_disk_of_a_machine_that_backs_up_much_is_soon_full():
    free = dumps.storage().free_space()
    for n in range(10):
        plant(timedelta(days=n, minutes=1), free // 50)
    line = found("free space")
    assert line.state is OK
    assert "a day the disk is full in " in line.told


@pytest.mark.parametrize(
    ("free", "ages", "state", "part"),
    [
        (100 * GIB, [], OK, "100.0 GiB free"),
        (100 * GIB, [0], OK, "at 1.0 GiB a day the disk is full in 100 days"),
        (100 * GIB, [0, 1, 2, 3, 4], OK, "at 1.2 GiB a day the disk is full in 80 days"),
        (6.9 * GIB, [0], WARNING, "full in 7 days"),
        (7.1 * GIB, [0], OK, "full in 7 days"),
        (2.9 * GIB, [0, 10, 29], WARNING, "full in 28 days"),
        (2.9 * GIB, [200], WARNING, "2.9 GiB free; a backup takes 1.0 GiB"),
        (3.1 * GIB, [200], OK, "3.1 GiB free; a backup takes 1.0 GiB"),
        (3.1 * GIB, [29], OK, "full in 90 days"),
        (0.9 * GIB, [200], PROBLEM, "so the next one does not fit"),
        (1e9 * GIB, [0], OK, "a backup takes 1.0 GiB"),
    ],
)
def test_the_trend_is_that_of_the_last_month(free: float, ages: list[int], state: State, part: str):
    kept = [(now() - timedelta(days=each), GIB) for each in ages]
    line = dumps._foreseen(int(free), kept)
    assert line.state is state
    assert part in line.told
    assert ("a day" in line.told) is ("full in" in part)


# What libraries say


def test_a_catalogue_that_fails_in_the_middle_is_told_without_its_password(
    app: Flask, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: object) -> None:
        db.session.execute(text('SELECT * FROM "s3cret or s3%63ret"'))

    monkeypatch.setattr(dumps.storage().__class__, "list", fail)
    with changed(app, queue_url="redis://user:s3%63ret@127.0.0.1/0"):
        findings = {each.subject: each for each in examine()}
    assert findings["dumps"].state is PROBLEM
    assert "***** or *****" in findings["dumps"].told
    assert "Background on this error" not in findings["dumps"].told
    assert findings["free space"].state is OK  # the session is usable again
