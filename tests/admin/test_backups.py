"""The pages: what they show, what their forms do, and what they never let through."""

import time
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.errors import AppError, Interrupted
from app.extensions import writing
from app.models import DatabaseBackup, Level, Proof, Result, Status, Trigger
from app.models.types import now
from app.services.access import admins
from app.services.backups import listing
from app.services.backups.filters import Filters
from app.services.jobs import claims
from app.services.jobs.outcomes import record_failure
from tests.api.test_downloads import CONTENT, dump_of, planted, state_of
from tests.conftest import PASSWORD, Database, panel_in, signed_in

LIST = "/admin/backup"
HOSTILE = "\"><script>alert(1)</script><img src=x onerror='a()'>{{7*7}}"
VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """A page as a browser would read it."""

    def __init__(self, answer: TestResponse) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[list[str], str]] = []  # where it stands, what it says
        self.forms: list[dict[str, str]] = []  # with their fields' names and values
        self._open: list[str] = []
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "form":
            self.forms.append(attributes)
        elif attributes.get("name") and "form" in self._open:
            self.forms[-1][f"field {attributes['name']}"] = attributes.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((list(self._open), data.strip()))

    @property
    def text(self) -> str:
        return " ".join(text for _, text in self.texts)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [
            found
            for name, found in self.elements
            if name == tag and attributes.items() <= found.items()
        ]

    def within(self, tag: str) -> list[str]:
        """The texts directly within elements of this kind."""
        return [text for where, text in self.texts if where[-1:] == [tag]]

    def link(self, name: str) -> str | None:
        """Where the first link of this name goes."""
        links = [where for where in self.all("a") if where.get("href")]
        told = dict(reversed(list(zip(self._names(), links, strict=True))))
        return told[name]["href"] if name in told else None

    def _names(self) -> list[str]:
        texts = [text for where, text in self.texts if "a" in where]
        assert len(texts) == len(self.all("a")), texts
        return texts


