"""A replace that is killed: the living database is the old one or the new one, whole."""

import signal
import time
from collections.abc import Callable
from itertools import count

import pytest

from app.models import Restore, Status
from app.services.restores import service as restores
from tests.faults.kills import fall, span_of
from tests.faults.lab import SEED, Lab, N, chance, log_of
from tests.faults.test_steps import Stepper, stepper, tell, turns_once

__all__ = ["stepper"]

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400 + 15 * N)]

_KILLS = 2 * N
_SHOP = """
    CREATE TABLE marker AS SELECT 'none' AS told;
    CREATE TABLE orders AS SELECT n, md5(n::text) FROM generate_series(1, 5000) n;
"""


def ready(lab: Lab, told: str) -> list[str]:
    """A backup that tells `told`, of a database that tells something else since; the command."""
    for row in rows(lab):
        if row.kept is not None and row.dropped_at is None:
            with lab.context():
                restores.drop_kept(row.id, by="ann")
    lab.database.run("UPDATE marker SET told = %s", told)
    filename = lab.make_backup()
    lab.database.run("UPDATE marker SET told = 'living'; DELETE FROM orders WHERE n > 4000")
    return ["backup", "restore", filename, "--replace", "--yes"]


def rows(lab: Lab) -> list[Restore]:
    with lab.context():
        return restores.list_restores(limit=200)


def told_by(lab: Lab) -> str:
    """What the living database tells, once it is known to be one of the two, whole."""
    ((told, orders),) = lab.database.run("SELECT told, (SELECT count(*) FROM orders) FROM marker")
    assert orders == (4000 if told == "living" else 5000), told
    if told == "living":
        lab.database.run("INSERT INTO orders SELECT n, 'again' FROM generate_series(4001, 5000) n")
    return str(told)


def check(lab: Lab, *living) -> None:
    """The oracle of backups, and of restores."""
    lab.check(*living)
    left = lab.server.run(
        "SELECT datname FROM pg_database WHERE datname LIKE 'backstop\\_%%'"
        " UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'backstop\\_%%'"
    )
    assert not left, f"left behind: {left}"
    kept = {
        name
        for (name,) in lab.server.run(
            "SELECT datname FROM pg_database WHERE datname LIKE %s", f"{lab.database.name}\\_\\_%"
        )
    }
    known = {row.kept for row in rows(lab) if row.kept and row.dropped_at is None}
    assert kept == known, "databases that were set aside"
    assert not [row for row in rows(lab) if row.status is Status.PENDING]


def test_a_replace_that_is_killed_at_any_moment_leaves_one_of_two_whole_databases(
    make_lab: Callable[..., Lab], record_property
):
    lab = make_lab(_SHOP)
    words = ready(lab, "first")
    span = span_of(lambda: lab.flask(*words))
    assert told_by(lab) == "first"
    check(lab)
    kills, left = 0, []
    for index in count():
        if kills >= _KILLS:
            break
        number = (signal.SIGKILL, signal.SIGTERM)[index % 2]
        words = ready(lab, f"case {index}")
        luck = chance("replace", index)
        try:
            replace = lab.start(*words)
            time.sleep(luck.triangular(0, span.seconds, 0.8 * span.seconds))
            hit = fall(replace, number)
            check(lab)
            told = told_by(lab)
            assert told in ("living", f"case {index}")
            assert hit or told != "living", log_of(replace)
        except BaseException as error:
            error.add_note(f"case {index}, {number.name}, FAULTS_SEED={SEED}")
            raise
        kills += hit
        span.learn(hit=hit)
        left.append(told == "living")
    record_property("faults", f"replace: {kills} kills; {sum(left)} left the old database")


def test_a_replace_that_is_killed_at_any_step_is_done_or_not(
    stepper: Stepper, record_property: Callable[[str, object], None]
):
    lab = stepper.lab
    lab.database.run(f"DROP TABLE customers, orders; {_SHOP}")
    cases = count()

    def prepare() -> list[str]:
        return ready(lab, f"case {next(cases)}")

    def state() -> str:
        check(lab, stepper.process)
        return "old" if told_by(lab) == "living" else "new"

    came_to = stepper.at_each_step(prepare, state, least=8, moments=("after",), statements=True)
    turns_once(came_to, "old", "new")
    tell(record_property, "replace", len(came_to))
