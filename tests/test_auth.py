"""Who is asking: cookies, sessions and their ends, and how often one may try."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.cookies import Morsel, SimpleCookie
from pathlib import Path

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from app import create_app
from app.auth import own_path
from app.config import WEB_THREADS
from app.extensions import db, writing
from app.models import AdminSession, SignInThrottle
from app.models.types import now
from app.services.access import admins, passwords, sign_in
from tests.api.test_downloads import is_problem
from tests.conftest import PASSWORD, panel_in, signed_in

COOKIE = "backstop"
WRONG = "not the password"
ANN = "ann's own password"
FREE = 10  # failures without a wait


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


@pytest.fixture
def with_ann(panel: Flask) -> Flask:
    """A panel with a second admin."""
    with panel.app_context():
        admins.create_admin("ann", ANN)
    return panel


def tried(
    client: FlaskClient | Flask, password: str = WRONG, username: str = "admin", **more: object
) -> TestResponse:
    """One sign-in over the API, from another browser if an application is given."""
    if isinstance(client, Flask):
        client = client.test_client()
    body = {"username": username, "password": password}
    return client.post("/api/admin/session", json=body, **more)  # type: ignore[arg-type]


def is_signed_in(client: FlaskClient) -> bool:
    over_api = client.get("/api/admin/backup").status_code
    page = client.get("/admin/backup").status_code
    assert (over_api, page) in ((200, 200), (401, 302))
    return over_api == 200


def value_of(client: FlaskClient) -> str:
    cookie = client.get_cookie(COOKIE)
    assert cookie is not None
    return cookie.value


def holder_of(app: Flask, value: str) -> FlaskClient:
    """Somebody else who has this cookie."""
    client = app.test_client()
    client.set_cookie(COOKIE, value)
    return client


def set_by(answer: TestResponse, name: str = COOKIE) -> Morsel[str]:
    jar = SimpleCookie(next(c for c in answer.headers.getlist("Set-Cookie") if c.startswith(name)))
    return jar[name]


def token_on(client: FlaskClient, page: str) -> str:
    """The token of the forms on a page."""
    found = client.get(page).text.partition('name="csrf_token"')[2].partition('value="')[2]
    return found.partition('"')[0]


def later(monkeypatch: pytest.MonkeyPatch, **by: float) -> None:
    """Let the sessions' clock go on."""
    shift = timedelta(**by)
    monkeypatch.setattr(sign_in, "now", lambda: now() + shift)


# The cookie


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(panel: Flask):
    cookie = set_by(tried(panel, PASSWORD))
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["path"] == "/"
    assert cookie["domain"] == ""
    assert not cookie["secure"]  # http://127.0.0.1 could not use it otherwise


def test_the_cookie_is_secure_where_the_request_was(panel: Flask):
    answer = tried(panel, PASSWORD, base_url="https://localhost")
    page = panel.test_client().get("/admin/login", base_url="https://localhost")
    for each in (answer, page):
        cookie = set_by(each, f"__Host-{COOKIE}")
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://localhost", "backstop"),
        ("http://localhost:3000", "backstop-3000"),
        ("http://[::1]:3001", "backstop-3001"),
        ("https://backups.example.org", "__Host-backstop"),
        ("https://backups.example.org:8443", "__Host-backstop-8443"),
    ],
)
def test_panels_on_other_ports_of_a_host_have_cookies_of_their_own(
    panel: Flask, url: str, name: str
):
    client = panel.test_client()
    answer = tried(client, PASSWORD, base_url=url)
    assert answer.headers["Set-Cookie"].startswith(f"{name}=")
    assert client.get("/api/admin/backup", base_url=url).status_code == 200


def test_the_cookie_is_signed_with_sha_256(panel: Flask):
    _, _, signature = value_of(signed_in(panel)).rsplit(".", 2)
    assert len(signature) == 43  # 32 bytes in base64