@pytest.fixture
def empty(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    """A panel without any backup."""
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


def seen(client: FlaskClient, url: str, status: int = 200) -> Page:
    answer = client.get(url)
    assert answer.status_code == status, answer.text
    assert answer.content_type == "text/html; charset=utf-8"
    return Page(answer)


def token_on(client: FlaskClient, url: str = LIST) -> str:
    return seen(client, url).all("input", name="csrf_token")[0]["value"]


def sent(client: FlaskClient, url: str, page: str = LIST, **fields: str) -> TestResponse:
    """A form sent as a browser would, with the token of the page it stands on."""
    return client.post(url, data={"csrf_token": token_on(client, page)} | fields)


def followed(client: FlaskClient, answer: TestResponse) -> Page:
    assert answer.status_code == 302, answer.text
    return seen(client, answer.location)


def row_of(client: FlaskClient, filename: str) -> Page:
    """The list with this one backup in it."""
    page = seen(client, f"{LIST}?q={filename}")
    assert len(page.all("a", title=filename, href=f"{LIST}/{filename}")) == 1
    return page


def end_pending(app: Flask) -> None:
    with app.app_context():
        for backup in listing.list_backups(Filters(status=Status.PENDING)).backups:
            record_failure(backup.id, AppError("ended by the test"))


# A whole life, with a real worker


@pytest.mark.usefixtures("worker")
def test_one_click_makes_a_backup_that_is_downloaded_and_deleted(
    app: Flask, admin: FlaskClient, shop: Database
):
    page = seen(admin, LIST)
    assert "No backups yet" in page.text
    assert "There is no good backup yet" in page.text
    assert f"Back up {shop.name} on" in page.text

    page = followed(admin, sent(admin, LIST, notes="first of all"))
    assert "has been started." in page.text
    deadline = time.monotonic() + 60
    while seen(admin, f"{LIST}?status=COMPLETED").link("Download") is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    page = seen(admin, LIST)
    assert "has been started" not in page.text  # said once
    assert "Last good backup" in page.text
    assert "first of all" in page.text
    assert "admin (admin)" in page.text

    download = page.link("Download") or ""
    filename = download.split("/")[-2]
    answer = admin.get(download, buffered=True)
    assert answer.data == dump_of(app, filename).read_bytes()
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{filename}"'

    details = seen(admin, f"{LIST}/{filename}")
    assert "/createdb " in details.text
    assert "/pg_restore --exit-on-error '--dbname=" in details.text
    assert f"{shop.name}_restored" in details.text
    assert str(dump_of(app, filename)) in details.text
    assert "You need pg_restore 17 or newer." in details.text
    assert 'dumping contents of table "public.orders"' in details.text

    url = f"{LIST}/{filename}/delete"
    page = followed(admin, sent(admin, url, page=url, name=shop.name))
    assert f"Backup {filename} has been deleted." in page.text
    assert "No backups yet" in page.text
    assert not dump_of(app, filename).exists()


# The list and the details


def test_a_completed_backup_can_be_downloaded_and_deleted(panel: Flask, ann: FlaskClient):
    moment = now()
    filename = planted(
        panel,
        notes="before the migration",
        trigger=Trigger.API,
        started_at=moment - timedelta(seconds=125),
        finished_at=moment,
    )
    page = row_of(ann, filename)
    for told in ("shop", "Completed", "10.0 KiB", "2 min 5 s", "before the migration", "ann (api)"):
        assert told in page.text
    assert page.link("Download") == f"{LIST}/{filename}/download"
    assert page.link("Delete") == f"{LIST}/{filename}/delete"
    assert seen(ann, f"{LIST}/{filename}").link("Download") == f"{LIST}/{filename}/download"


def test_a_failed_backup_says_why_and_offers_no_download(panel: Flask, ann: FlaskClient):
    filename = planted(
        panel,
        status=Status.FAILED,
        error_message="pg_dump failed",
        error_detail="permission denied for table plans",
        error_hint="Grant the role what it lacks.",
    )
    page = row_of(ann, filename)
    assert page.all("span", **{"class": "status status-failed"})
    assert "pg_dump failed" in page.text
    assert page.link("Download") is None
    assert page.link("Delete")
    details = seen(ann, f"{LIST}/{filename}")
    assert "pg_dump failed permission denied for table plans Grant the role" in details.text
    assert details.link("Download") is None
    assert "Restore it by hand" not in details.text


@pytest.mark.parametrize("running", [True, False])
def test_a_pending_backup_offers_nothing_and_refreshes_itself(
    panel: Flask, ann: FlaskClient, running: bool
):
    claim = {"claimed_by": claims.runner(), "lease_until": now() + timedelta(minutes=1)}
    filename = planted(
        panel,
        status=Status.PENDING,
        database=f"running {running}",
        started_at=now() if running else None,
        finished_at=None,
        **(claim if running else {}),
    )
    page = row_of(ann, filename)
    assert page.all("span", **{"class": "status status-pending"})
    assert page.all("tr", **{"data-pending": ""})
    details = seen(ann, f"{LIST}/{filename}")
    assert details.all("div", **{"data-refresh": "head", "data-pending": ""})
    assert ("Waiting for a worker." in details.text) is not running
    for each in (page, details):
        assert each.link("Download") is each.link("Delete") is None
    end_pending(panel)
    assert not seen(ann, f"{LIST}/{filename}").all("div", **{"data-pending": ""})


def test_a_missing_file_is_shown_as_missing_and_offers_no_download(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    dump_of(panel, filename).unlink()
    page = row_of(ann, filename)
    assert "File missing" in page.text
    assert page.all("span", **{"class": "status status-completed"}) == []
    details = seen(ann, f"{LIST}/{filename}")
    assert "The dump is missing" in details.text
    assert page.link("Download") is details.link("Download") is None
    assert ann.get(f"{LIST}/{filename}/download").status_code == 404


def test_the_newest_good_backup_is_told_first(panel: Flask, ann: FlaskClient):
    good, gone = planted(panel), planted(panel)
    dump_of(panel, gone).unlink()
    page = seen(ann, LIST)
    assert "Last good backup" in page.text
    assert page.link(good) == f"{LIST}/{good}"
    assert page.link(gone) is None


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Flask]:
    """A panel with 60 backups, newest last."""
    with panel_in(tmp_path_factory.mktemp("many"), sqlite_template) as app:
        with app.app_context(), writing() as session:
            session.add_all(
                DatabaseBackup(
                    filename=f"backup_number-{number:02d}.dump",
                    created_at=now() - timedelta(minutes=100 - number),
                    status=Status.FAILED if number % 2 else Status.COMPLETED,
                    server="s",
                    database="shop",
                    trigger=Trigger.CLI,
                    notes=f"every & <one>, {number}",
                )
                for number in range(60)
            )
        yield app


def numbers_on(page: Page) -> list[int]:
    titles = [found.get("title", "") for found in page.all("a")]
    return [int(title[14:16]) for title in titles if title.startswith("backup_number")]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", list(range(59, -1, -1))),
        (f"?q={quote('every & <')}", list(range(59, -1, -1))),
        ("?status=FAILED&q=every", list(range(59, -1, -2))),
    ],
)
def test_older_leads_through_all_pages_and_newest_back(many: Flask, query: str, numbers: list[int]):
    client = signed_in(many)
    page = first = seen(client, f"{LIST}{query}")
    found = numbers_on(page)
    assert len(found) == 25
    assert first.link("Newest") is None
    while older := page.link("Older"):
        page = seen(client, older)
        found += numbers_on(page)
    assert found == numbers
    assert numbers_on(seen(client, page.link("Newest") or "")) == numbers_on(first)


