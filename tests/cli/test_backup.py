"""flask backup, as cron and people use it."""

import io
import json
import re
import secrets
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import text

from app.cli import progress
from app.extensions import db
from app.models import Status, Trigger
from app.services.backups import listing
from app.services.backups import run as backup_run
from app.services.backups import service as backups
from app.services.jobs import claims
from app.services.proofs import records as proofs
from tests.conftest import Database

Flask_backup = Callable[..., Result]


@pytest.fixture
def flask_backup(app: Flask) -> Flask_backup:
    return runner(app)


def runner(app: Flask) -> Flask_backup:
    cli = app.test_cli_runner()
    return lambda *words, **more: cli.invoke(args=["backup", *words], **more)


def newest(app: Flask) -> str:
    with app.app_context():
        return listing.list_backups(limit=1).backups[0].filename


def test_create_exits_0_and_prints_the_name(flask_backup: Flask_backup, app: Flask):
    result = flask_backup("create", "--notes", "by hand")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(newest(app))
    assert (len(result.stdout.splitlines()), result.stderr) == (1, "")
    with app.app_context():
        made = listing.get_backup(newest(app))
        assert (made.notes, made.trigger.value) == ("by hand", "cli")
        assert made.created_by


def test_the_list_is_narrowed_as_on_the_page(flask_backup: Flask_backup, app: Flask):
    flask_backup("create", "-q")
    name = newest(app)
    for words in (["--proof", "read"], ["--missing-copy"], ["--from", "2026-01-01"]):
        assert flask_backup("list", *words, "--sort", "largest").output.startswith(name)
    for words in (["--proof", "failed"], ["--pinned"], ["--to", "2026-01-01"]):
        assert flask_backup("list", *words).output == "There are no such backups.\n"
    result = flask_backup("list", "--from", "yesterday")
    assert result.exit_code == 1
    assert "from is not a valid time" in result.output


def test_quiet_says_nothing_on_success(flask_backup: Flask_backup):
    result = flask_backup("create", "-q")
    assert (result.exit_code, result.output) == (0, "")


def test_create_prints_json_and_nothing_else_on_stdout(flask_backup: Flask_backup):
    result = flask_backup("create", "--json")
    assert json.loads(result.stdout)["status"] == "COMPLETED"


@pytest.mark.parametrize("words", [(), ("-q",), ("--json",)])
def test_a_failed_backup_exits_1_with_error_detail_and_hint(
    make_app: Callable[..., Flask], words: tuple[str, ...]
):
    app = make_app(database_url="postgresql://ann:pw@127.0.0.1:1/shop")
    result = runner(app)("create", *words)
    assert result.exit_code == 1
    assert 'Error: no connection to database "shop"' in result.stderr
    assert "Detail: " in result.stderr
    assert "Hint: " in result.stderr
    with app.app_context():
        failed = listing.get_backup(newest(app))
        assert failed.status is Status.FAILED
        assert "no connection" in failed.error_message


def test_notes_too_long_exit_1_and_make_nothing(flask_backup: Flask_backup, app: Flask):
    result = flask_backup("create", "--notes", "x" * 2001)
    assert result.exit_code == 1
    assert "Error: notes must not be longer than 2000 characters" in result.stderr
    with app.app_context():
        assert listing.list_backups().backups == []


def test_the_roles_of_the_server_are_kept_without_their_passwords(
    flask_backup: Flask_backup, shop: Database, app: Flask
):
    role = f"kept_{secrets.token_hex(4)}"
    shop.run(f"CREATE ROLE {role} LOGIN PASSWORD 'never to be seen'")
    try:
        assert flask_backup("create").exit_code == 0
    finally:
        shop.run(f"DROP ROLE {role}")
    told = flask_backup("roles", newest(app)).output
    assert f"CREATE ROLE {role};" in told
    assert "LOGIN" in told
    assert "SCRAM-SHA-256" not in told


def test_list_and_show_tell_what_is_known(flask_backup: Flask_backup, app: Flask):
    flask_backup("create", "--notes", "first line\nsecond line")
    name = newest(app)
    listed = flask_backup("list").stdout
    assert name in listed
    assert "COMPLETED" in listed
    assert "first line" in listed
    assert "second line" not in listed
    shown = flask_backup("show", name).stdout
    assert "pg_restore" in shown
    assert "sha256:" in shown
    details = json.loads(flask_backup("show", name, "--json").stdout)
    assert details["fileExists"] is True
    assert details["restore"]["oldestReader"] >= 12
    assert json.loads(flask_backup("list", "--json").stdout)["backups"][0]["filename"] == name


