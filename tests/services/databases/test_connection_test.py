"""A connection is tested step by step, saved or not; the audit knows of it."""

from pathlib import Path

import pytest

from app.errors import Conflict, InvalidInput, NotFound
from app.models import ActOutcome, Trigger
from app.postgres.connection_check import HOST, NETWORK, SIGN_IN, STEPS
from app.postgres.conninfo import Conninfo
from app.services.audit.acting import Act, begin_act, end_act
from app.services.databases.configured import Address
from app.services.databases.connection_test import (
    SSH_HOST,
    check_database,
    check_url,
)
from app.services.databases.lookup import database_at, default_database
from app.services.databases.service import Changes, add_database
from app.steps import is_passed
from tests.conftest import NO_SERVER, Database, url_of
from tests.postgres.conftest import encrypted_server
from tests.sshd import an_sshd

pytestmark = pytest.mark.usefixtures("context")

CANARY = "canary-pw"


def test_every_step_of_a_guarded_database_passes():
    steps = check_database(default_database().name)
    assert tuple(step.name for step in steps) == STEPS
    assert is_passed(steps)


def test_a_wrong_password_is_named_and_stays_secret(shop: Database, server: Conninfo):
    add_database("crm", url_of(server, shop.name, password=CANARY), by="ann")
    begin_act(Act("database.test", Trigger.ADMIN))
    steps = {step.name: step for step in check_database("crm")}
    act = end_act()
    assert steps[NETWORK].passed
    assert steps[SIGN_IN].passed is False
    assert "password" in steps[SIGN_IN].hint
    assert CANARY not in str(steps)
    assert act is not None
    assert (act.subject, act.outcome, act.detail) == ("crm", ActOutcome.FAILED, "failed: sign-in")


def test_a_url_is_tested_before_it_is_saved(common_shop: Database):
    assert is_passed(check_url(common_shop.url))
    steps = check_url(NO_SERVER)
    assert [step.name for step in steps if step.passed is False] == [NETWORK]


def test_what_is_not_a_url_is_refused():
    with pytest.raises(InvalidInput):
        check_url("crm")
    with pytest.raises(InvalidInput, match="SSH address"):
        check_url(NO_SERVER, Changes(ssh_url="bastion"))


def test_an_unknown_database_cannot_be_tested():
    with pytest.raises(NotFound):
        check_database("crm")


def test_a_database_that_the_settings_no_longer_name_cannot_be_reached():
    old = database_at(Address("db1:5432", "crm"))
    with pytest.raises(Conflict, match="DATABASE_URL names another"):
        check_database(old.name)


def test_an_ssh_host_is_the_first_step(tmp_path: Path, passable_dir: Path):
    with encrypted_server(passable_dir) as info, an_sshd(tmp_path / "sshd") as sshd:
        host, port = info.parameters["host"], info.parameters["port"]
        url = f"postgresql://backstop:{info.password}@{host}:{port}/postgres?sslmode=require"
        way = Changes(
            ssh_url=str(sshd.address),
            ssh_identity_file=str(sshd.keys["identity"]),
            ssh_host_key=sshd.address.host_key,
        )
        steps = check_url(url, way)
        assert [step.name for step in steps[:3]] == [SSH_HOST, HOST, NETWORK]
        assert is_passed(steps)
        assert steps[2].detail == f"{host}:{port} accepts connections from there"
        sshd.kill()
        steps = check_url(url, way)
        assert steps[0].passed is False
        assert steps[0].hint
        assert {step.passed for step in steps[1:]} == {None}
