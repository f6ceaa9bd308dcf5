"""What the tests of restores share: backups, restores, and what they may leave behind."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from app.config import Settings
from app.models import Kind, Restore, Trigger
from app.postgres.conninfo import Conninfo
from app.services.backups import service as backups
from app.services.restores import service as restores
from app.services.restores.request import RestoreRequest
from app.services.restores.source import get_source
from tests.conftest import Database, url_of

#: The kinds that somebody asks for; a refresh belongs to a schedule.
ASKED_FOR = [kind for kind in Kind if kind is not Kind.REFRESH]


@pytest.fixture
def settings(settings: Settings, server: Conninfo) -> Settings:
    """Drills run on the server itself here, by a role without rights, as all restores do."""
    return replace(settings, drill_url=url_of(server, "postgres"), drill_on_live=True)


def backed_up() -> str:
    made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    assert made.is_completed, (made.error_message, made.error_detail)
    return made.filename


def attempt(
    filename: str, kind: Kind, *, on_line: Callable[[str], None] | None = None, **more: Any
) -> Restore:
    request = RestoreRequest(get_source(filename), kind, Trigger.CLI, "ann", **more)
    return restores.create_restore(request, on_line=on_line)


def restored(filename: str, kind: Kind, **more: Any) -> Restore:
    row = attempt(filename, kind, **more)
    assert row.is_completed, (row.error_message, row.error_detail, row.log)
    return row


@pytest.fixture
def living(shop: Database, server: Conninfo) -> Iterator[Database]:
    """The shop; whatever is restored beside it or kept of it is dropped afterwards."""
    yield shop
    admin = Database("postgres", url_of(server, "postgres"))
    beside = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) AND datname <> %s"
    for (name,) in admin.run(beside, shop.name, shop.name):
        admin.run(f'DROP DATABASE "{name}" WITH (FORCE)')