def test_list_can_be_searched_and_paged(flask_backup: Flask_backup):
    for note in ("one", "two", "three"):
        flask_backup("create", "--notes", note)
    assert flask_backup("list", "--search", "TWO").stdout.count("COMPLETED") == 1
    first = flask_backup("list", "--limit", "2").stdout
    assert "There are more" in first
    before = first.split("--before ")[1].strip().strip("'")
    assert "one" in flask_backup("list", "--before", before).stdout
    assert flask_backup("list", "--status", "FAILED").stdout == ""
    assert flask_backup("list", "--limit", "0").exit_code == 1


def test_a_missing_file_is_listed_as_missing(flask_backup: Flask_backup, app: Flask):
    flask_backup("create")
    (app.extensions["backstop.settings"].backup_dir / newest(app)).unlink()
    assert "MISSING" in flask_backup("list").stdout


def test_notes_change(flask_backup: Flask_backup, app: Flask):
    flask_backup("create", "--notes", "old")
    assert flask_backup("notes", newest(app), "new").exit_code == 0
    assert "new" in flask_backup("list").stdout


def test_delete_asks_first(flask_backup: Flask_backup, app: Flask):
    flask_backup("create")
    flask_backup("create")
    name = newest(app)
    assert flask_backup("delete", name, input="n\n").exit_code == 1
    assert name in flask_backup("list").stdout
    assert flask_backup("delete", name, input="y\n").exit_code == 0
    assert name not in flask_backup("list").stdout


def test_delete_with_yes_does_not_ask(flask_backup: Flask_backup, app: Flask):
    flask_backup("create")
    flask_backup("create")
    assert flask_backup("delete", newest(app), "--yes").exit_code == 0


@pytest.mark.parametrize("name", ["nothing", "../../etc/passwd", "", "x" * 300, "a\0b"])
@pytest.mark.parametrize("verb", ["show", "download", "delete", "notes"])
def test_an_unknown_name_exits_1(flask_backup: Flask_backup, verb: str, name: str):
    words = [verb, name, "text"] if verb == "notes" else [verb, name]
    result = flask_backup(*words)
    assert result.exit_code == 1
    assert "Error: no backup has this name" in result.stderr


def test_check_exits_1_when_a_dump_has_changed(flask_backup: Flask_backup, app: Flask):
    flask_backup("create")
    good = flask_backup("check")
    assert good.exit_code == 0
    assert f"{newest(app)}\twhole" in good.stdout
    dump = app.extensions["backstop.settings"].backup_dir / newest(app)
    content = bytearray(dump.read_bytes())
    content[-1] ^= 1
    dump.write_bytes(content)
    bad = flask_backup("check")
    assert bad.exit_code == 1
    assert "CHANGED" in bad.stdout