@pytest.mark.parametrize(("proxies", "secure"), [(0, False), (1, True)])
def test_only_a_trusted_proxy_is_believed_that_it_was_https(
    tmp_path: Path, sqlite_template: Path, proxies: int, secure: bool
):
    with panel_in(tmp_path, sqlite_template, trusted_proxies=proxies) as app:
        answer = tried(app, PASSWORD, headers={"X-Forwarded-Proto": "https"})
        cookie = set_by(answer, f"__Host-{COOKIE}" if secure else COOKIE)
        assert bool(cookie["secure"]) is secure


def test_the_session_changes_at_sign_in(panel: Flask):
    """Who has planted a cookie in a browser is not signed in with it afterwards."""
    victim = panel.test_client()
    victim.get("/admin/login")
    planted_cookie = value_of(victim)
    tried(victim, PASSWORD)
    assert value_of(victim) != planted_cookie
    assert is_signed_in(victim)
    assert not is_signed_in(holder_of(panel, planted_cookie))


def test_a_second_sign_in_ends_the_first_session_of_this_browser(panel: Flask):
    client = signed_in(panel)
    first = value_of(client)
    tried(client, PASSWORD)
    assert value_of(client) != first
    assert is_signed_in(client)
    assert not is_signed_in(holder_of(panel, first))


def test_a_failed_sign_in_leaves_the_session_that_there_is(panel: Flask):
    client = signed_in(panel)
    assert tried(client).status_code == 401
    assert is_signed_in(client)


def test_the_catalogue_holds_no_token_that_could_be_used(panel: Flask):
    client = signed_in(panel)
    token = token_in(panel, value_of(client))
    with panel.app_context():
        kept = db.session.scalars(select(AdminSession.token_sha256)).all()
    assert token not in kept
    assert not is_signed_in(holder_of(panel, signed(panel, {"_user_id": kept[0]})))


def token_in(app: Flask, cookie: str) -> str:
    return str(serializer(app).loads(cookie)["_user_id"])


def serializer(app: Flask):
    interface = app.session_interface
    assert isinstance(interface, SecureCookieSessionInterface)
    found = interface.get_signing_serializer(app)
    assert found is not None
    return found


def signed(app: Flask, content: dict[str, object]) -> str:
    return str(serializer(app).dumps(content | {"_fresh": True}))


@pytest.mark.parametrize(
    "value", ["", "x", "a.b.c", "admin", "null", "{}", "e30.e30.e30", "x" * 4000]
)
def test_a_forged_cookie_is_worth_nothing(panel: Flask, value: str):
    assert not is_signed_in(holder_of(panel, value))


def test_a_changed_cookie_is_worth_nothing(panel: Flask):
    content, stamp, signature = value_of(signed_in(panel)).rsplit(".", 2)
    for forged in (
        f"{content}.{stamp}.{signature[::-1]}",
        f"{content}.{stamp}.",
        f"{content}x.{stamp}.{signature}",
        f"{content}.{stamp[::-1]}.{signature}",
    ):
        assert not is_signed_in(holder_of(panel, forged))


def test_a_cookie_signed_with_another_key_is_worth_nothing(
    panel: Flask, tmp_path: Path, sqlite_template: Path
):
    token = token_in(panel, value_of(signed_in(panel)))
    other = tmp_path / "other"
    other.mkdir()
    with panel_in(other, sqlite_template, secret_key="the key of somebody else") as stranger:
        forged = signed(stranger, {"_user_id": token})
    assert is_signed_in(holder_of(panel, signed(panel, {"_user_id": token})))
    assert not is_signed_in(holder_of(panel, forged))


@pytest.mark.parametrize("token", ["", "x", "admin", None, "\0", "' OR 1=1 --"])
def test_a_cookie_with_our_signature_and_no_session_is_worth_nothing(
    panel: Flask, token: str | None
):
    signed_in(panel)
    assert not is_signed_in(holder_of(panel, signed(panel, {"_user_id": token})))


def test_a_remember_cookie_is_no_way_in(panel: Flask):
    client = panel.test_client()
    client.set_cookie("remember_token", "admin|" + "0" * 128)
    assert not is_signed_in(client)


# The ends of a session


