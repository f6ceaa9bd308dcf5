"""What a restore is to do, read from its rows once, so that no transaction stays open."""

from dataclasses import dataclass, replace
from typing import Any

from app.config import settings
from app.extensions import db
from app.models import Database, DatabaseBackup, Kind, Restore, Schedule, Trigger
from app.postgres.conninfo import Conninfo
from app.postgres.selection import Name
from app.services.databases.lookup import find_database
from app.services.jobs.session_names import restore_session
from app.services.restores import scratch
from app.services.restores.source import get_source

_PUBLIC = ["schema", "public"]


@dataclass(frozen=True)
class Order:
    """A restore, and the backup that it is made from as it was when the restore began."""

    id: str
    kind: Kind
    trigger: Trigger
    created_by: str
    database: str
    working: str
    tables: tuple[Name, ...]  # empty for all of them
    as_superuser: bool
    schedule_id: str | None  # of a refresh
    sql: str  # to run in the new database before it gets its name
    backup: DatabaseBackup  # detached
    guarded: Database  # detached; it is replaced, or the restore works on its server
    contents: dict[str, Any]  # of the backup, or its part that is restored
    _live: Conninfo | None = None

    @property
    def filename(self) -> str:
        return self.backup.filename

    @property
    def backup_id(self) -> str:
        return self.backup.id

    @property
    def database_size(self) -> int:
        """The size of the database that was dumped, in bytes; 0 if unknown."""
        return self.backup.database_size or 2 * int(self.contents.get("rowBytes", 0))

    @property
    def major(self) -> int:
        """The version of the server that was dumped; 0 if unknown."""
        return int(self.backup.server_version.partition(".")[0] or 0)

    @property
    def live(self) -> Conninfo:
        """How to connect to the guarded database while it is reached."""
        assert self._live is not None  # noqa: S101 - only a throwaway drill does without
        return self._live

    def reaching(self, live: Conninfo) -> "Order":
        """The same order while the guarded database is reached."""
        return replace(self, _live=live)

    @property
    def is_of_all(self) -> bool:
        """Whether its outcome says something about the whole backup."""
        return not self.tables and not self.sql and self.kind is not Kind.IN_PLACE

    @property
    def is_throwaway(self) -> bool:
        """Whether it runs on a server of its own."""
        return self.working.startswith(scratch.THROWAWAY)

    @property
    def timeout(self) -> int:
        """How long it may take in all, in seconds."""
        # The watch of a drill's own server ends it earlier, and says so.
        return 2 * settings().drill_timeout if self.is_throwaway else settings().restore_timeout

    @property
    def application_name(self) -> str:
        return restore_session(self.id)

    @property
    def rows(self) -> dict[str, int]:
        """The rows of each table, by the name that pg_restore uses."""
        return {
            f"{table['schema']}.{table['name']}": table.get("rows") or 0
            for table in self.contents.get("tables", [])
        }

    @property
    def lacks_public(self) -> bool:
        """Whether the database that was dumped had no schema `public`, as new ones have."""
        owned = self.contents.get("owned", [])
        return bool(owned) and not any(item[:2] == _PUBLIC for item in owned)


def read_order(restore_id: str) -> Order:
    """The order of a restore. Raises NotFound if its backup was deleted."""
    row = db.session.get_one(Restore, restore_id)
    guarded = find_database(row.database_id)
    schedule = db.session.get(Schedule, row.schedule_id) if row.schedule_id else None
    source = get_source(row.filename, guarded.name if guarded is not None else "")
    order = Order(
        id=row.id,
        kind=row.kind,
        trigger=row.trigger,
        created_by=row.created_by,
        database=row.database,
        working=row.working,
        tables=tuple((table["schema"], table["name"]) for table in row.tables or []),
        as_superuser=row.as_superuser,
        schedule_id=row.schedule_id,
        sql=schedule.sql if schedule is not None else "",
        backup=source.backup,
        guarded=source.database,
        contents=source.contents,
    )
    db.session.commit()
    return order
