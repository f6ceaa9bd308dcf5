"""A worker whose work takes long: what else is due does not wait for it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg2
import pytest
from cuid2 import create_id
from flask import Flask

from app.extensions import db, writing
from app.models import Kind, Restore, Status, Trigger
from app.models.types import now
from app.postgres.conninfo import Conninfo
from app.queue import count_waiting
from app.services.backups import service as backups
from app.services.databases.lookup import default_database
from app.services.jobs import workers
from app.services.proofs import assertions
from app.services.restores import service as restores
from app.services.restores.request import RestoreRequest
from app.services.restores.source import get_source
from tests.cli.test_panel import Worker
from tests.conftest import Database, url_of
from tests.postgres.conftest import wait_until
from tests.services.restores.conftest import backed_up

pytestmark = pytest.mark.timeout(400)


@contextmanager
def a_database_that_cannot_be_dropped(server: Conninfo) -> Iterator[str]:
    """What a restore has left behind, whose drop waits for a lock meanwhile."""
    restore_id, guarded = create_id(), default_database()
    working = f"backstop_{restore_id}"
    admin = Database("postgres", url_of(server, "postgres"))
    admin.run(f'CREATE DATABASE "{working}"')
    row = Restore(
        id=restore_id,
        filename="gone.dump",
        kind=Kind.BESIDE,
        database_id=guarded.id,
        server=guarded.server,
        database="beside",
        working=working,
        trigger=Trigger.CLI,
        status=Status.FAILED,
        finished_at=now(),
    )
    with writing() as session:
        session.add(row)
    holder = psycopg2.connect(url_of(server, "postgres"))
    try:
        with holder.cursor() as cursor:
            cursor.execute(f"COMMENT ON DATABASE \"{working}\" IS ''")
            yield working
    finally:
        holder.close()
        admin.run(f'DROP DATABASE IF EXISTS "{working}" WITH (FORCE)')


def is_being_dropped(server: Conninfo, database: str) -> bool:
    admin = Database("postgres", url_of(server, "postgres"))
    asked = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    return bool(admin.run(asked, f'DROP DATABASE%"{database}"%'))


def phase_of(restore_id: str) -> str:
    db.session.rollback()
    return str((restores.get_restore(restore_id).progress or {}).get("phase"))


def last_beat() -> float:
    return max((each.seen_at.timestamp() for each in workers.list_workers()), default=0.0)


def test_a_backup_and_the_heartbeat_wait_for_nothing_that_takes_long(
    app: Flask, shop: Database, server: Conninfo
):
    with app.app_context():
        filename = backed_up()
        assertions.add_assertion("asleep", "SELECT pg_sleep(150) IS NOT NULL", created_by="ann")
        with ExitStack() as hold, ExitStack() as running:
            stuck = hold.enter_context(a_database_that_cannot_be_dropped(server))
            running.enter_context(Worker(app))
            drill = restores.queue_restore(
                RestoreRequest(
                    get_source(filename), Kind.DRILL, trigger=Trigger.API, created_by="ann"
                )
            )
            wait_until(lambda: phase_of(drill.id) == "asserting", "the drill to sleep")
            wait_until(lambda: is_being_dropped(server, stuck), "a drop that hangs")
            beat = last_beat()
            made = backups.queue_backup(trigger=Trigger.API, created_by="ann")
            assert backups.wait_for_backup(made.id, 60).is_completed
            assert phase_of(drill.id) == "asserting"
            wait_until(lambda: last_beat() > beat, "another heartbeat", 30)
            assert count_waiting() == 0
            restores.cancel_restore(drill.id, by="ann")  # nor does that wait
            ended = restores.wait_for_restore(drill.id, 30)
            assert ended.error_message == "cancelled by ann"
            assert is_being_dropped(server, stuck)
