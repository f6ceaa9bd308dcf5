"""A canary among the secrets: it must not sing anywhere."""

import base64
import json
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import MetaData

from app.errors import ConfigurationError
from app.extensions import db
from app.models import Status
from app.postgres.conninfo import Conninfo
from app.services.backups import listing
from app.services.backups.filters import Filters
from tests.conftest import HELD, HOLD, Database, as_catalogue, signed_in, url_of, working

# Its first and last words have no character that anybody would have to escape,
# so a part of it is found too, in whatever form the rest comes.
FIRST, LAST = f"kanaria{secrets.token_hex(6)}", f"zeisig{secrets.token_hex(6)}"
CANARY = f"{FIRST}'ü \"%41\\:@/?#&=+{LAST}"
SESSION_KEY = f"key of the sessions {secrets.token_hex(12)}"
NEEDLES = [
    FIRST.encode(),
    LAST.encode(),
    base64.b64encode(CANARY.encode()).rstrip(b"="),
    SESSION_KEY.encode(),
]


def singing(places: dict[str, bytes | str]) -> list[str]:
    """The places where a part of a secret can be seen."""
    return [
        where
        for where, what in places.items()
        if any(each in (what.encode() if isinstance(what, str) else what) for each in NEEDLES)
    ]


@dataclass(frozen=True)
class Canary:
    """A role that may back up the shop, and whose password must not be seen."""

    role: str
    server: Conninfo

    def url(self, database: str, password: str = CANARY) -> str:
        return url_of(self.server, database, self.role, password)


@pytest.fixture
def canary(shop: Database, server: Conninfo) -> Iterator[Canary]:
    role = f"canary_{secrets.token_hex(4)}"
    shop.run(f"CREATE ROLE {role} LOGIN PASSWORD %s", CANARY)
    shop.run(f"GRANT pg_read_all_data TO {role}")
    yield Canary(role, server)
    shop.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.fixture
def make_canary(
    make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Flask]:
    """Make a panel whose settings came from the environment, as they usually do."""

    def make(url: str, **changes: Any) -> Flask:
        for name in ("DATABASE_URL", "BACKSTOP_CATALOGUE_URL"):
            monkeypatch.setenv(name, url)
        monkeypatch.setenv("SECRET_KEY", SESSION_KEY)
        monkeypatch.setenv("BACKSTOP_ADMIN_PASSWORD", CANARY)
        return make_app(database_url=url, secret_key=SESSION_KEY, lock_timeout=60, **changes)

    return make


def command_lines() -> dict[str, bytes]:
    """The arguments of every process of this machine: everybody may read them."""
    return {str(path): content for path, content in read_of(Path("/proc").glob("[0-9]*/cmdline"))}


def child_environments() -> dict[str, bytes]:
    children = psutil.Process().children(recursive=True)
    paths = [Path(f"/proc/{child.pid}/environ") for child in children]
    return {str(path): content for path, content in read_of(paths)}


def read_of(paths: Any) -> Iterator[tuple[Path, bytes]]:
    for path in paths:
        try:
            yield path, path.read_bytes()
        except OSError:  # it has ended meanwhile
            continue


def rows_of(app: Flask) -> dict[str, str]:
    """Every row of every table of the catalogue, whatever it is called."""
    with app.app_context():
        found = MetaData()
        found.reflect(db.engine)
        assert {"database_backups", "admins", "admin_sessions"} <= set(found.tables)
        return {
            f"row {number} of {name}": repr(tuple(row)) + str(tuple(row))
            for name, table in found.tables.items()
            for number, row in enumerate(db.session.execute(table.select()))
        }


def files_of(app: Flask) -> dict[str, bytes]:
    """Everything below the instance folder and the backups."""
    settings = app.extensions["backstop.settings"]
    return {
        str(path): path.read_bytes()
        for folder in (settings.instance_dir, settings.backup_dir)
        for path in folder.rglob("*")
        if path.is_file()
    }


