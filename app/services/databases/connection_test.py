"""Test the connection to a database step by step, whether it is saved or not."""

from collections.abc import Sequence
from dataclasses import replace

from app.config import settings
from app.errors import AppError
from app.models import ActOutcome, Database
from app.postgres.connection_check import NETWORK, STEPS, Step, check_connection
from app.services.audit.acting import acting, tell
from app.services.databases.connections import reached
from app.services.databases.lookup import get_database
from app.services.databases.service import Changes, unsaved_database

SSH_HOST = "SSH host"  # the first step where there is one


@acting
def check_database(name: str) -> tuple[Step, ...]:
    """All steps of reaching a database, in order; its server is only read.

    Raises NotFound, and as `connection_of` if the settings do not say how to reach it.
    """
    return _check(get_database(name))


@acting
def check_url(url: str, changes: Changes | None = None) -> tuple[Step, ...]:
    """The same for a database that is not saved; nothing is stored. Raises InvalidInput."""
    return _check(unsaved_database(url, changes))


def is_passed(steps: Sequence[Step]) -> bool:
    """Whether no step has failed."""
    return all(step.passed is not False for step in steps)


def _check(database: Database) -> tuple[Step, ...]:
    steps = _through_ssh(database) if database.ssh_url else _directly(database)
    failed = [step.name for step in steps if step.passed is False]
    tell(
        subject=database.name or f"{database.dbname} on {database.server}",
        outcome=ActOutcome.FAILED if failed else ActOutcome.DONE,
        detail=f"failed: {', '.join(failed)}" if failed else "",
    )
    return steps


def _directly(database: Database) -> tuple[Step, ...]:
    with reached(database) as info:
        return check_connection(info, pg_bin_dir=settings().pg_bin_dir)


def _through_ssh(database: Database) -> tuple[Step, ...]:
    try:
        steps = _directly(database)
    except AppError as error:
        detail = f"{error.message}: {error.detail}" if error.detail else error.message
        untried = (Step(name, None, "not tried") for name in STEPS)
        return (Step(SSH_HOST, False, detail, error.hint), *untried)
    # The port is our end of the tunnel, which tells people nothing.
    answered = f"{database.server} accepts connections from there"
    steps = tuple(
        replace(step, detail=answered) if step.name == NETWORK and step.passed else step
        for step in steps
    )
    return (Step(SSH_HOST, True, f"{database.ssh_url} lets us through"), *steps)