def test_signing_out_ends_every_copy_of_the_cookie(panel: Flask):
    client, other = signed_in(panel), signed_in(panel)
    copy = value_of(client)
    assert client.delete("/api/admin/session").status_code == 200
    assert not is_signed_in(client)
    assert not is_signed_in(holder_of(panel, copy))
    assert is_signed_in(other)


def test_signing_out_everywhere_ends_all_sessions_of_this_admin_alone(with_ann: Flask):
    here, there = signed_in(with_ann), signed_in(with_ann)
    ann = with_ann.test_client()
    tried(ann, ANN, "ann")
    form = {"csrf_token": token_on(here, "/admin/backup")}
    answer = here.post("/admin/logout/everywhere", data=form)
    assert answer.location == "/admin/login"
    assert not is_signed_in(here)
    assert not is_signed_in(there)
    assert is_signed_in(ann)


def test_a_new_password_ends_all_sessions_of_this_admin_alone(with_ann: Flask):
    here, there = signed_in(with_ann), signed_in(with_ann)
    ann = with_ann.test_client()
    tried(ann, ANN, "ann")
    with with_ann.app_context():
        admins.change_password("admin", "another password")
    assert not is_signed_in(here)
    assert not is_signed_in(there)
    assert is_signed_in(ann)
    assert tried(with_ann, PASSWORD).status_code == 401
    assert tried(with_ann, "another password").status_code == 200


def test_a_removed_admins_cookie_is_worth_nothing(with_ann: Flask):
    ann = with_ann.test_client()
    tried(ann, ANN, "ann")
    assert is_signed_in(ann)
    with with_ann.app_context():
        admins.remove_admin("ann")
    assert not is_signed_in(ann)
    with with_ann.app_context():
        admins.create_admin("ann", ANN)  # the same name is another admin
    assert not is_signed_in(ann)


def test_a_session_ends_when_it_is_not_used(panel: Flask, monkeypatch: pytest.MonkeyPatch):
    client = signed_in(panel)
    later(monkeypatch, hours=11.9)
    assert is_signed_in(client)
    later(monkeypatch, hours=11.9 + 11.9)
    assert is_signed_in(client)  # it was used meanwhile
    later(monkeypatch, hours=11.9 + 11.9 + 12.1)
    assert not is_signed_in(client)


def test_a_session_ends_in_any_case_after_a_week(panel: Flask, monkeypatch: pytest.MonkeyPatch):
    client = signed_in(panel)
    for hours in range(0, 7 * 24, 11):
        later(monkeypatch, hours=hours)
        assert is_signed_in(client)
    later(monkeypatch, days=7, minutes=1)
    assert not is_signed_in(client)


def test_sessions_that_are_over_leave_the_catalogue(panel: Flask):
    signed_in(panel)
    with panel.app_context(), writing() as session:
        session.execute(update(AdminSession).values(created_at=now() - timedelta(days=8)))
    signed_in(panel)
    with panel.app_context():
        assert len(db.session.scalars(select(AdminSession)).all()) == 1


def test_sessions_live_on_over_a_restart(panel: Flask, make_again: Callable[[], Flask]):
    cookie = value_of(signed_in(panel))
    assert is_signed_in(holder_of(make_again(), cookie))


@pytest.fixture
def make_again(panel: Flask) -> Iterator[Callable[[], Flask]]:
    """The application once more, on the same catalogue."""
    made: list[Flask] = []

    def make() -> Flask:
        made.append(create_app(panel.extensions["backstop.settings"]))
        return made[-1]

    yield make
    for app in made:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


# How often one may try


def test_an_unknown_user_gets_the_same_answer_for_the_same_work(
    panel: Flask, monkeypatch: pytest.MonkeyPatch
):
    checked: list[str] = []
    verify = passwords._hasher.verify

    class Counting:
        def verify(self, known: str, password: str) -> bool:
            checked.append(known.rpartition("$")[0].rpartition("$")[0])
            return verify(known, password)

    monkeypatch.setattr(passwords, "_hasher", Counting())
    unknown, wrong = tried(panel, PASSWORD, "nobody"), tried(panel, "wrong")
    assert is_problem(unknown, 401)
    assert unknown.data == wrong.data
    names = [{name for name, _ in answer.headers} for answer in (unknown, wrong)]
    assert names[0] == names[1]
    assert len(checked) == 2
    assert checked[0] == checked[1]  # the same method with the same costs


