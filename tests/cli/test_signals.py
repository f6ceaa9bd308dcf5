"""A drill or a restore in the terminal is ended by a signal, and leaves nothing."""

import signal
from pathlib import Path

import pytest

from app.extensions import db
from app.models import Status, Trigger
from app.services.backups import service as backups
from app.services.restores import service as restores
from tests.cli.test_panel import PATIENCE, Home
from tests.conftest import RESTORED_SLEEPS, Database
from tests.forks import Forked
from tests.postgres.conftest import wait_until

# Only where it is restored does it take its time.
_SLOW = """
    CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        IF current_database() LIKE 'backstop%' THEN PERFORM pg_sleep(60); END IF;
        RETURN true;
    END $$;
    ALTER TABLE orders ADD CHECK (slow(id));
"""
_LEFT = """
    SELECT datname::text FROM pg_database WHERE starts_with(datname, 'backstop_')
    UNION ALL SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'backstop_')
    UNION ALL SELECT application_name FROM pg_stat_activity
    WHERE starts_with(application_name, 'backstop restore')
"""


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize(
    ("words", "signals"),
    [
        (["drill"], [signal.SIGINT]),
        (["restore"], [signal.SIGTERM]),
        (["restore", "--replace", "--yes"], [signal.SIGINT, signal.SIGTERM]),
    ],
)
def test_a_signal_ends_it_and_leaves_nothing(
    words: list[str], signals: list[signal.Signals], tmp_path: Path, shop: Database
):
    """The first one cleanly, the second at once."""
    shop.run(_SLOW)
    filename = backups.create_backup(trigger=Trigger.CLI, created_by="ann").filename
    command, *more = words
    # A drill on this server too, where its load can be seen to sleep.
    where = {"BACKSTOP_DRILL_URL": shop.url, "BACKSTOP_DRILL_ON_LIVE": "on"}
    with (tmp_path / "said").open("w") as said:
        environment = Home(tmp_path).environment(DATABASE_URL=shop.url, **where)
        words = ["backup", command, filename, *more]
        started = Forked(words, env=environment, stdout=said, stderr=said)
    wait_until(
        lambda: started.poll() is not None or shop.run(RESTORED_SLEEPS) == [(1,)], "it loads"
    )
    first, *second = signals
    started.send_signal(first)
    interrupted = f"Interrupted by {first.name}"
    wait_until(lambda: interrupted in (tmp_path / "said").read_text(), "it heard the first")
    for number in second:
        started.send_signal(number)
    assert started.wait(PATIENCE) in {128 + each for each in signals}
    db.session.commit()  # to see what the other process has written
    (row,) = restores.list_restores()
    assert row.status is Status.FAILED
    assert "was interrupted" in row.error_message
    assert shop.run(_LEFT) == []
    assert shop.run("SELECT count(*) FROM orders") == [(500,)]