def answers_to(client: FlaskClient, filenames: list[str]) -> dict[str, str]:
    """Every page and every answer that tells of these backups."""
    paths = ["/admin/backup", "/api/admin/backup", "/admin/login"]
    for name in filenames:
        paths += [f"/admin/backup/{name}", f"/admin/backup/{name}/delete"]
        paths += [f"/api/admin/backup/{name}/details", f"/api/admin/backup/{name}"]
    found = {}
    for path in paths:
        answer = client.get(path, buffered=True)
        found[path] = answer.data.decode("utf-8", "replace") + str(answer.headers)
    return found


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)
    return found


def test_a_planted_canary_would_be_found():
    """Where the other tests look, this one puts it."""
    sleeper = "import sys; print('awake', flush=True); sys.stdin.read()"
    spoken = [sys.executable, "-c", sleeper, quote(CANARY, safe="")]
    environment = {"PGPASSWORD": CANARY}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(spoken, env=environment, **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"awake\n"  # before, it has no arguments yet
        assert singing(command_lines()) == [f"/proc/{child.pid}/cmdline"]
        assert singing(child_environments()) == [f"/proc/{child.pid}/environ"]
        child.communicate()
    escaped = {"json": json.dumps(CANARY), "base64": base64.b64encode(CANARY.encode())}
    assert singing(escaped | {"nothing": "kanaria"}) == ["json", "base64"]


def test_no_process_shows_the_password_while_a_backup_runs(
    make_canary: Callable[..., Flask], shop: Database, canary: Canary
):
    app = make_canary(canary.url(shop.name))
    client = signed_in(app)
    shop.run(HELD)
    with closing(psycopg2.connect(shop.url)) as holder, working(app):
        with holder.cursor() as cursor:
            cursor.execute(HOLD)
        answer = client.post("/api/admin/backup", headers={"Prefer": "respond-async"})
        filename = answer.get_json()["backup"]["filename"]
        wait_for(
            lambda: shop.run(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = %s AND wait_event_type = 'Lock'",
                f"backstop {filename}",
            ),
            "pg_dump to wait",
        )
        environments = child_environments()
        assert singing(command_lines()) == []
        assert singing(environments) == []
        activity = shop.run("SELECT pg_stat_activity::text FROM pg_stat_activity")
        assert singing({str(number): row[0] for number, row in enumerate(activity)}) == []
        assert singing(answers_to(client, [filename])) == []
        private = app.extensions["backstop.settings"].instance_dir / "private"
        holders = [path for path in private.iterdir() if singing({"": path.read_bytes()})]
        assert holders == []  # pg_dump goes on with a session of ours
        assert private.stat().st_mode & 0o777 == 0o700
        holder.rollback()
        details = f"/api/admin/backup/{filename}/details"
        wait_for(lambda: client.get(details).get_json()["status"] == "COMPLETED", "the backup")
    assert list(private.iterdir()) == []
    assert singing(files_of(app)) == []


def test_the_password_is_nowhere_after_backups_that_succeeded_and_failed(
    make_canary: Callable[..., Flask],
    shop: Database,
    canary: Canary,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    caplog.set_level(logging.DEBUG)
    right = canary.url(shop.name)
    shop.run("CREATE TABLE plans (id int)")
    spoken: dict[str, str] = {}
    statuses: list[str] = []

    def back_up(url: str) -> None:
        app = make_canary(url)
        client = signed_in(app)
        with working(app):
            answer = client.post("/api/admin/backup", json={"notes": "a canary"})
        backup = answer.get_json(force=True)["backup"]
        statuses.append(backup["status"])
        spoken[f"the answer of {len(statuses)}"] = answer.text + str(answer.headers)
        if backup["status"] == "COMPLETED":
            client.patch(f"/api/admin/backup/{backup['filename']}", json={"notes": "edited"})

    back_up(right)
    shop.run(f"REVOKE pg_read_all_data FROM {canary.role}")
    back_up(right)  # permission denied
    back_up(canary.url(shop.name, f"{CANARY}x"))  # a wrong password
    back_up(canary.url("nowhere"))  # no such database
    back_up(f"postgresql://u:{quote(CANARY, safe='')}@127.0.0.1:1/nowhere")  # no server
    assert statuses == ["COMPLETED", "FAILED", "FAILED", "FAILED", "FAILED"]

    app = make_canary(right)
    with app.app_context():
        filenames = [each.filename for each in listing.list_backups().backups]
    spoken |= answers_to(signed_in(app), filenames)
    assert len(spoken) == len(statuses) + 3 + 4 * len(filenames)
    assert singing(spoken) == []
    assert singing(rows_of(app)) == []
    assert singing(files_of(app)) == []
    manifest = f"{filenames[-1]}.json"
    assert any(path.endswith(manifest) for path in files_of(app))
    out, err = capfd.readouterr()
    assert singing({"log": caplog.text, "stdout": out, "stderr": err}) == []
    assert "backup failed" in caplog.text
    assert not list(app.extensions["backstop.settings"].instance_dir.glob("private/*"))


@pytest.mark.parametrize(
    "password",
    [
        f"{FIRST}%zz{LAST}",
        f"{FIRST}%00{LAST}",
        f"{FIRST}[{LAST}",
        f"{FIRST}\u2100{LAST}",
        f"{FIRST} {LAST}",
        f"{FIRST}#{LAST}",
        f"{FIRST}:{LAST}",
        # What comes after these could pass for a host, a port or a database, and
        # would stand in rows, pages and logs from then on.
        f"{FIRST}/{LAST}",
        f"{FIRST}?{LAST}",
        f"{FIRST}@{LAST}",
    ],
    ids=lambda password: ascii(password).replace(FIRST, "…").replace(LAST, "…"),
)
def test_a_password_that_was_not_percent_encoded_is_not_shown(
    make_canary: Callable[..., Flask], caplog: pytest.LogCaptureFixture, password: str
):
    """The commonest mistake in a URL."""
    caplog.set_level(logging.DEBUG)
    try:
        app = make_canary(f"postgresql://somebody:{password}@127.0.0.1:1/shop")
    except ConfigurationError as error:  # the start is refused
        refused = error.in_words()
    else:
        refused = ""
    assert singing({"words": refused, "log": caplog.text}) == []
    if refused:
        return
    client = signed_in(app)
    with working(app):
        answer = client.post("/api/admin/backup")
    assert answer.status_code == 502
    with app.app_context():
        failed = [b.filename for b in listing.list_backups(Filters(status=Status.FAILED)).backups]
    spoken = {"answer": answer.text, "log": caplog.text} | answers_to(client, failed)
    assert singing(spoken | rows_of(app)) == []


def test_a_catalogue_that_is_away_does_not_show_its_password(
    make_canary: Callable[..., Flask],
    new_database: Callable[..., Database],
    canary: Canary,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG)
    catalogue = new_database()
    catalogue.run(f"GRANT ALL ON SCHEMA public TO {canary.role}")
    app = make_canary(canary.url("shop"), catalogue_url=as_catalogue(canary.url(catalogue.name)))
    app.testing = False
    client = signed_in(app)
    with app.app_context():
        db.engine.dispose()
    catalogue.run(f"ALTER ROLE {canary.role} NOLOGIN")
    answers = {path: client.get(path) for path in ("/api/admin/backup", "/api/admin/backup/x")}
    for path, answer in answers.items():
        assert answer.status_code == 503, path
    spoken = {path: answer.text for path, answer in answers.items()}
    assert singing(spoken | {"log": caplog.text}) == []
    assert "not permitted to log in" in caplog.text
    assert os.environ["SECRET_KEY"] == SESSION_KEY  # it was there to be seen
    catalogue.run(f"DROP OWNED BY {canary.role}")