def test_reconcile_tells_of_unknown_dumps_and_adopts_them(flask_backup: Flask_backup, app: Flask):
    flask_backup("create", "--notes", "found again")
    name = newest(app)
    path = Path(app.extensions["backstop.settings"].catalogue_url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as catalogue:
        catalogue.execute("DELETE FROM database_backups")
        catalogue.commit()
    assert f"{name}\tnot in the catalogue" in flask_backup("reconcile").stdout
    assert f"{name}\tadopted" in flask_backup("reconcile", "--adopt").stdout
    assert "found again" in flask_backup("list").stdout
    assert flask_backup("reconcile").stdout == ""


def test_a_locked_away_catalogue_is_told(make_app: Callable[..., Flask], app: Flask):
    path = Path(app.extensions["backstop.settings"].catalogue_url.removeprefix("sqlite:///"))
    path.write_bytes(b"this is not a database" * 100)
    for each in ("-wal", "-shm"):
        path.with_name(path.name + each).unlink(missing_ok=True)
    with app.app_context():
        from app.extensions import db

        db.session.remove()
        db.engine.dispose()
    result = runner(app)("list")
    assert result.exit_code == 1
    assert "Error: the catalogue is damaged" in result.stderr


def queued(app: Flask) -> str:
    with app.app_context():
        return backups.queue_backup(trigger=Trigger.API, created_by="ann").filename


def test_cancel_ends_a_backup_that_waits(flask_backup: Flask_backup, app: Flask):
    name = queued(app)
    result = flask_backup("cancel", name)
    assert (result.exit_code, result.stdout) == (0, f"{name} has been cancelled.\n")
    shown = flask_backup("show", name).stdout
    assert "Error: cancelled by " in shown
    again = flask_backup("cancel", name)
    assert again.exit_code == 1
    assert "has ended already" in again.stderr


def test_cancel_tells_when_its_runner_does_not_hear(
    flask_backup: Flask_backup, app: Flask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.cli.backup.CANCEL_PATIENCE", 0.0)
    name = queued(app)
    with app.app_context():
        assert claims.claim(listing.get_backup(name).id)
    result = flask_backup("cancel", name)
    assert result.exit_code == 1
    assert "has not ended yet" in result.stderr


def test_rebuild_brings_a_lost_catalogue_back(
    flask_backup: Flask_backup, app: Flask, shop: Database
):
    assert flask_backup("create", "--notes", "kept", "-q").exit_code == 0
    name = newest(app)
    before = flask_backup("show", name, "--json").stdout
    with app.app_context():
        db.session.execute(text("DELETE FROM database_backups"))
        db.session.execute(text("DELETE FROM admins"))
        db.session.commit()
    result = flask_backup("rebuild")
    assert result.exit_code == 0, result.output
    assert f"{name}\tnot in the catalogue: and whole" in result.stdout
    assert "flask admin create" in result.stdout
    assert "No backup is scheduled" in result.stdout
    assert "is lost: schedules, the retention policy" in result.stdout
    after = flask_backup("show", name, "--json").stdout
    assert json.loads(after) | {"log": ""} == json.loads(before) | {"log": ""}
    assert flask_backup("check").exit_code == 0


def test_rebuild_sets_a_damaged_catalogue_aside_and_keeps_it(
    flask_backup: Flask_backup, app: Flask
):
    assert flask_backup("create", "-q").exit_code == 0
    name = newest(app)
    instance = app.extensions["backstop.settings"].instance_dir
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    content = b"this is no database" * 500
    (instance / "catalogue.db").write_bytes(content)
    refused = flask_backup("list")
    assert refused.exit_code == 1
    assert "flask backup rebuild" in refused.stderr
    result = flask_backup("rebuild")
    assert result.exit_code == 0, result.output
    (aside,) = instance.glob("catalogue.db.damaged-*")
    assert aside.read_bytes() == content
    assert name in flask_backup("list").stdout


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE alembic_version SET version_num = '000r'",
        "DELETE FROM alembic_version",
        "DROP TABLE alembic_version",
        "DROP TABLE database_backups",
        "DROP INDEX uq_database_backups_one_pending",
    ],
)
def test_rebuild_mends_a_catalogue_that_has_lost_its_form(
    flask_backup: Flask_backup, app: Flask, damage: str
):
    assert flask_backup("create", "-q").exit_code == 0
    name = newest(app)
    with app.app_context():
        db.session.execute(text(damage))
        db.session.commit()
    result = flask_backup("rebuild")
    assert result.exit_code == 0, result.output
    assert "catalogue.db.damaged-" in result.stdout
    assert name in flask_backup("list").stdout
    assert "damaged" not in flask_backup("rebuild").stdout


def test_rebuild_does_not_judge_a_catalogue_of_a_newer_version(
    flask_backup: Flask_backup, app: Flask
):
    with app.app_context():
        db.session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        db.session.commit()
    result = flask_backup("rebuild")
    assert result.exit_code == 1
    assert "damaged-" not in result.stdout


def test_a_terminal_that_goes_away_is_no_failure(app: Flask, monkeypatch: pytest.MonkeyPatch):
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(5, "Input/output error")

        def isatty(self) -> bool:
            return True

    gone = progress._Tolerant(Gone())
    real = progress.Console
    monkeypatch.setattr(progress, "Console", lambda **options: real(file=gone, force_terminal=True))
    assert runner(app)("create", "-q").exit_code == 0


