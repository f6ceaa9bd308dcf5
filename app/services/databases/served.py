"""The database of the running panel, noted for commands in other terminals."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from app import locks
from app.config import settings
from app.errors import Conflict
from app.services.databases.configured import Address, address_in_environment

_NOTE = "database.json"  # in the instance folder; names, no secrets


@contextmanager
def noting_database() -> Iterator[None]:
    """Note for other terminals which database this panel serves."""
    path = settings().instance_dir / _NOTE
    path.touch(mode=0o600)
    with path.open("r+", encoding="utf-8") as note:
        locks.share(note.fileno(), waits=True)
        note.truncate()
        note.write(json.dumps(address_in_environment()._asdict()))
        note.flush()
        yield


def noted_database() -> Address | None:
    """The database of the running panel; None if none runs."""
    path = settings().instance_dir / _NOTE
    if not locks.is_shared(path):
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return Address(str(note["server"]), str(note["dbname"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def refuse_another_database() -> None:
    """Raise Conflict if the running panel serves another database than this process."""
    theirs, ours = noted_database(), address_in_environment()
    if theirs is None or theirs == ours:
        return
    why = "" if settings().database_url else ", as DATABASE_URL is not set"
    raise Conflict(
        f"the panel serves {theirs.dbname}, but this command would use {ours.dbname}",
        detail=f"The panel: {theirs.dbname} on {theirs.server}. Here: {ours.dbname} on"
        f" {ours.server}{why}.",
        hint="Set DATABASE_URL as for the panel. If you mean this database, add --other-database.",
    )