def test_the_search_shows_what_it_was_asked_and_what_fits(many: Flask):
    client = signed_in(many)
    page = seen(client, f"{LIST}?q=NUMBER-07&status=FAILED")
    assert numbers_on(page) == [7]
    assert page.all("input", type="search", id="q")[0]["value"] == "NUMBER-07"
    assert page.all("option", value="FAILED", selected="")
    page = seen(client, f"{LIST}?q=nothing+like+it")
    assert "No backup matches this search." in page.text
    assert page.link("Show all") == LIST
    assert page.all("input", checked="") == []
    page = seen(client, f"{LIST}?status=nonsense", 422)
    assert "Status must be one of PENDING, COMPLETED, FAILED" in page.text
    assert "Q has at most 200 characters" in seen(client, f"{LIST}?q={'x' * 201}", 422).text


def test_a_cursor_that_cannot_be_meant_is_an_error_page(ann: FlaskClient):
    assert "Before is not a cursor" in seen(ann, f"{LIST}?before=x", 422).text


def test_the_list_without_backups_says_how_to_make_one(empty: Flask):
    page = seen(signed_in(empty), LIST)
    assert "No backups yet" in page.text
    assert "flask backup create" in page.text
    assert "There is no good backup yet" in page.text
    assert page.all("table") == []


# Create, notes, delete


def test_a_second_backup_is_told_what_is_in_the_way(empty: Flask):
    client = signed_in(empty)
    followed(client, sent(client, LIST, notes="first"))
    page = followed(client, sent(client, LIST, notes="second"))
    assert "is still being made." in page.text
    assert "flask worker" in page.text
    assert len(page.all("tr", **{"data-pending": ""})) == 1


@pytest.mark.parametrize("notes", ["x" * 2001, "bell \a", "escape \x1b[31m"])
@pytest.mark.parametrize("form", ["of a new backup", "of an old backup"])
def test_notes_that_cannot_be_kept_come_back_with_the_reason(
    panel: Flask, ann: FlaskClient, form: str, notes: str
):
    url = f"{LIST}/{planted(panel, notes='kept')}"
    before = state_of(panel)
    if form == "of a new backup":
        answer = sent(ann, LIST, notes=notes)
    else:
        answer = sent(ann, f"{url}/notes", page=url, notes=notes)
    assert answer.status_code == 422
    page = Page(answer)
    assert page.within("textarea") == [notes]
    assert "otes must not" in page.text
    assert state_of(panel) == before