@pytest.mark.parametrize(
    "credentials",
    [
        {"username": "Admin", "password": PASSWORD},
        {"username": " admin", "password": PASSWORD},
        {"username": "admin", "password": f"{PASSWORD} "},
        {"username": "admin", "password": PASSWORD.upper()},
        {"username": "admin", "password": ""},
        {"username": "", "password": PASSWORD},
        {"username": "admin\0", "password": PASSWORD},
        {"username": "admin", "password": f"{PASSWORD}\0"},
        {"username": "admin", "password": "x" * 60_000},
        {"username": "' OR ''='", "password": "' OR ''='"},
        # Half a pair of surrogates, which cannot be encoded.
        {"username": "admin", "password": "\ud800"},
        {"username": "\ud800", "password": PASSWORD},
        {"username": "x\udc80", "password": PASSWORD},
    ],
    ids=lambda each: ascii(each)[:60],
)
def test_nearly_right_is_wrong(panel: Flask, credentials: dict[str, str]):
    answer = tried(panel, credentials["password"], credentials["username"])
    assert answer.status_code in (401, 422)
    assert is_problem(answer, answer.status_code)
    assert "Set-Cookie" not in answer.headers


def fail(app: Flask, times: int = FREE, **more: object) -> None:
    for _ in range(times):
        assert tried(app, **more).status_code == 401  # type: ignore[arg-type]


def is_throttled(answer: TestResponse) -> bool:
    if answer.status_code != 429:
        return False
    assert is_problem(answer, 429)
    assert 1 <= int(answer.headers["Retry-After"]) <= 900
    return True


def test_failures_of_one_pair_are_throttled_and_nobody_else(with_ann: Flask):
    fail(with_ann)
    assert is_throttled(tried(with_ann))
    assert is_throttled(tried(with_ann, PASSWORD))  # guessed right too late
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert tried(with_ann, PASSWORD, environ_base=elsewhere).status_code == 200
    assert tried(with_ann, ANN, "ann").status_code == 200


def test_a_throttled_page_says_so(panel: Flask):
    fail(panel)
    client = panel.test_client()
    token = token_on(client, "/admin/login")
    form = {"csrf_token": token, "username": "admin", "password": PASSWORD}
    answer = client.post("/admin/login", data=form)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Too many failed sign-ins" in answer.text


def test_a_name_that_is_unknown_is_throttled_just_the_same(panel: Flask):
    fail(panel, username="nobody")
    assert is_throttled(tried(panel, username="nobody"))
    assert is_throttled(tried(panel, username="NOBODY"))


def test_the_throttle_holds_over_a_restart(panel: Flask, make_again: Callable[[], Flask]):
    fail(panel)
    assert is_throttled(tried(make_again(), PASSWORD))


def test_the_wait_ends_and_grows_with_each_failure(panel: Flask, monkeypatch: pytest.MonkeyPatch):
    fail(panel)
    waits = []
    gone = 0.0
    for _ in range(9):
        answer = tried(panel)
        assert is_throttled(answer)
        waits.append(int(answer.headers["Retry-After"]))
        gone += waits[-1] + 1
        later(monkeypatch, seconds=gone)
        assert tried(panel).status_code == 401
    assert waits == sorted(waits)
    assert waits[0] < waits[1] < waits[2]
    assert waits[-1] <= 900
    later(monkeypatch, seconds=gone + 901)
    assert tried(panel, PASSWORD).status_code == 200


def test_a_success_forgets_the_failures(panel: Flask):
    fail(panel, FREE - 1)
    assert tried(panel, PASSWORD).status_code == 200
    fail(panel, FREE - 1)
    assert tried(panel, PASSWORD).status_code == 200
    with panel.app_context():
        assert db.session.scalars(select(SignInThrottle)).all() == []


