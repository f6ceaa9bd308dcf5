"""A backup comes back on newer servers, and on an older one as far as that can take it."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from app.models import Kind, Level, Result
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from tests.conftest import SMALL_SHOP, Database, url_of
from tests.servers import programs
from tests.services.restores.conftest import attempt, backed_up, restored

_MORE = """
    CREATE EXTENSION pg_trgm;
    CREATE VIEW seen AS SELECT * FROM orders;
    CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM orders;
    CREATE SEQUENCE alone;
    SELECT nextval('alone'), lo_from_bytea(4711, 'large');
    GRANT SELECT ON seen TO PUBLIC;
"""


@pytest.fixture
def old_shop(server_15: Conninfo) -> Iterator[Database]:
    admin = Database("postgres", url_of(server_15, "postgres"))
    admin.run("CREATE DATABASE old_shop")
    old = Database("old_shop", url_of(server_15, "old_shop"))
    old.run(SMALL_SHOP + _MORE)
    yield old
    admin.run("DROP DATABASE old_shop WITH (FORCE)")


def test_a_dump_of_15_is_restored_on_17_and_18(
    old_shop: Database, server: Conninfo, server_18: Conninfo, make_app: Callable[..., Flask]
):
    with make_app(database_url=old_shop.url).app_context():
        filename = backed_up()
        assert backups.get_backup(filename).tool_version.startswith("15.")
    for info, folder in ((server, None), (server_18, programs(18))):
        admin = Database("postgres", url_of(info, "postgres"))
        with make_app(database_url=admin.url, pg_bin_dir=folder).app_context():
            row = restored(filename, Kind.BESIDE)
        try:
            assert row.result["differences"] == []
            copy = Database(row.database, url_of(info, row.database))
            assert copy.run("SELECT count FROM kept") == [(500,)]
        finally:
            admin.run(f'DROP DATABASE "{row.database}" WITH (FORCE)')


@pytest.mark.parametrize("major", [15, 18])
def test_a_backup_of_17_is_drilled_on_another_version(
    major: int, shop: Database, request: pytest.FixtureRequest, make_app: Callable[..., Flask]
):
    """pg_restore 17 sets transaction_timeout, which no server before 17 knows."""
    shop.run(_MORE)
    drill_url = url_of(request.getfixturevalue(f"server_{major}"), "postgres")
    with make_app(drill_url=drill_url).app_context():
        row = restored(backed_up(), Kind.DRILL)
        assert (row.result["differences"], row.result["rows"]) == ([], 550)


def test_what_an_older_server_does_not_know_says_nothing_of_the_backup(
    shop: Database, server_15: Conninfo, make_app: Callable[..., Flask]
):
    shop.run("CREATE VIEW newer AS SELECT any_value(id) FROM orders")
    with make_app(drill_url=url_of(server_15, "postgres")).app_context():
        filename = backed_up()
        row = attempt(filename, Kind.DRILL)
        newest = proofs.list_proofs(backups.get_backup(filename).id)[0]
        assert (newest.level, newest.result) == (Level.RESTORED, Result.NOT_POSSIBLE)
    assert "older" in row.error_message
    assert "any_value" in row.error_detail


@pytest.mark.usefixtures("context")
def test_programs_that_cannot_read_the_archive_say_nothing_of_the_backup(
    make_app: Callable[..., Flask],
):
    """Those of that wheel were built without zstd."""
    filename = backed_up()
    with make_app(pg_bin_dir=programs(18)).app_context():
        row = attempt(filename, Kind.DRILL)
        assert row.error_message == "no pg_restore 17 or newer was found that reads zstd"
        newest = proofs.list_proofs(backups.get_backup(filename).id)[0]
        assert newest.result is Result.NOT_POSSIBLE
