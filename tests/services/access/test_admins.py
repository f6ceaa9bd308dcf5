"""Who may sign in."""

from collections.abc import Callable

import pytest
from flask import Flask

from app.errors import ConfigurationError, Conflict, InvalidInput, NotFound
from app.extensions import writing
from app.services.access import admins, passwords
from app.services.access.sign_in import find_session, sign_in
from tests.conftest import PASSWORD

pytestmark = pytest.mark.usefixtures("context")


def test_the_first_admin_is_made_once():
    assert [each.username for each in admins.list_admins()] == ["admin"]
    assert admins.create_first_admin() is None


def test_a_generated_password_signs_in(make_app: Callable[..., Flask], context: None):
    admins.create_admin("ann", "her own password")
    admins.remove_admin("admin")
    admins.create_admin("admin", "something else")
    with pytest.raises(Conflict):
        admins.create_admin("ann", "her own password")


def test_only_the_hash_of_a_password_is_kept():
    kept = admins.get_admin("admin").password_hash
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in kept


@pytest.mark.parametrize("username", ["", " ann", "ann ", "a\nb", "x" * 65, "tab\t"])
def test_a_username_that_cannot_be_is_refused(username: str):
    with pytest.raises(InvalidInput):
        admins.create_admin(username, "her own password")


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 1001])
def test_a_password_that_cannot_be_is_refused(password: str):
    with pytest.raises(InvalidInput):
        admins.create_admin("ann", password)
    with pytest.raises(InvalidInput):
        admins.change_password("admin", password)


def test_a_new_password_ends_all_sessions_and_the_old_one_is_worth_nothing():
    token = sign_in("admin", PASSWORD, address="127.0.0.1")
    assert find_session(token) is not None
    admins.change_password("admin", "another password")
    assert find_session(token) is None
    assert not admins.has_password(admins.get_admin("admin"), PASSWORD)
    assert admins.has_password(admins.get_admin("admin"), "another password")


def test_removing_an_admin_ends_their_sessions():
    admins.create_admin("ann", "her own password")
    token = sign_in("ann", "her own password", address="127.0.0.1")
    admins.remove_admin("ann")
    assert find_session(token) is None


def test_the_last_admin_cannot_be_removed():
    with pytest.raises(Conflict):
        admins.remove_admin("admin")


def test_an_unknown_admin_is_told():
    for act in (admins.remove_admin, lambda name: admins.change_password(name, "her own password")):
        with pytest.raises(NotFound):
            act("nobody")


def test_passwords_are_compared_as_they_are_typed():
    admins.create_admin("ann", "pässwörd with ' \" % 🐘")
    assert admins.has_password(admins.get_admin("ann"), "pässwörd with ' \" % 🐘")
    assert not admins.has_password(admins.get_admin("ann"), "password with ' \" % 🐘")
    assert not admins.has_password(None, "anything")


@pytest.mark.parametrize(
    "password",
    [
        " " * 12,
        "aaaaaaaaaaaa",
        "123456789012",
        "qwertyuiop12",
        "password1234",
        "passwordpassword",
        "adminadmin12",
        "backstop2026",
        "gloriosa1234",  # the username
        "iloveyou1234",
    ],
)
def test_a_password_that_everybody_guesses_is_refused(password: str):
    with pytest.raises(InvalidInput, match="too easy to guess"):
        admins.create_admin("gloriosa", password)
    admins.create_admin("gloriosa", "four random words do")
    with pytest.raises(InvalidInput, match="too easy to guess"):
        admins.change_password("gloriosa", password)


def test_a_short_password_of_former_days_still_signs_in():
    with writing():
        admins.get_admin("admin").password_hash = passwords.hash_of("eight888")
    assert find_session(sign_in("admin", "eight888", address="127.0.0.1"))


def test_settings_that_make_no_admin_are_told_by_name(make_app: Callable[..., Flask]):
    app = make_app(admin_password="too short")
    with app.app_context(), writing() as session:
        session.delete(admins.get_admin("admin"))
    with app.app_context(), pytest.raises(ConfigurationError, match="BACKSTOP_ADMIN_PASSWORD"):
        admins.create_first_admin()
