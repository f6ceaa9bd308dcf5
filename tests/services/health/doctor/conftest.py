"""What the doctor's tests share: how to ask it, and what to put in its way."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from flask import Flask

from app.config import Settings, bind_settings
from app.config import settings as current_settings
from app.extensions import writing
from app.models import DatabaseBackup, Status, Trigger
from app.models.backup import filename_of
from app.models.types import now
from app.services.backups import service as backups
from app.services.health.doctor import Finding, State, examine
from tests.conftest import database_id

OK, WARNING, PROBLEM = State.OK, State.WARNING, State.PROBLEM
SUBJECTS = [
    "server", "pg_dump", "server clock", "tables", "row security", "large objects", "restores",
    "backup folder", "instance folder", "secret key", "catalogue", "migrations", "queue",
    "clock", "schedule", "worker", "leftovers", "newest backup", "dumps", "drills", "free space",
]  # fmt: skip


def found(subject: str) -> Finding:
    findings = examine()
    assert [each.subject for each in findings] == SUBJECTS
    for each in findings:
        assert each.told
        assert f"{each.told}{each.hint}".isprintable()
    return next(each for each in findings if each.subject == subject)


@contextmanager
def changed(app: Flask, **changes: object) -> Iterator[Settings]:
    """Other settings for a while."""
    before = current_settings()
    bind_settings(app, replace(before, **changes))
    try:
        yield current_settings()
    finally:
        bind_settings(app, before)


def make() -> DatabaseBackup:
    return backups.create_backup(trigger=Trigger.CLI, created_by="tester")


def plant(age: timedelta, size: int, **more: object) -> None:
    """A row without a dump."""
    moment, guarded = now() - age, database_id("s", "d")
    with writing() as session:
        session.add(
            DatabaseBackup(
                filename=filename_of(moment),
                created_at=moment,
                size=size,
                database_id=guarded,
                server="s",
                database="d",
                **{"status": Status.COMPLETED, "trigger": Trigger.CLI} | more,
            )
        )