def test_notes_are_changed_on_the_page_of_the_backup(panel: Flask, ann: FlaskClient):
    url = f"{LIST}/{planted(panel, notes='old')}"
    notes = 'one\r\ntwo  "quoted" <b> ünïcödé 🐘'
    page = followed(ann, sent(ann, f"{url}/notes", page=url, notes=notes))
    assert "The notes have been saved." in page.text
    assert page.within("textarea") == [notes.replace("\r\n", "\n")]
    followed(ann, sent(ann, f"{url}/notes", page=url, notes=""))
    assert seen(ann, url).within("textarea") == []


@pytest.mark.parametrize("typed", ["", "sho", "SHOP", "shop2", "*", "backup", "s hop"])
def test_delete_asks_for_the_databases_name_and_takes_no_other(
    panel: Flask, ann: FlaskClient, typed: str
):
    url = f"{LIST}/{planted(panel)}/delete"
    assert "Type shop to confirm" in seen(ann, url).text
    before = state_of(panel)
    answer = sent(ann, url, page=url, name=typed)
    assert answer.status_code == 422
    assert "Type shop to delete a backup of it." in Page(answer).text
    assert state_of(panel) == before


@pytest.mark.parametrize(
    ("database", "typed"),
    [
        ("shop", "shop"),
        ("shop", " shop "),
        ("Größe \"q\" 'x'; --", "Größe \"q\" 'x'; --"),
        (" in spaces ", " in spaces "),
    ],
)
def test_delete_takes_the_databases_name_whatever_it_is(
    panel: Flask, ann: FlaskClient, database: str, typed: str
):
    filename = planted(panel, database=database)
    url = f"{LIST}/{filename}/delete"
    page = followed(ann, sent(ann, url, page=url, name=typed))
    assert f"Backup {filename} has been deleted." in page.text
    assert not dump_of(panel, filename).exists()
    assert ann.get(f"{LIST}/{filename}").status_code == 404


def test_a_failed_backup_is_deleted_without_a_name(panel: Flask, ann: FlaskClient):
    filename = planted(panel, status=Status.FAILED)
    url = f"{LIST}/{filename}/delete"
    assert "to confirm" not in seen(ann, url).text
    assert "has been deleted." in followed(ann, sent(ann, url, page=url)).text


def test_a_running_backup_shows_its_progress_and_can_be_cancelled(panel: Flask, ann: FlaskClient):
    filename = planted(
        panel,
        status=Status.PENDING,
        finished_at=None,
        claimed_by=claims.runner(),
        lease_until=now() + timedelta(minutes=1),
        progress={
            "phase": "dumping",
            "percent": 41.5,
            "tablesDone": 3,
            "tablesTotal": 21,
            "table": HOSTILE,
            "isLast": True,
        },
    )
    for url in (LIST, f"{LIST}/{filename}"):
        (bar,) = seen(ann, url).all("progress")
        assert (bar["value"], bar["max"]) == ("41.5", "100")
        assert f"Dumping {HOSTILE}, 3 of 21 tables done" in bar["aria-label"]
    page = seen(ann, f"{LIST}/{filename}")
    assert "41.5 %" in page.text
    assert "left" in page.text
    assert "Its worker stops when this has ended." in page.text
    answer = sent(ann, f"{LIST}/{filename}/cancel", f"{LIST}/{filename}")
    assert answer.status_code == 302
    page = seen(ann, f"{LIST}/{filename}")
    assert f"Backup {filename} will end in a moment." in page.text
    assert "admin has cancelled it" in page.text
    assert "Cancel backup" not in page.text
    with panel.app_context():
        record_failure(listing.get_backup(filename).id, Interrupted("it ends"))
    page = seen(ann, f"{LIST}/{filename}")
    assert "Cancelled by admin" in page.text
    sent(ann, f"{LIST}/{filename}/cancel", LIST)
    assert "has ended already: it is FAILED" in seen(ann, LIST).text