def test_failures_are_forgotten_after_a_day(panel: Flask, monkeypatch: pytest.MonkeyPatch):
    fail(panel, username="nobody")
    later(monkeypatch, hours=25)
    fail(panel, username="somebody else", times=1)
    with panel.app_context():
        # of the pair and of the address
        assert len(db.session.scalars(select(SignInThrottle)).all()) == 2


def test_a_header_does_not_make_another_address(panel: Flask):
    for number in range(FREE):
        tried(panel, headers={"X-Forwarded-For": f"192.0.2.{number}"})
    assert is_throttled(tried(panel, headers={"X-Forwarded-For": "192.0.2.99"}))


def test_behind_a_trusted_proxy_addresses_are_told_apart(tmp_path: Path, sqlite_template: Path):
    with panel_in(tmp_path, sqlite_template, trusted_proxies=1) as app:
        fail(app, headers={"X-Forwarded-For": "198.51.100.1, 192.0.2.1"})
        again = {"X-Forwarded-For": "198.51.100.2, 192.0.2.1"}
        assert is_throttled(tried(app, PASSWORD, headers=again))
        other = {"X-Forwarded-For": "192.0.2.1, 192.0.2.2"}
        assert tried(app, PASSWORD, headers=other).status_code == 200


def test_all_addresses_of_one_ipv6_network_are_one(panel: Flask):
    for number in range(FREE):
        tried(panel, environ_base={"REMOTE_ADDR": f"2001:db8:0:1::{number:x}"})
    assert is_throttled(tried(panel, environ_base={"REMOTE_ADDR": "2001:db8:0:1:ffff::1"}))
    elsewhere = {"REMOTE_ADDR": "2001:db8:0:2::1"}
    assert tried(panel, PASSWORD, environ_base=elsewhere).status_code == 200


def test_many_attempts_at_once_are_counted_too(panel: Flask):
    with ThreadPoolExecutor(WEB_THREADS // 2) as pool:
        statuses = list(pool.map(lambda _: tried(panel).status_code, range(24)))
    assert statuses.count(401) == FREE
    assert statuses.count(429) == 24 - FREE


def test_a_flood_of_sign_ins_leaves_threads_for_others(
    panel: Flask, monkeypatch: pytest.MonkeyPatch
):
    """Strangers' passwords are checked one at a time; not everybody may wait for that."""
    monkeypatch.setattr(passwords, "_PATIENCE", 60.0)
    answered = threading.Event()

    def try_once(number: int) -> int:
        answer = tried(panel, username=f"user {number}")
        answered.set()
        return answer.status_code

    passwords._strangers_turn.acquire()
    try:
        with ThreadPoolExecutor(WEB_THREADS) as pool:
            flood = [pool.submit(try_once, number) for number in range(WEB_THREADS)]
            some_were_turned_away = answered.wait(timeout=3)
            passwords._strangers_turn.release()
            statuses = [each.result() for each in flood]
    finally:
        if passwords._strangers_turn.locked():
            passwords._strangers_turn.release()
    assert some_were_turned_away
    assert 429 in statuses


# Where to go then


@pytest.mark.parametrize(
    "target", ["/admin", "/admin/", "/admin/backup", "/admin/backup?q=a%20b&before=x", "/admin#x"]
)
def test_our_own_pages_are_gone_to(target: str):
    assert own_path(target) == target


@pytest.mark.parametrize(
    "target",
    [
        "",
        None,
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/admin\\..\\..\\evil",
        "/\t/evil.example",
        "/admin\n",
        "/admin\r\nSet-Cookie: a=b",
        "\n/admin",
        " /admin",
        "/admin\0",
        "/admin\u2028",
        "https://evil.example",
        "https:/admin",
        "http:///admin",
        "javascript:alert(1)",
        "data:text/html,x",
        "admin/backup",
        "evil.example",
        "@evil.example",
        "/api/admin/backup",
        "/",
    ],
)
def test_other_places_are_not_gone_to(target: str | None):
    assert own_path(target) is None
