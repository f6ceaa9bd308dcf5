"""Who may sign in."""

from collections.abc import Callable

import pytest
from flask import Flask

from app.errors import Conflict, InvalidInput, NotFound
from app.services import admins
from app.services.sign_in import find_session, sign_in
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
        admins.create_admin(username, "long enough")


@pytest.mark.parametrize("password", ["", "seven77", "x" * 1001])
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
    for act in (admins.remove_admin, lambda name: admins.change_password(name, "long enough")):
        with pytest.raises(NotFound):
            act("nobody")


def test_passwords_are_compared_as_they_are_typed():
    admins.create_admin("ann", "pässwörd with ' \" % 🐘")
    assert admins.has_password(admins.get_admin("ann"), "pässwörd with ' \" % 🐘")
    assert not admins.has_password(admins.get_admin("ann"), "password with ' \" % 🐘")
    assert not admins.has_password(None, "anything")
