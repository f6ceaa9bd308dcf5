"""The catalogue is locked, read-only, lost or corrupt while backups run."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from app.extensions import db
from tests.conftest import PASSWORD
from tests.faults.lab import PATIENCE, SEED, Lab, chance, log_of
from tests.faults.middle import locked, until_it_waits, waiting_backup
from tests.faults.test_disk import PAGE, fill, only_root, small_disk

pytestmark = pytest.mark.faults

LOCKED_FOR = 10  # seconds

#: Another program that has the catalogue for itself, for so long or until it is ended.
LOCKER = """
import sqlite3, sys, time
catalogue = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
catalogue.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
catalogue.execute("ROLLBACK")
"""


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()


def catalogue_of(lab: Lab) -> Path:
    return lab.settings.instance_dir / "catalogue.db"


@contextmanager
def locked_catalogue(lab: Lab, seconds: float) -> Iterator["subprocess.Popen[str]"]:
    words = [sys.executable, "-c", LOCKER, str(catalogue_of(lab)), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == "locked\n"
        yield locker
        locker.terminate()


def lose(lab: Lab) -> None:
    """Take the catalogue away, with what SQLite keeps beside it."""
    let_go(lab)
    for path in catalogue_of(lab).parent.glob("catalogue.db*"):
        path.unlink()


def let_go(lab: Lab) -> None:
    """Close the catalogue in our own process, which else would go on with the old file."""
    with lab.app.app_context():
        db.session.remove()
        db.engine.dispose()


def answers(lab: Lab) -> dict[str, Any]:
    """What the terminal and, in the same form, the API say of each backup."""
    listed = lab.flask("backup", "list", "--json", "--status", "COMPLETED", "--limit", "200")
    assert listed.returncode == 0, listed.stderr
    return {each["filename"]: each for each in json.loads(listed.stdout)["backups"]}


def in_words(ended: "subprocess.CompletedProcess[str]") -> str:
    """What a command that failed told a person: in words, with a hint, and exit 1."""
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("Error: ") == 1
    assert "Traceback" not in ended.stderr
    assert "Hint: " in ended.stderr
    return ended.stderr


def test_a_catalogue_that_others_lock_for_ten_seconds_delays_a_backup_and_no_more(lab: Lab):
    with locked(lab.database) as table:
        create = waiting_backup(lab)
        with locked_catalogue(lab, LOCKED_FOR) as locker:
            table.release()
            assert create.wait(PATIENCE) == 0, log_of(create)
            # It has let go, but may need a moment to end; a backup that did not wait
            # would be here many seconds before it.
            assert locker.wait(2) == 0
    assert lab.rows()[lab.newest()].is_completed
    lab.check()


def test_a_start_waits_for_a_locked_catalogue_too(lab: Lab):
    with locked_catalogue(lab, 3) as locker:
        assert lab.flask("backup", "create").returncode == 0
        assert locker.poll() == 0
    lab.check()


@only_root
@pytest.mark.parametrize("queue", ["beside it", "elsewhere"])
def test_a_catalogue_that_cannot_be_written_is_told_and_nothing_is_lost(
    lab: Lab, sqlite_template: Path, queue: str
):
    # Where the queue lies beside the catalogue, it is told first.
    more = (
        {"BACKSTOP_QUEUE_URL": f"sqlite:///{lab.folder}/queue.db"} if queue != "beside it" else {}
    )
    with small_disk(lab.settings.instance_dir) as instance:
        shutil.copy(sqlite_template, instance / "catalogue.db")
        lab.make_backup()
        lab.flask("backup", "list")  # so that there is a key
        let_go(lab)
        subprocess.run(["mount", "-o", "remount,ro", instance], check=True)
        told = in_words(lab.flask("backup", "create", **more))
        assert "catalogue" in told or "instance folder" in told or "queue" in told
        subprocess.run(["mount", "-o", "remount,rw", instance], check=True)
        lab.check()
        lab.close()


@only_root
def test_a_web_process_whose_catalogue_cannot_be_written_says_so(lab: Lab, sqlite_template: Path):
    with small_disk(lab.settings.instance_dir) as instance:
        shutil.copy(sqlite_template, instance / "catalogue.db")
        web = lab.start_web()
        browser = requests.Session()
        sign_in(browser, web.port)
        filler = fill(instance)
        refused = browser.post(api(web.port), timeout=PATIENCE)
        assert refused.status_code == 503, refused.text
        assert "catalogue" in refused.json()["title"]
        assert refused.json()["hint"]
        assert browser.get(api(web.port), timeout=PATIENCE).json()["backups"] == []
        filler.unlink()
        web.terminate()
        web.wait(PATIENCE)
        lab.check()
        lab.close()


def api(port: int) -> str:
    return f"http://127.0.0.1:{port}/api/admin/backup"


def sign_in(browser: requests.Session, port: int) -> None:
    who = {"username": "admin", "password": PASSWORD}
    url = f"http://127.0.0.1:{port}/api/admin/session"
    assert browser.post(url, json=who, timeout=PATIENCE).status_code == 200


def test_a_catalogue_that_was_lost_between_runs_is_rebuilt_from_the_manifests(lab: Lab):
    for notes in ("first", "zweitens: äöü 漢字", "third\nwith two lines"):
        lab.make_backup(notes)
    before = answers(lab)
    files = {path: path.read_bytes() for path in lab.backups.glob("backup*")}
    lose(lab)
    found = lab.flask("backup", "reconcile")
    assert found.returncode == 0, found.stderr
    for name in before:
        assert f"{name}\tnot in the catalogue" in found.stdout
    assert answers(lab) == {}
    rebuilt = lab.flask("backup", "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert answers(lab) == before
    assert {path: path.read_bytes() for path in lab.backups.glob("backup*")} == files
    again = lab.flask("backup", "rebuild")
    assert again.returncode == 0, again.stderr
    assert answers(lab) == before
    lab.check()


def test_a_catalogue_that_is_lost_while_a_backup_runs_leaves_no_half_backup(lab: Lab):
    kept = lab.make_backup("kept")
    before = answers(lab)[kept]
    with locked(lab.database) as table:
        create = waiting_backup(lab)
        lose(lab)
        table.release()
        create.wait(PATIENCE)
    assert "Traceback" not in log_of(create), log_of(create)
    rebuilt = lab.flask("backup", "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    found = answers(lab)
    assert found[kept] == before
    # It may have ended on the file that has no name any more: its dump counts all the same.
    assert len(found) == (2 if create.returncode == 0 else 1), log_of(create)
    lab.check()


def test_web_and_worker_survive_the_loss_of_their_catalogue(lab: Lab):
    kept = lab.make_backup("kept")
    before = answers(lab)[kept]
    worker, web = lab.start_worker(), lab.start_web()
    browser = requests.Session()
    sign_in(browser, web.port)
    with locked(lab.database) as table:
        started = browser.post(api(web.port), headers={"Prefer": "respond-async"}, timeout=PATIENCE)
        assert started.status_code == 202, started.text
        until_it_waits(lab, worker)
        lose(lab)
        told = browser.get(api(web.port), timeout=PATIENCE)
        assert told.status_code in (200, 401, 503), told.text
        assert told.headers["Content-Type"].startswith("application/")
        table.release()
    assert lab.flask("backup", "rebuild").returncode == 0
    for each in (worker, web):
        each.terminate()
        each.wait(PATIENCE)
    assert "Traceback" not in log_of(web)
    assert answers(lab)[kept] == before
    lab.check()


@pytest.mark.parametrize("damage", ["cut in half", "header", "pages", "empty"])
def test_a_corrupt_catalogue_is_told_and_rebuilt(lab: Lab, damage: str):
    dice = chance(f"catalogue {damage}")
    lab.make_backup("first")
    lab.make_backup("second")
    before = answers(lab)
    raw = bytearray(settled(lab))
    match damage:
        case "cut in half":
            del raw[len(raw) // 2 :]
        case "header":
            raw[:100] = dice.randbytes(100)
        case "pages":  # all but the first, which tells the schema
            raw[PAGE:] = dice.randbytes(len(raw) - PAGE)
        case "empty":
            raw.clear()
    lose(lab)
    catalogue_of(lab).write_bytes(raw)
    if damage != "empty":  # which is a new one to SQLite
        for words in ("list", "create"):
            told = in_words(lab.flask("backup", words))
            assert "catalogue" in told, f"{words}, FAULTS_SEED={SEED}: {told}"
    rebuilt = lab.flask("backup", "rebuild")
    if rebuilt.returncode != 0:  # the broken one is in the way
        in_words(rebuilt)
        lose(lab)
        rebuilt = lab.flask("backup", "rebuild")
    assert rebuilt.returncode == 0, f"FAULTS_SEED={SEED}: {rebuilt.stderr}"
    assert answers(lab) == before
    lab.check()


@pytest.mark.parametrize("damage", ["cut in half", "pages"])
def test_a_web_process_tells_a_catalogue_that_became_corrupt(lab: Lab, damage: str):
    dice = chance(f"web {damage}")
    lab.make_backup("first")
    web = lab.start_web()
    browser = requests.Session()
    sign_in(browser, web.port)
    whole = settled(lab)
    let_go(lab)
    with catalogue_of(lab).open("r+b") as file:
        if damage == "pages":
            file.seek(PAGE)
            file.write(dice.randbytes(len(whole) - PAGE))
        else:
            file.truncate(len(whole) // 2 // PAGE * PAGE)
    told = browser.post(api(web.port), timeout=PATIENCE)
    # "database disk image is malformed" is a DatabaseError, but no OperationalError.
    assert told.status_code == 503, told.text
    assert "catalogue" in told.json()["title"]
    assert told.json()["hint"]
    web.terminate()
    web.wait(PATIENCE)
    lose(lab)
    catalogue_of(lab).write_bytes(whole)
    lab.check()


def settled(lab: Lab) -> bytes:
    """The catalogue in one file."""
    with closing(sqlite3.connect(catalogue_of(lab))) as catalogue:
        catalogue.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return catalogue_of(lab).read_bytes()
