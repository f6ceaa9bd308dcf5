"""Which database the running panel of this instance is for, as other terminals can know it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from app import locks
from app.config import settings
from app.errors import Conflict
from app.services.databases.configured import DatabaseName, database_name

_NOTE = "database.json"  # in the instance folder; names only, no secrets


@contextmanager
def noting_database() -> Iterator[None]:
    """Tell other terminals, as long as this lasts, which database is served here."""
    path = settings().instance_dir / _NOTE
    path.touch(mode=0o600)
    with path.open("r+", encoding="utf-8") as note:
        locks.share(note.fileno(), waits=True)
        note.truncate()
        note.write(json.dumps(database_name()._asdict()))
        note.flush()
        yield


def noted_database() -> DatabaseName | None:
    """That of the panel that runs; None where none does."""
    path = settings().instance_dir / _NOTE
    if not locks.is_shared(path):
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return DatabaseName(str(told["server"]), str(told["database"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def refuse_another_database() -> None:
    """Raise Conflict where the panel runs for another database than this process would take."""
    noted, ours = noted_database(), database_name()
    if noted is None or noted == ours:
        return
    why = "" if settings().database_url else ", as DATABASE_URL is not set"
    raise Conflict(
        f"the panel runs for {noted.database}, and this command would take {ours.database}",
        detail=f"The panel: {noted.database} on {noted.server}. Here: {ours.database} on"
        f" {ours.server}{why}.",
        hint="Set DATABASE_URL as the panel has it. If this one is meant, add --other-database.",
    )