def test_a_pending_backup_is_not_deleted(panel: Flask, ann: FlaskClient):
    filename = planted(panel, status=Status.PENDING, database="to keep")
    page = followed(ann, sent(ann, f"{LIST}/{filename}/delete", name="to keep"))
    assert "is still being made" in page.text
    end_pending(panel)


def test_a_dump_that_cannot_be_deleted_is_told_and_its_row_stays(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    dump_of(panel, filename).unlink()
    dump_of(panel, filename).mkdir()
    url = f"{LIST}/{filename}/delete"
    answer = sent(ann, url, page=url, name="shop")
    assert answer.status_code == 502
    assert "cannot be deleted" in Page(answer).text
    assert seen(ann, f"{LIST}/{filename}")


@pytest.mark.parametrize("way", ["", "/download", "/delete"])
def test_a_backup_that_is_not_there_is_a_page_not_found(ann: FlaskClient, way: str):
    assert "No backup has this name" in seen(ann, f"{LIST}/backup_x.dump{way}", 404).text


# Forgery


def test_no_form_does_anything_without_its_token(panel: Flask, ann: FlaskClient):
    url = f"{LIST}/{planted(panel, notes='kept')}"
    before = state_of(panel)
    strangers = token_on(signed_in(panel))
    for token in ({}, {"csrf_token": ""}, {"csrf_token": "x"}, {"csrf_token": strangers}):
        for target in (LIST, f"{url}/notes", f"{url}/delete", "/admin/theme", "/admin/logout"):
            form = token | {"notes": "forged", "name": "shop", "theme": "dark"}
            assert ann.post(target, data=form).status_code == 400
    assert state_of(panel) == before
    assert seen(ann, LIST)


def test_a_token_does_not_outlive_its_session(panel: Flask):
    client = signed_in(panel)
    old = token_on(client)
    client.delete("/api/admin/session")
    body = {"username": "admin", "password": PASSWORD}
    client.post("/api/admin/session", json=body)
    assert client.post(LIST, data={"csrf_token": old}).status_code == 400


def test_reading_changes_nothing(panel: Flask, ann: FlaskClient):
    url = f"{LIST}/{planted(panel)}"
    before = state_of(panel)
    for path in (LIST, url, f"{url}/delete", f"{url}/notes", "/admin/logout", "/admin/theme"):
        assert ann.get(path).status_code in (200, 405)
    assert state_of(panel) == before
    assert seen(ann, LIST)


def test_a_dump_whose_content_is_a_page_is_still_a_download(panel: Flask, ann: FlaskClient):
    filename = planted(panel, b"<script>alert(1)</script>")
    answer = ann.get(f"{LIST}/{filename}/download", buffered=True)
    assert answer.content_type == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert ann.get(f"{LIST}/{planted(panel)}/download", buffered=True).data == CONTENT


# Every page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Flask]:
    """A panel where every text that somebody else can choose is hostile."""
    url = f"postgresql://u:p@127.0.0.1:1/{quote(HOSTILE, safe='')}"
    folder = tmp_path_factory.mktemp("hostile")
    with panel_in(folder, sqlite_template, database_url=url) as app:
        with app.app_context():
            admins.create_admin(HOSTILE, PASSWORD)
        yield app


def signed_in_as(app: Flask, username: str) -> FlaskClient:
    client = app.test_client()
    body = {"username": username, "password": PASSWORD}
    assert client.post("/api/admin/session", json=body).status_code == 200
    return client


def hostile_backups(app: Flask) -> dict[str, str]:
    """One backup in each state; by state."""
    told = {"notes": HOSTILE, "database": HOSTILE, "created_by": HOSTILE, "log": HOSTILE}
    told |= {"server_version": HOSTILE[:32], "tool_version": HOSTILE[:32], "server": HOSTILE}
    failed = {"error_message": HOSTILE, "error_detail": HOSTILE, "error_hint": HOSTILE}
    made = {
        "completed": planted(app, **told),
        "missing": planted(app, **told),
        "failed": planted(app, status=Status.FAILED, **told, **failed),
        "pending": planted(app, status=Status.PENDING, finished_at=None, **told),
    }
    dump_of(app, made["missing"]).unlink()
    return made


Pages = dict[str, tuple[FlaskClient, TestResponse]]


@pytest.fixture(scope="module")
def pages(hostile: Flask) -> Pages:
    """Every page there is, as an admin with a hostile name sees it."""
    client, visitor = signed_in_as(hostile, HOSTILE), hostile.test_client()
    made = hostile_backups(hostile)
    delete = f"{LIST}/{made['completed']}/delete"
    wrong = {"username": HOSTILE, "password": HOSTILE}
    seen_by_visitor = {
        "sign-in": visitor.get("/admin/login"),
        "a wrong sign-in": sent(visitor, "/admin/login", "/admin/login", **wrong),
        "an empty sign-in": sent(visitor, "/admin/login", "/admin/login", username=HOSTILE),
    }
    found = {f"a {state} one": client.get(f"{LIST}/{name}") for state, name in made.items()}
    found |= {
        "the list": client.get(LIST),
        "a search": client.get(f"{LIST}?q={quote(HOSTILE)}"),
        "a search in vain": client.get(f"{LIST}?q={quote(HOSTILE * 2)}&status={quote(HOSTILE)}"),
        "wrong notes for a new one": sent(client, LIST, notes=HOSTILE + "\a"),
        "wrong notes": sent(client, f"{LIST}/{made['failed']}/notes", notes=HOSTILE + "\a"),
        "delete": client.get(delete),
        "a wrong name": sent(client, delete, delete, name=HOSTILE + "x"),
        "no token": client.post(LIST),
        "not found": client.get(f"/admin/{quote(HOSTILE)}"),
        "no such backup": client.get(f"{LIST}/{quote(HOSTILE, safe='')}"),
        "a wrong method": client.put(LIST),
        "too large": client.post(LIST, data={"notes": "x" * 70_000}),
        "another site": client.post(LIST, headers={"Origin": "http://evil.example"}),
        "a wrong cursor": client.get(f"{LIST}?before={quote(HOSTILE)}"),
    }
    sent(client, LIST, notes=HOSTILE)
    found["a conflict"] = client.get(sent(client, LIST, notes=HOSTILE).location)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "get_backup", broken)
        found["a bug"] = client.get(f"{LIST}/x")
    everything = {name: (client, answer) for name, answer in found.items()}
    return everything | {name: (visitor, answer) for name, answer in seen_by_visitor.items()}