def test_rebuild_leaves_alone_what_nobody_vouches_for(flask_backup: Flask_backup, app: Flask):
    assert flask_backup("create", "-q").exit_code == 0
    name = newest(app)
    dump = app.extensions["backstop.settings"].backup_dir / name
    changed = bytearray(dump.read_bytes())
    changed[len(changed) // 2] ^= 1
    dump.write_bytes(changed)
    before = flask_backup("show", name, "--json").stdout
    result = flask_backup("rebuild")
    assert result.exit_code == 1
    assert f"{name}\tCHANGED" in result.stdout
    assert dump.read_bytes() == changed
    assert flask_backup("show", name, "--json").stdout == before


def test_a_terminal_shows_a_bar(app: Flask, monkeypatch: pytest.MonkeyPatch):
    screen = io.StringIO()
    real = progress.Console
    monkeypatch.setattr(
        progress, "Console", lambda **options: real(file=screen, force_terminal=True, width=150)
    )
    monkeypatch.setattr("app.services.jobs.run._STORE_EVERY", 0.0)
    result = runner(app)("create")
    assert result.exit_code == 0, result.output
    assert re.search(r"(Dumping|Checking|Publishing).*\d of 2 tables done", screen.getvalue())
    assert "%" in screen.getvalue()


def test_import_takes_in_a_dump_and_says_what_it_brings(
    flask_backup: Flask_backup, app: Flask, tmp_path: Path
):
    assert flask_backup("create").exit_code == 0
    theirs = tmp_path / "theirs.dump"
    assert flask_backup("download", newest(app), "-o", str(theirs)).exit_code == 0
    result = flask_backup("import", str(theirs), "--notes", "of a customer")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(newest(app))
    assert "brings objects of the roles: " in result.stdout
    assert "brings objects of the roles: " in flask_backup("show", newest(app)).stdout
    told = json.loads(flask_backup("show", newest(app), "--json").stdout)
    assert (told["foreign"], told["notes"]) == (True, "of a customer\ntheirs.dump")
    refused = flask_backup("import", str(tmp_path))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "cannot be read" in refused.stderr
    assert "pg_dump -F d" in refused.stderr


def test_import_tells_that_a_dump_holds_rows_alone(
    flask_backup: Flask_backup, app: Flask, shop: Database, own_toolchain, tmp_path: Path
):
    theirs = tmp_path / "rows.dump"
    subprocess.run([own_toolchain.pg_dump, "-Fc", "-a", "-f", theirs, "-d", shop.url], check=True)
    result = flask_backup("import", str(theirs))
    assert result.exit_code == 0, result.output
    assert "not proven: the dump has rows but no tables" in result.stdout
    with app.app_context():
        made = listing.get_backup(newest(app))
        (read,) = proofs.list_proofs(made.id)
        assert (read.result.value, made.proven) == ("not possible", False)
    drill = app.test_cli_runner().invoke(args=["backup", "drill", newest(app)])
    assert drill.exit_code == 1
    assert "the dump holds rows alone" in drill.output


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        (b"\x1f\x8b\x08", "packed by gzip: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "packed by zstd"),
        (b"PK\x03\x04", "packed by zip"),
        (b"\0" * 257 + b"ustar", "a tar archive"),
        (b"--\n-- PostgreSQL database cluster dump\n", "SQL by pg_dumpall"),
        (b"--\n-- PostgreSQL database dump\n", "SQL by pg_dump;"),
        (b"PGDMP", "Only archives of pg_dump -F c"),
        (b"anything else", "Only archives of pg_dump -F c"),
    ],
)
def test_import_says_what_a_file_is_that_is_no_archive(
    head: bytes, hint: str, flask_backup: Flask_backup, tmp_path: Path
):
    (tmp_path / "x.dump").write_bytes(head + b" " * 20)
    refused = flask_backup("import", str(tmp_path / "x.dump"))
    assert refused.exit_code == 1
    assert hint in refused.stderr
    assert "Make one with: pg_dump -F c" in refused.stderr or "unpack it first" in refused.stderr


def test_import_refuses_an_archive_that_was_copied_as_text(
    flask_backup: Flask_backup, shop: Database, own_toolchain, tmp_path: Path
):
    whole = tmp_path / "whole.dump"
    subprocess.run([own_toolchain.pg_dump, "-Fc", "-f", whole, "-d", shop.url], check=True)
    content = whole.read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "text.dump").write_bytes(content)
    refused = flask_backup("import", str(tmp_path / "text.dump"))
    assert refused.exit_code == 1
    assert "Traceback" not in refused.output


def test_create_ends_with_1_where_the_rows_are_not_those_that_were_counted(
    flask_backup: Flask_backup, app: Flask, monkeypatch: pytest.MonkeyPatch
):
    real = backup_run.prove_rows

    def prove_rows(contents: dict, counted: dict, read: object, **more: object) -> dict:
        return real(contents, dict.fromkeys(counted, 7), read)

    monkeypatch.setattr(backup_run, "prove_rows", prove_rows)
    result = flask_backup("create")
    assert result.exit_code == 1
    assert "was read back, and differs from what was counted" in result.stderr
    assert "rows of public.orders: 7 counted, 500 in the dump" in result.stderr
    assert "read back whole" not in result.output
    with app.app_context():
        assert listing.get_backup(newest(app)).is_completed
