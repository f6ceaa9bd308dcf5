"""The SQL of a role with least rights is made for one database."""

import pytest

from app.errors import ConnectError, InvalidInput
from app.postgres.conninfo import Conninfo
from app.services.databases.connection_test import check_url
from app.services.databases.grants import grants_for
from app.services.databases.lookup import default_database
from app.services.databases.service import add_database
from app.steps import is_passed
from tests.conftest import NO_SERVER, Database, url_of

pytestmark = pytest.mark.usefixtures("context")


def test_a_role_that_the_sql_makes_can_make_backups(shop: Database, server: Conninfo):
    sql = grants_for(default_database().name, "keeper of shops")
    assert 'CREATE ROLE "keeper of shops" LOGIN;' in sql
    try:
        shop.run(sql)
        shop.run("ALTER ROLE \"keeper of shops\" PASSWORD 'canary-pw'")
        assert is_passed(check_url(url_of(server, shop.name, "keeper of shops", "canary-pw")))
    finally:
        shop.run('DROP OWNED BY "keeper of shops"; DROP ROLE "keeper of shops"')


@pytest.mark.parametrize("role", ["", "x" * 64, "a\nb", "public", "pg_read_all_data"])
def test_a_name_that_no_role_can_have_is_refused(role: str):
    with pytest.raises(InvalidInput, match="not a valid name of a role"):
        grants_for(default_database().name, role)


def test_a_server_that_is_down_is_named():
    add_database("crm", NO_SERVER, by="ann")
    with pytest.raises(ConnectError):
        grants_for("crm")
