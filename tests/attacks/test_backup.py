"""What a user of the database can make a backup do: nothing but read, with nobody's functions."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
from flask import Flask

from app.models import Trigger
from app.services.backups import service as backups
from app.services.proofs import records as proofs
from tests.conftest import Database, url_of

BACKSTOP = 0x4261636B  # the first half of the lock that tells everybody of a backup
LEAK = 777

# Run by whoever plans a query over her table: `inner` does what the planner's role may.
TRAP = """
    CREATE TABLE mallory.t AS SELECT 1 AS x;
    CREATE FUNCTION mallory.inner_() RETURNS int LANGUAGE plpgsql VOLATILE AS $$
    DECLARE b bytea;
    BEGIN
        IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
            EXECUTE $q$COPY (SELECT current_user) TO PROGRAM 'cat > {mark}'$q$;
        ELSIF current_user <> '{mallory}' THEN
            EXECUTE 'SELECT convert_to(name, ''UTF8'') FROM public.customers LIMIT 1' INTO b;
            FOR i IN 0..length(b) - 1 LOOP
                PERFORM pg_advisory_lock(777, i * 256 + get_byte(b, i));
            END LOOP;
        END IF;
        RETURN 1;
    END $$;
    CREATE FUNCTION mallory.evil(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE
        AS $$ BEGIN PERFORM mallory.inner_(); RETURN n; END $$;
"""
LOCKS = """
    SELECT classid::bigint, objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND database = (
        SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass
class Mallory:
    """An ordinary user who sees a backup begin, and then makes an index."""

    name: str
    url: str
    leaked: dict[int, int]
    has_struck: threading.Event
    over: threading.Event

    def lie_in_wait(self) -> None:
        with closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                while not self.over.wait(0.002):
                    cursor.execute(LOCKS)
                    locks = cursor.fetchall()
                    self.leaked |= {at // 256: at % 256 for kind, at in locks if kind == LEAK}
                    if BACKSTOP in dict(locks) and not self.has_struck.is_set():
                        cursor.execute("CREATE INDEX ON mallory.t (mallory.evil(1))")
                        cursor.execute("CREATE STATISTICS ON (mallory.evil(2)), x FROM mallory.t")
                        self.has_struck.set()


@pytest.fixture
def mark(passable_dir: Path) -> Path:
    folder = passable_dir / f"marks-{secrets.token_hex(4)}"
    folder.mkdir()
    folder.chmod(0o777)
    return folder / "mark"


@pytest.fixture
def mallory(shop: Database, mark: Path) -> Iterator[Mallory]:
    name, password = f"mallory_{secrets.token_hex(4)}", secrets.token_hex(8)
    shop.run(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    shop.run(f"CREATE SCHEMA mallory AUTHORIZATION {name}")
    url = shop.url.replace(shop.url.split("//")[1].split("@")[0], f"{name}:{password}")
    Database(shop.name, url).run(TRAP.replace("{mark}", str(mark)).replace("{mallory}", name))
    her = Mallory(name, url, {}, threading.Event(), threading.Event())
    thread = threading.Thread(target=her.lie_in_wait)
    thread.start()
    yield her
    her.over.set()
    thread.join()
    shop.run(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def backed_up_beside(her: Mallory) -> None:
    made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    assert made.is_completed, (made.error_message, made.error_detail)
    deadline = time.monotonic() + 20
    while not her.has_struck.wait(0.1):
        assert time.monotonic() < deadline
    (read,) = proofs.list_proofs(made.id)
    assert read.evidence["differences"] == []


def counted_all() -> None:
    """Also her own table is counted, for nothing of it runs."""
    made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    (read,) = proofs.list_proofs(made.id)
    assert (read.evidence["uncounted"], read.evidence["differences"]) == ([], [])


@pytest.mark.usefixtures("context")
def test_an_index_that_is_made_during_a_backup_runs_nothing_as_a_superuser(
    mallory: Mallory, mark: Path
):
    backed_up_beside(mallory)
    assert not mark.exists()
    counted_all()
    assert not mark.exists()


def test_an_index_that_is_made_during_a_backup_reads_nothing_for_its_maker(
    mallory: Mallory, shop: Database, server, make_app: Callable[..., Flask]
):
    reader = f"reader_{secrets.token_hex(4)}"
    shop.run(f"CREATE ROLE {reader} LOGIN IN ROLE pg_read_all_data PASSWORD 'r7f3d4'")
    try:
        with make_app(database_url=url_of(server, shop.name, reader, "r7f3d4")).app_context():
            backed_up_beside(mallory)
            leaked = bytes(byte for _, byte in sorted(mallory.leaked.items()))
            assert leaked == b""
            counted_all()
        assert bytes(byte for _, byte in sorted(mallory.leaked.items())) == b""
    finally:
        shop.run(f"DROP ROLE {reader}")


@pytest.mark.usefixtures("context")
def test_the_trap_would_catch_whoever_plans_over_it(mallory: Mallory, shop: Database, mark: Path):
    shop.run("CREATE INDEX ON mallory.t (mallory.evil(1))")
    shop.run("SELECT count(*) FROM mallory.t")
    assert mark.exists()