def broken(*_: object) -> None:
    raise RuntimeError(HOSTILE)


def test_nothing_that_somebody_wrote_becomes_part_of_a_page(pages: Pages):
    shown = 0
    for name, (_, answer) in pages.items():
        page = Page(answer)
        assert "<script>alert" not in answer.text, name
        assert page.all("img") == [], name
        assert "}}49" not in answer.text.replace("{{7*7", "}}"), name
        shown += HOSTILE in page.text
    assert shown >= 10  # it was there, and told as it is


def test_no_page_carries_a_script_or_a_style_of_its_own(pages: Pages):
    for name, (_, answer) in pages.items():
        page = Page(answer)
        assert page.all("style") == page.within("script") == [], name
        assert all(found.get("src", "").startswith("/static/") for found in page.all("script"))
        for tag, attributes in page.elements:
            assert "style" not in attributes, (name, tag)
            assert not [each for each in attributes if each.startswith("on")], (name, tag)
            for each in ("href", "src", "action"):
                target = attributes.get(each, "")
                assert not target.startswith(("javascript:", "data:", "//", "http")), name


def test_every_page_is_whole_and_has_the_headers_of_one(pages: Pages):
    for name, (_, answer) in pages.items():
        page = Page(answer)
        assert answer.content_type == "text/html; charset=utf-8", name
        assert answer.text.rstrip().endswith("</html>"), name
        assert len(page.all("title")) == len(page.all("main")) == 1, name
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"], name
        assert answer.headers["Cache-Control"] == "no-store", name
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids)), name


