"""What a dump brings along meets nothing but the server of its own drill."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask

from app.extensions import db
from app.models import Kind, Level, Restore, Result
from app.postgres.conninfo import Conninfo
from app.services.backups import uploads
from app.services.restores import drill_server
from app.services.restores import service as restores
from tests.attacks.archives import TABLE, Piece, archive, running
from tests.conftest import Database, url_of
from tests.services.drills.conftest import isolated, left_of_drills, newest_proof, sockets
from tests.services.restores.conftest import attempt, backed_up

__all__ = ["isolated", "left_of_drills", "sockets"]

pytestmark = pytest.mark.usefixtures("isolated", "context")

_TMP = "/tmp"  # noqa: S108
# Runs programs as the server's own user, and tells what they say in the error that ends it.
_SPYING = """
    CREATE TABLE public.seen (line text);
    COPY public.seen FROM PROGRAM {script};
    SET search_path = public;
    DO $$ BEGIN RAISE EXCEPTION 'seen: %', (SELECT string_agg(line, ' | ') FROM seen); END $$;
"""
# What mallory has hidden where the panel is at work, and nowhere else.
_IN_A_DRILL = """
    CREATE FUNCTION mallory.evil() RETURNS int LANGUAGE plpgsql VOLATILE AS $evil$
    BEGIN
        IF current_setting('cluster_name') = 'backstop drill' THEN
            {code}
        END IF;
        RETURN 1;
    END $evil$;
    CREATE MATERIALIZED VIEW mallory.mv AS SELECT mallory.evil() AS x;
"""
_STATE = """
    SELECT 'role', rolname, rolsuper::text FROM pg_roles
    UNION ALL SELECT 'database', datname, pg_get_userbyid(datdba) FROM pg_database
    UNION ALL SELECT 'prepared', gid, '' FROM pg_prepared_xacts ORDER BY 1, 2
"""


@pytest.fixture
def untouched(server: Conninfo, shop: Database, left_of_drills) -> Iterator[Path]:
    """Nothing of the guarded server and of this machine is changed; a name for what would be."""
    admin = Database("postgres", url_of(server, "postgres"))
    mark = Path(_TMP, f"pwned_{secrets.token_hex(6)}")
    before, rows = admin.run(_STATE), shop.run("SELECT count(*) FROM orders")
    yield mark
    assert admin.run(_STATE) == before
    assert shop.run("SELECT count(*) FROM orders") == rows
    assert not mark.exists()
    assert left_of_drills() == []


@pytest.fixture
def mallory(shop: Database, server: Conninfo) -> Iterator[Database]:
    """The shop as somebody sees it who has a schema of her own there, and nothing else."""
    name, password = f"mallory_{secrets.token_hex(4)}", secrets.token_hex(8)
    shop.run(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    shop.run(f"CREATE SCHEMA mallory AUTHORIZATION {name}")
    yield Database(shop.name, url_of(server, shop.name, name, password))
    shop.run(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}")


def drilled(dump: bytes, folder: Path) -> Restore:
    """The drill of a dump of somebody else."""
    path = folder / "theirs.dump"
    path.write_bytes(dump)
    made = uploads.import_file(path)
    assert made.is_completed, (made.error_message, made.error_detail)
    return attempt(made.filename, Kind.DRILL)


def spy(script: str, folder: Path) -> str:
    """What a script says that runs with all rights of the drill's superuser."""
    quoted = "'" + f"{script}; true".replace("'", "''") + "'"
    row = drilled(running(_SPYING.replace("{script}", quoted)), folder)
    assert "seen: " in row.error_detail, (row.error_message, row.error_detail, row.log)
    return str(row.error_detail).partition("seen: ")[2]


def test_the_superuser_of_a_drill_runs_programs_in_a_sandbox(tmp_path: Path, untouched: Path):
    """Else the tests below would prove nothing."""
    said = spy(f"id -u; touch {untouched} && echo made; ls -d /cluster/data", tmp_path)
    assert "/cluster/data" in said
    assert "made" not in said  # not even a /tmp is there
    if os.geteuid() == 0:
        assert said.split(" ")[0] not in ("0", "101")


def test_the_files_of_the_panel_are_out_of_sight(app: Flask, tmp_path: Path, untouched: Path):
    settings = app.extensions["backstop.settings"]
    (settings.instance_dir / "secret_key").write_text("a key")
    untouched.with_suffix(".seen").touch()  # others' files in the temporary folder
    wanted = [
        settings.instance_dir / "secret_key", settings.instance_dir / "catalogue.db",
        settings.instance_dir, settings.backup_dir, Path.cwd() / "README.md", Path.cwd() / ".git",
        "/home", "/root", "/run", "/var/run", "/var/lib", "/etc/shadow", "/etc/hostname",
        untouched.with_suffix(".seen"),
    ]  # fmt: skip
    said = spy("; ".join(f"ls {each} 2>&1" for each in wanted), tmp_path)
    untouched.with_suffix(".seen").unlink()
    assert said.count("No such file or directory") == len(wanted), said


