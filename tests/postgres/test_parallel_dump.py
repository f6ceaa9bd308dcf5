"""How many jobs of a dump a server can afford."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.locking import Lock, hold_lock
from app.postgres.parallel_dump import affordable_jobs
from tests.conftest import Database
from tests.postgres.conftest import Role, signed_in_as

MANY_TABLES = """
    DO $$ BEGIN
        FOR n IN 1..2500 LOOP EXECUTE format('CREATE TABLE t%s ()', n); END LOOP;
    END $$
"""


@contextmanager
def locked(info: Conninfo) -> Iterator[Lock]:
    with hold_lock(info, application_name="backstop test") as lock:
        yield lock


def test_a_server_with_room_affords_them(shop: Database):
    with locked(parse_url(shop.url)) as lock:
        assert affordable_jobs(lock, 4) == 4


@pytest.mark.parametrize(("limit", "jobs"), [(1, 1), (5, 1), (7, 2), (9, 3), (90, 4)])
def test_they_take_at_most_half_of_the_connections_that_a_role_has_left(
    shop: Database, new_role: Callable[..., Role], limit: int, jobs: int
):
    role = new_role(f"CONNECTION LIMIT {limit}")
    with locked(signed_in_as(role, parse_url(shop.url))) as lock:
        assert affordable_jobs(lock, 4) == jobs


def test_a_database_can_have_few_connections_too(shop: Database):
    shop.run(f"ALTER DATABASE {shop.name} CONNECTION LIMIT 7")
    with locked(parse_url(shop.url)) as lock:
        assert affordable_jobs(lock, 4) == 2


def test_many_tables_leave_one_job(shop: Database):
    """Each session locks tables, and a server has room for so many locks."""
    ((room,),) = shop.run(
        "SELECT current_setting('max_locks_per_transaction')::int"
        " * current_setting('max_connections')::int"
    )
    assert room < 4 * 2500 + 1000
    shop.run(MANY_TABLES)
    with locked(parse_url(shop.url)) as lock:
        assert affordable_jobs(lock, 4) == 1
