"""How often one may try to sign in, and from where."""

import threading

import pytest
from flask import Flask

from app.errors import AppError, InvalidInput, NotSignedIn, TooManyAttempts
from app.services.sign_in import confirm_password, find_session, sign_in
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
