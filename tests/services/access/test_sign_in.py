"""How often one may try to sign in, and from where."""

import threading
from contextlib import ExitStack
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from flask import Flask
from sqlalchemy import select

from app.config import WEB_THREADS
from app.errors import AppError, InvalidInput, NotSignedIn, TooManyAttempts
from app.extensions import db, writing
from app.models import KnownPlace
from app.models.types import now
from app.services.access import admins, passwords
from app.services.access import sign_in as service
from app.services.access.sign_in import confirm_password, find_session, sign_in, without_port
from tests.conftest import PASSWORD

pytestmark = pytest.mark.usefixtures("context")

FREE = 10


def fail(username: str, address: str) -> None:
    with pytest.raises(NotSignedIn):
        sign_in(username, "wrong", address=address)


def test_a_pair_is_throttled_and_no_other():
    for _ in range(FREE):
        fail("admin", "192.0.2.1")
    with pytest.raises(TooManyAttempts):
        sign_in("admin", PASSWORD, address="192.0.2.1")
    assert find_session(sign_in("admin", PASSWORD, address="192.0.2.2")) is not None


def test_an_address_with_ever_new_names_is_throttled_later():
    for number in range(60):
        fail(f"name {number}", "192.0.2.1")
    with pytest.raises(TooManyAttempts):
        sign_in("yet another", "wrong", address="192.0.2.1")
    assert sign_in("admin", PASSWORD, address="192.0.2.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("unix:", "unix:", True),
        ("2001:db8::1%eth0", "2001:db8::2", True),
    ],
)
def test_an_address_is_what_one_person_has(one: str, other: str, same: bool):
    for _ in range(FREE):
        fail("admin", one)
    if same:
        with pytest.raises(TooManyAttempts):
            sign_in("admin", PASSWORD, address=other)
    else:
        assert sign_in("admin", PASSWORD, address=other)


def test_first_attempts_at_once_are_all_answered(app: Flask):
    ended: list[object] = []

    def attempt() -> None:
        with app.app_context():
            try:
                sign_in("admin", "wrong", address="192.0.2.1")
            except AppError as error:
                ended.append(type(error))
            except Exception as error:  # noqa: BLE001 - that is the question
                ended.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(ended) <= {NotSignedIn, TooManyAttempts}
    assert len(ended) == 6


def test_a_password_is_confirmed_and_its_failures_count_as_those_of_sign_in():
    confirm_password("admin", PASSWORD, address="192.0.2.9")
    for _ in range(10):
        with pytest.raises(InvalidInput, match="the password is wrong"):
            confirm_password("admin", "not mine", address="192.0.2.9")
    for call in (confirm_password, sign_in):
        with pytest.raises(TooManyAttempts):
            call("admin", PASSWORD, address="192.0.2.9")


def test_strangers_hold_up_nobody_who_has_signed_in_from_there_before():
    sign_in("admin", PASSWORD, address="192.0.2.1")
    for number in range(60):  # from the same office
        fail(f"name {number}", "192.0.2.1")
    with ExitStack() as crowd:
        for _ in range(WEB_THREADS // 2):
            crowd.callback(passwords._strangers_places.release)
            passwords._strangers_places.acquire()
        crowd.enter_context(passwords._strangers_turn)
        with pytest.raises(TooManyAttempts, match="too many sign-ins at once"):
            sign_in("admin", PASSWORD, address="192.0.2.2")
        assert find_session(sign_in("admin", PASSWORD, address="192.0.2.1"))
        confirm_password("admin", PASSWORD, address="192.0.2.3")  # who asks is signed in


def test_a_place_is_known_for_a_month(monkeypatch: pytest.MonkeyPatch):
    sign_in("admin", PASSWORD, address="192.0.2.1")
    assert service._is_known("admin", "192.0.2.1")
    assert not service._is_known("ann", "192.0.2.1")
    assert not service._is_known("admin", "192.0.2.2")
    monkeypatch.setattr(service, "now", lambda: now() + timedelta(days=31))
    assert not service._is_known("admin", "192.0.2.1")
    sign_in("admin", PASSWORD, address="192.0.2.2")
    assert len(db.session.scalars(select(KnownPlace)).all()) == 1


def test_a_known_pair_still_guesses_no_more_than_others():
    sign_in("admin", PASSWORD, address="192.0.2.1")
    for _ in range(FREE):
        fail("admin", "192.0.2.1")
    with pytest.raises(TooManyAttempts):
        sign_in("admin", PASSWORD, address="192.0.2.1")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:5555", "192.0.2.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_a_port_makes_no_other_address(given: str, meant: str):
    assert without_port(given) == meant


def test_an_old_hash_is_made_anew_at_the_next_sign_in():
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with writing():
        admins.get_admin("admin").password_hash = weak
    sign_in("admin", PASSWORD, address="192.0.2.1")
    kept = admins.get_admin("admin").password_hash
    assert (kept == weak, passwords.is_outdated(kept)) == (False, False)
    sign_in("admin", PASSWORD, address="192.0.2.1")
    assert admins.get_admin("admin").password_hash == kept