def test_no_port_and_no_other_server_can_be_reached(
    shop: Database, tmp_path: Path, untouched: Path
):
    (guarded,) = parse_qs(urlsplit(shop.url).query)["host"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard = threading.Event()

        def listen() -> None:
            listener.settimeout(30)
            try:
                listener.accept()[0].close()
                heard.set()
            except OSError:
                pass

        thread = threading.Thread(target=listen)
        thread.start()
        port = listener.getsockname()[1]
        connect = f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached' 2>&1"
        said = spy(f"{connect}; ls {guarded} 2>&1; cat /proc/net/dev | wc -l", tmp_path)
        with socket.create_connection(("127.0.0.1", port)):  # that it would have been heard
            assert heard.wait(10)
        thread.join()
    assert "reached" not in said
    assert "Connection refused" in said or "unreachable" in said
    assert f"cannot access '{guarded}'" in said


def test_no_process_of_the_panel_is_seen(
    tmp_path: Path, untouched: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CANARY", "canary-of-the-environment")
    monkeypatch.setenv("PGPASSWORD", "canary-of-the-environment")
    script = "cat /proc/*/environ | tr '\\0' ' '; for p in /proc/[0-9]*; do cat $p/comm; done"
    said = spy(f"{script}; env; ls -d /proc/{os.getpid()} 2>&1", tmp_path)
    assert "canary" not in said
    assert "pytest" not in said
    assert "bwrap" in said
    assert f"cannot access '/proc/{os.getpid()}'" in said


def test_an_index_of_a_function_in_an_extension_gains_nothing(
    mallory: Database, shop: Database, untouched: Path
):
    mallory.run(f"""
        CREATE TABLE mallory.t AS SELECT 1 AS x;
        CREATE FUNCTION mallory.inner_() RETURNS int LANGUAGE plpgsql VOLATILE AS $$
        BEGIN
            IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
                EXECUTE $q$COPY (SELECT current_user) TO PROGRAM 'cat > {untouched}'$q$;
            END IF;
            RETURN 1;
        END $$;
        CREATE FUNCTION mallory.folded(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN PERFORM mallory.inner_(); RETURN n; END $$;
    """)
    code = """
        CREATE EXTENSION citext SCHEMA mallory;
        CREATE INDEX boom ON mallory.t (mallory.folded(1));
        ALTER EXTENSION citext ADD TABLE mallory.t;
        GRANT ALL ON SCHEMA mallory TO pg_database_owner;
        ALTER TABLE mallory.t OWNER TO pg_database_owner;
    """
    mallory.run(_IN_A_DRILL.replace("{code}", code))
    attempt(backed_up(), Kind.DRILL)


def test_what_code_of_the_dump_changes_of_others_fails_the_drill(
    mallory: Database, shop: Database, untouched: Path
):
    shop.run("CREATE FUNCTION label(n numeric) RETURNS text LANGUAGE sql AS 'SELECT n::text'")
    shop.run("GRANT CREATE ON SCHEMA public TO PUBLIC")
    code = """
        CREATE FUNCTION public.label(n int) RETURNS text LANGUAGE sql SECURITY DEFINER
            AS $q$ SELECT current_user::text $q$;
    """
    mallory.run(_IN_A_DRILL.replace("{code}", code))
    filename = backed_up()
    row = attempt(filename, Kind.DRILL)
    shop.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    assert not row.is_completed
    assert "label" in f"{row.error_message} {row.error_detail}"


@pytest.mark.parametrize(
    "sql",
    [
        (
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database());"
            " EXECUTE format('ALTER ROLE %I PASSWORD ''known''', current_user); END $$;"
        ),
        "CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'known';",
        "COPY (SELECT 1) TO PROGRAM 'id > {mark}';",
        "COPY (SELECT 1) TO '{mark}';",
        "BEGIN; CREATE TABLE public.p (x int); PREPARE TRANSACTION 'stays';",
        "COPY (SELECT 1) TO PROGRAM 'setsid sleep 600 > /dev/null 2>&1 &';",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity;",
        "COPY (SELECT 1) TO PROGRAM 'kill -9 -1';",
        "COPY (SELECT 1) TO PROGRAM 'rm -rf /cluster/data /sockets/.s.PGSQL.5432';",
    ],
)
def test_whatever_a_dump_does_ends_with_its_drill(sql: str, tmp_path: Path, untouched: Path):
    role = f"stays_{secrets.token_hex(4)}"
    drilled(running(sql.replace("{mark}", str(untouched)).replace("{role}", role)), tmp_path)


_LOCK_OUT = """
    DO $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD NULL', current_user); END $$;
"""


def test_a_dump_that_locks_us_out_says_nothing(tmp_path: Path, untouched: Path):
    row = drilled(running(_LOCK_OUT), tmp_path)
    assert "password authentication failed" in row.error_detail
    assert row.error_hint.startswith("Code in the dump may have changed the password")
    assert newest_proof(row.filename).result is Result.NOT_POSSIBLE


def test_a_dump_that_sleeps_is_ended_and_says_nothing(
    make_app: Callable[..., Flask], tmp_path: Path, untouched: Path
):
    with make_app(stall_timeout=2).app_context():
        began = time.monotonic()
        row = drilled(running("SELECT pg_sleep(600);"), tmp_path)
        assert time.monotonic() - began < 30
        assert row.error_message == "the drill did not move for 2 s and was ended"
        proof = newest_proof(row.filename)
        assert (proof.level, proof.result) == (Level.RESTORED, Result.NOT_POSSIBLE)


def test_a_dump_that_runs_for_ever_is_ended(
    make_app: Callable[..., Flask], tmp_path: Path, untouched: Path
):
    with make_app(drill_timeout=3).app_context():
        row = drilled(running("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$;"), tmp_path)
        assert row.error_message == "the drill took longer than 3 s and was ended"
        assert newest_proof(row.filename).result is Result.NOT_POSSIBLE


def test_a_dump_that_sleeps_is_cancelled(app: Flask, tmp_path: Path, untouched: Path):
    def cancel() -> None:
        with app.app_context():
            for _ in range(600):
                (row,) = restores.list_restores(limit=1) or [None]
                if row is not None and 'FUNCTION "public.x()' in restores.get_restore(row.id).log:
                    restores.cancel_restore(row.id, by="ann")
                    return
                db.session.rollback()
                time.sleep(0.1)

    thread = threading.Thread(target=cancel)
    thread.start()
    row = drilled(running("SELECT pg_sleep(600);"), tmp_path)
    thread.join()
    assert row.error_message == "cancelled by ann"


def test_a_bomb_of_rows_does_not_fill_the_disk(
    tmp_path: Path, untouched: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(drill_server, "_BASE", 64 * 1024**2)
    rows = b"a" * (1024**2 - 1) + b"\n"
    bomb = archive(
        Piece(13, "TABLE", "t", "CREATE TABLE public.t (x text STORAGE EXTERNAL);\n"),
        Piece(
            14, "TABLE DATA", "t", copy="COPY public.t (x) FROM stdin;\n",
            rows=rows * 700 + b"\\.\n\n", needs=(13,),
        ),
    )  # fmt: skip
    assert len(bomb) < 4 * 1024**2
    monkeypatch.setattr(drill_server, "_expected_size", lambda _: len(bomb))
    row = drilled(bomb, tmp_path)
    assert "of disk and was ended" in row.error_message
    assert newest_proof(row.filename).result is Result.NOT_POSSIBLE


def test_code_that_fills_the_disk_is_ended(
    tmp_path: Path, untouched: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(drill_server, "_BASE", 64 * 1024**2)
    fill = "COPY (SELECT 1) TO PROGRAM 'yes > /cluster/fill; yes > /sockets/fill';"
    row = drilled(running(fill), tmp_path)
    assert "of disk and was ended" in row.error_message


def test_folders_in_folders_hide_nothing_and_are_removed(tmp_path: Path, untouched: Path):
    deep = """
        COPY (SELECT 1) TO PROGRAM 'for at in /cluster /sockets; do
            cd $at; n=0; while [ $n -lt 3000 ]; do mkdir d; cd d; n=$((n + 1)); done
        done; sleep 600';
    """
    row = drilled(running(deep), tmp_path)
    assert row.error_message == "the drill made folders inside folders and was ended"
    assert newest_proof(row.filename).result is Result.NOT_POSSIBLE


def test_code_that_takes_all_memory_is_ended(
    tmp_path: Path, untouched: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(drill_server, "_memory", lambda: 1024**3)
    sql = "DO $$ DECLARE held text[]; BEGIN FOR n IN 1..40 LOOP held[n] := repeat('x', 200000000);"
    row = drilled(running(f"{sql} END LOOP; END $$;"), tmp_path)
    assert newest_proof(row.filename).result is Result.NOT_POSSIBLE
    assert "memory" in f"{row.error_message} {row.error_detail}"


def test_a_table_of_an_extension_is_no_trap(tmp_path: Path, untouched: Path):
    trap = f"""
        CREATE FUNCTION public.boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            EXECUTE $q$COPY (SELECT 1) TO PROGRAM 'id > {untouched}'$q$; RETURN NULL; END $$;
        CREATE TABLE public.spatial_ref_sys (srid int);
        CREATE TRIGGER boom BEFORE INSERT ON public.spatial_ref_sys EXECUTE FUNCTION public.boom();
    """
    data = Piece(
        15, "TABLE DATA", "spatial_ref_sys", rows=b"4326\n\\.\n\n",
        copy="COPY public.spatial_ref_sys (srid) FROM stdin;\n",
    )  # fmt: skip
    drilled(archive(Piece(12, "FUNCTION", "x()", trap), TABLE, data), tmp_path)
