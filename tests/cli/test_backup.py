"""flask backup, as cron and people use it."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from app.models import BackupStatus
from app.services import listing

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
    assert 'dumping contents of table "public.orders"' in result.stderr
    with app.app_context():
        made = listing.get_backup(newest(app))
        assert (made.notes, made.trigger.value) == ("by hand", "cli")
        assert made.created_by


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
        assert failed.status is BackupStatus.FAILED
        assert "no connection" in failed.error_message


def test_notes_too_long_exit_1_and_make_nothing(flask_backup: Flask_backup, app: Flask):
    result = flask_backup("create", "--notes", "x" * 2001)
    assert result.exit_code == 1
    assert "Error: notes must not be longer than 2000 characters" in result.stderr
    with app.app_context():
        assert listing.list_backups().backups == []


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


def test_download_copies_the_dump_and_never_overwrites(
    flask_backup: Flask_backup, app: Flask, tmp_path: Path
):
    flask_backup("create")
    name, target = newest(app), tmp_path / "copy.dump"
    assert flask_backup("download", name, "-o", str(target)).exit_code == 0
    stored = (app.extensions["backstop.settings"].backup_dir / name).read_bytes()
    assert target.read_bytes() == stored
    again = flask_backup("download", name, "-o", str(target))
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    assert flask_backup("download", name, "-o", "-").stdout_bytes == stored
    nowhere = flask_backup("download", name, "-o", str(tmp_path / "no" / "copy.dump"))
    assert nowhere.exit_code == 1
    assert "cannot be written" in nowhere.stderr


def test_notes_change(flask_backup: Flask_backup, app: Flask):
    flask_backup("create", "--notes", "old")
    assert flask_backup("notes", newest(app), "new").exit_code == 0
    assert "new" in flask_backup("list").stdout


def test_delete_asks_first(flask_backup: Flask_backup, app: Flask):
    flask_backup("create")
    name = newest(app)
    assert flask_backup("delete", name, input="n\n").exit_code == 1
    assert name in flask_backup("list").stdout
    assert flask_backup("delete", name, input="y\n").exit_code == 0
    assert flask_backup("list").stdout == ""


def test_delete_with_yes_does_not_ask(flask_backup: Flask_backup, app: Flask):
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


def test_a_changed_dump_is_not_downloaded(flask_backup: Flask_backup, app: Flask, tmp_path: Path):
    flask_backup("create")
    dump = app.extensions["backstop.settings"].backup_dir / newest(app)
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    result = flask_backup("download", newest(app), "-o", str(tmp_path / "copy"))
    assert result.exit_code == 1
    assert "is not what it was" in result.stderr
    assert list(tmp_path.glob("*copy*")) == []


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
    assert "Error: the catalogue cannot be opened" in result.stderr
