"""A flood of sign-ins from ever new addresses, and who gets in meanwhile."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask

from app.config import WEB_THREADS
from app.services.access import passwords
from tests.attacks.test_web import entries
from tests.conftest import PASSWORD, panel_in

SESSION = "/api/admin/session"
WRONG = "guessed"


@pytest.fixture
def panel(tmp_path: Path, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path, sqlite_template) as app:
        yield app


def tried(app: Flask, address: str, password: str = WRONG, **headers: str) -> int:
    body = {"username": "admin", "password": password}
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = address
    return client.post(SESSION, json=body, headers=headers).status_code


@contextmanager
def flood(app: Flask) -> Iterator[None]:
    """As many at once as the server has threads, each from another network."""
    over, under_way = threading.Event(), threading.Barrier(WEB_THREADS + 1)
    numbers = itertools.count()

    def guess() -> None:
        under_way.wait()
        while not over.is_set():
            tried(app, f"2001:db8:{next(numbers):x}::1")

    threads = [threading.Thread(target=guess) for _ in range(WEB_THREADS)]
    for each in threads:
        each.start()
    under_way.wait()
    try:
        yield
    finally:
        over.set()
        for each in threads:
            each.join()


def test_a_flood_refuses_nobody_who_has_signed_in_before(panel: Flask):
    assert tried(panel, "192.0.2.1", PASSWORD) == 200
    with flood(panel):
        assert [tried(panel, "192.0.2.1", PASSWORD) for _ in range(5)] == [200] * 5


def test_whom_a_crowd_is_in_the_way_is_recorded_once(panel: Flask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.services.access.passwords._PATIENCE", 0.01)
    before = entries(panel)
    with passwords._strangers_turn:
        statuses = {tried(panel, f"2001:db8:{number:x}::1") for number in range(10)}
    assert (statuses, entries(panel) - before) == ({429}, 1)


def test_a_port_that_a_proxy_adds_makes_no_other_address(tmp_path: Path, sqlite_template: Path):
    with panel_in(tmp_path, sqlite_template, trusted_proxies=1) as app:
        forwarded = ({"X-Forwarded-For": f"192.0.2.1:{5000 + number}"} for number in range(12))
        assert [tried(app, "127.0.0.1", **each) for each in forwarded] == [401] * 10 + [429] * 2
