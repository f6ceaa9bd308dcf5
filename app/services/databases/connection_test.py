"""Test the connection to a database step by step, whether it is saved or not."""

from dataclasses import replace

from app.config import settings
from app.errors import AppError
from app.models import Database
from app.postgres.connection_check import NETWORK, STEPS, check_connection
from app.services.audit.acting import acting, tell_steps
from app.services.databases.connections import reached
from app.services.databases.lookup import get_database
from app.services.databases.service import Changes, unsaved_database
from app.steps import Step, failed_step, untried

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


def _check(database: Database) -> tuple[Step, ...]:
    steps = _through_ssh(database) if database.ssh_url else _directly(database)
    tell_steps(database.name or f"{database.dbname} on {database.server}", steps)
    return steps


def _directly(database: Database) -> tuple[Step, ...]:
    with reached(database) as info:
        return check_connection(info, pg_bin_dir=settings().pg_bin_dir)


def _through_ssh(database: Database) -> tuple[Step, ...]:
    try:
        steps = _directly(database)
    except AppError as error:
        return (failed_step(SSH_HOST, error), *untried(STEPS))
    # The port is our end of the tunnel, which tells people nothing.
    answered = f"{database.server} accepts connections from there"
    steps = tuple(
        replace(step, detail=answered) if step.name == NETWORK and step.passed else step
        for step in steps
    )
    return (Step(SSH_HOST, True, f"{database.ssh_url} lets us through"), *steps)
