"""flask admin: passwords are asked for or piped in, never given in argv."""

import pytest
from click.testing import Result
from flask import Flask


@pytest.fixture
def flask_admin(app: Flask):
    cli = app.test_cli_runner()

    def invoke(*words: str, password: str = "") -> Result:
        return cli.invoke(args=["admin", *words], input=f"{password}\n")

    return invoke


def test_an_admin_is_created_listed_and_removed(flask_admin, app: Flask):
    assert flask_admin("create", "ann", password="her own password").exit_code == 0
    assert [line.split()[0] for line in flask_admin("list").stdout.splitlines()] == [
        "admin",
        "ann",
    ]
    signed_in = app.test_client().post(
        "/api/admin/session", json={"username": "ann", "password": "her own password"}
    )
    assert signed_in.status_code == 200
    assert flask_admin("remove", "ann").exit_code == 0
    assert "ann" not in flask_admin("list").stdout


def test_a_password_is_changed(flask_admin, app: Flask):
    assert flask_admin("password", "admin", password="quite another one").exit_code == 0
    signed_in = app.test_client().post(
        "/api/admin/session", json={"username": "admin", "password": "quite another one"}
    )
    assert signed_in.status_code == 200


@pytest.mark.parametrize(
    ("words", "password", "told"),
    [
        (("create", "admin"), "her own password", 'there is an admin "admin" already'),
        (("create", "ann"), "short", "a password has 12 to 1000 characters"),
        (("create", "ann"), "", "a password has 12 to 1000 characters"),
        (("create", "ann"), "annannannann", "this password is too easy to guess"),
        (("password", "nobody"), "her own password", 'no such admin: "nobody"'),
        (("remove", "nobody"), "", 'no such admin: "nobody"'),
        (("remove", "admin"), "", '"admin" is the only admin'),
    ],
)
def test_what_cannot_be_is_told_and_exits_1(flask_admin, words, password, told):
    result = flask_admin(*words, password=password)
    assert result.exit_code == 1
    assert f"Error: {told}" in result.stderr
