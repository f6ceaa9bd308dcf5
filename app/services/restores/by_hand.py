"""How to restore a dump by hand, shown with every backup."""

import shlex
from dataclasses import dataclass

from app.config import settings
from app.errors import AppError
from app.models import DatabaseBackup
from app.postgres.conninfo import Conninfo
from app.postgres.tools import Toolchain, find_toolchains
from app.services.backups.manifests import createdb_options, settings_statements
from app.services.databases.configured import storage
from app.services.databases.connections import connection_of
from app.services.databases.lookup import find_database

_FOREIGN = (
    "A foreign dump is a program: never restore it as a superuser, who would run any code hidden in"
    " it. Sign in as a role that may do nothing else."
)


@dataclass(frozen=True)
class ByHand:
    """The commands that restore a dump into a new database, and what can read it."""

    commands: list[str]
    oldest_reader: int  # major version of the oldest pg_restore that reads it
    warning: str  # empty if this machine has what it needs


def restore_by_hand(backup: DatabaseBackup) -> ByHand | None:
    """How to restore this backup without the panel; None if it has no dump.

    The database is a new one: `pg_restore --clean` into a live database can leave duplicated
    rows (docs/how-to/restore-by-hand.md).
    """
    if not backup.is_completed or backup.oldest_reader is None:
        return None
    reader = find_reader(backup)
    folder = f"{reader.folder}/" if reader else ""
    info, warning = _target(backup)
    new = f"{backup.database}_restored"
    admin, target = info.dsn(dbname="postgres"), info.dsn(dbname=new)
    create = [
        f"{folder}createdb", f"--maintenance-db={admin}", "--template=template0",
        *createdb_options(backup), "--", new,
    ]  # fmt: skip
    sets = [
        [f"{folder}psql", f"--dbname={target}", "-c", statement]
        for statement in settings_statements(backup, new)
    ]
    restore = [
        f"{folder}pg_restore", "--exit-on-error",
        *(["--no-owner", "--no-privileges"] if backup.foreign else []),
        f"--dbname={target}", str(storage().folder / backup.filename),
    ]  # fmt: skip
    prefix = f"PGPASSFILE={shlex.quote(str(info.passfile))} " if info.passfile else ""
    if reader is None:
        warning = f"No pg_restore {backup.oldest_reader} or newer was found here."
    if backup.foreign:
        warning = f"{warning} {_FOREIGN}".strip()
    return ByHand(
        [prefix + shlex.join(words) for words in (create, *sets, restore)],
        backup.oldest_reader,
        warning,
    )


def _target(backup: DatabaseBackup) -> tuple[Conninfo, str]:
    """The server that the backup came from, or placeholders if it is not configured."""
    unknown = Conninfo({"host": "HOST", "port": "PORT", "user": "USER"})
    database = find_database(backup.database_id)
    if database is None:
        return unknown, f"It came from {backup.server}: replace HOST, PORT and USER."
    try:
        return connection_of(database), ""
    except AppError as error:
        return unknown, f"Replace HOST, PORT and USER: {error.message}. {error.hint}"


def find_reader(backup: DatabaseBackup) -> Toolchain | None:
    """Of the pg_restores that can read it, the one nearest to the pg_dump that made it."""
    try:
        toolchains = find_toolchains(settings().pg_bin_dir)
    except AppError:
        return None
    oldest = backup.oldest_reader or 0
    able = (toolchain for toolchain in toolchains if toolchain.reads(oldest, backup.compression))
    return min(
        able,
        key=lambda toolchain: (str(toolchain.version) != backup.tool_version, toolchain.version),
        default=None,
    )