def test_the_error_pages_are_all_there(pages: Pages):
    statuses = {name: answer.status_code for name, (_, answer) in pages.items()}
    assert statuses["another site"] == 403
    assert statuses["not found"] == statuses["no such backup"] == 404
    assert statuses["a wrong method"] == 405
    assert statuses["too large"] == 413
    assert statuses["no token"] == 400
    assert statuses["a wrong cursor"] == statuses["wrong notes"] == 422
    assert statuses["a wrong sign-in"] == 401
    assert statuses["a bug"] == 500
    assert HOSTILE not in Page(pages["a bug"][1]).text


def test_every_form_that_changes_something_has_its_token(pages: Pages):
    forms = [(name, form) for name, (_, answer) in pages.items() for form in Page(answer).forms]
    assert len(forms) > 20
    for name, form in forms:
        if form["method"] == "post":
            assert form["field csrf_token"], name
        else:
            assert "field csrf_token" not in form, name  # it would stand in addresses and logs


def test_every_link_leads_somewhere(pages: Pages):
    known: set[tuple[FlaskClient, str]] = set()
    for name, (client, answer) in pages.items():
        page = Page(answer)
        for tag, attributes in page.elements:
            link = attributes.get("href") or attributes.get("src") or ""
            if tag == "use" or not link or (client, link) in known:
                continue
            known.add((client, link))
            if link.startswith("#"):
                assert page.all("main", id=link[1:]), name
                continue
            target = urlsplit(urljoin(answer.request.path, link))._replace(fragment="").geturl()
            answers = (502,) if target.endswith("/schema") else (200, 302)  # it is no archive
            assert client.get(target, buffered=True).status_code in answers, (name, link)
    assert len(known) > 20


def test_every_icon_exists(hostile: Flask, pages: Pages):
    icons = hostile.test_client().get("/static/icons.svg", buffered=True).text
    used = {
        found["href"].partition("#")[2]
        for _, answer in pages.values()
        for found in Page(answer).all("use")
    }
    assert {"logo", "completed", "failed", "pending", "missing"} <= used
    assert {name for name in used if f'id="{name}"' not in icons} == set()


# Certificate


def test_a_certificate_says_how_far_the_backup_is_proven(panel: Flask, ann: FlaskClient):
    filename = planted(panel)
    url = f"{LIST}/{filename}/certificate"
    assert seen(ann, f"{LIST}/{filename}").link("Certificate to print") == url

    def verdict_after(level: Level, result: Result = Result.PASSED, **evidence: object) -> str:
        with panel.app_context(), writing() as session:
            values = {"level": level, "result": result, "evidence": evidence, "milliseconds": 7}
            session.add(Proof(backup_id=listing.get_backup(filename).id, **values))
        return seen(ann, url).text

    page = seen(ann, url)
    assert "Nothing is proven of this backup." in page.text
    assert f"sha256sum {filename}" in page.text
    text = verdict_after(Level.READ, tables=2, rows=550)
    assert "This backup was read back completely. It was not restore-tested." in text
    assert "2 tables, 550 rows, no difference" in " ".join(text.split())
    assert "This backup was restored, and compared" in verdict_after(Level.RESTORED)
    assert "compared with what was counted when it was made, and checked" in verdict_after(
        Level.ASSERTED
    )
    text = verdict_after(Level.CHECKSUM, Result.FAILED, differences=["a byte"], found=["a byte"])
    assert "This backup failed a check." in text
    assert "a byte" in text


def test_a_backup_that_holds_nothing_gets_no_certificate(panel: Flask, ann: FlaskClient):
    filename = planted(panel, status=Status.FAILED)
    text = seen(ann, f"{LIST}/{filename}/certificate", 409).text
    assert f"{filename} is FAILED: there is nothing to certify" in text
    seen(ann, f"{LIST}/nonsense/certificate", 404)
