"""What is known before a restore begins: what it would do, and what blocks it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.extensions import db
from app.models import Database, Kind, Proof, Restore, Status
from app.postgres.archive import Entry
from app.postgres.conninfo import Conninfo
from app.postgres.databases import Server, neighbour, serving
from app.postgres.ownership import creating, roles_of
from app.postgres.privileges import superuser_only
from app.postgres.selection import Name, narrowed, select
from app.services.backups.free_space import (
    refuse_restore_without_space,
    refuse_without_space,
    tell_room,
)
from app.services.databases.connections import reached
from app.services.restores import in_place, scratch
from app.services.restores.obstacles import Intent, divide, encoding_of, refuse, toolchain_for
from app.services.restores.source import Source

_CONNECTED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = %s AND backend_type = 'client backend'
"""


@dataclass(frozen=True)
class Preview:
    """What a restore would do. Sizes are in bytes."""

    database: str  # its final name; empty for a drill
    dumped_version: str  # of the server that was dumped; empty if unknown
    server_version: str
    tables: int
    rows: int
    proof: Proof | None
    running: str | None  # another restore, which must end first
    owner: str | None  # of the database that was dumped
    sessions: int  # connected to the live database
    missing_roles: list[str]  # on this server
    missing_roles_sql: list[str]  # creates them
    privileged: list[str]  # created by the admin, because only a superuser may
    for_superusers: list[str]  # what the role that loads the dump cannot create
    powers: str  # the role whose rights code in the dump would have; empty if it has none
    definitions: list[str]  # tables restored without rows, because others need them
    left_out: list[str]
    stays: list[str]  # in place: newer objects that stay
    goes: list[str]  # in place: newer objects that are dropped with others
    needed_bytes: int | None
    free_bytes: int | None  # None if it cannot be seen from here
    is_in_place: bool

    @property
    def remarks(self) -> list[str]:
        """What to know beforehand: sentences without their capital and full stop."""
        return list(_remarks(self))


@dataclass(frozen=True)
class _Part:
    """The part of a backup that is restored: all of it, or some tables."""

    entries: list[Entry]
    contents: dict[str, Any]
    roles: set[str]  # owners and grantees
    definitions: list[str]
    left_out: list[str]


@dataclass(frozen=True)
class _SideEffects:
    """What a restore does beyond loading: with whose rights, and to which other objects."""

    privileged: list[str]
    for_superusers: list[str]
    powers: str
    stays: list[str]
    goes: list[str]


def find_in_the_way(kind: Kind, database: Database) -> Restore | None:
    """The restore that refuses one of this kind; a drill only meets drills of its database."""
    others = sa.select(Restore).where(Restore.status == Status.PENDING)
    if kind is Kind.DRILL:
        others = others.where(Restore.kind == Kind.DRILL, Restore.database_id == database.id)
    else:
        others = others.where(Restore.kind != Kind.DRILL)
    return db.session.scalar(others)


def look_ahead(
    source: Source,
    kind: Kind,
    target: str,
    chosen: Sequence[Name] = (),
    *,
    as_superuser: bool | None = None,
) -> Preview:
    """What a restore of this kind would do; `target` is the final name of the database.

    Raises what would refuse it: ConnectError, Conflict, NotPossible, StorageError.
    """
    _ = source.proof  # read before the transaction ends
    running = find_in_the_way(kind, source.database)
    in_the_way = f"the {running.label} of {running.filename}" if running else None
    db.session.commit()
    backup = source.backup
    with (
        reached(source.database) as live,
        serving(
            neighbour(scratch.server_of(kind, live)), application_name="backstop look"
        ) as server,
    ):
        toolchain_for(backup, server)
        part = _part_of(source, chosen)
        plan = divide(part.entries, part.contents, server)
        intent = Intent(kind, target, part.contents, plan, backup.database_size, as_superuser)
        side_effects = _side_effects_of(server, live, intent, part.entries)
        if kind in (Kind.REPLACE, Kind.IN_PLACE):
            safety_backup = "the backup that is made first"
            size, compression = backup.database_size or 0, backup.compression
            refuse_without_space(source.database, size, compression, safety_backup)
        return _preview(
            server, source, intent=intent, part=part, side_effects=side_effects, running=in_the_way
        )


def _part_of(source: Source, chosen: Sequence[Name]) -> _Part:
    contents, entries = source.contents, source.entries
    if not chosen:
        return _Part(entries, contents, roles_of(contents), [], [])
    selection = select(entries, chosen)
    return _Part(
        selection.entries,
        narrowed(contents, selection),
        {entry.owner for entry in selection.entries} - {""},
        selection.definitions,
        selection.left_out,
    )


def _side_effects_of(
    server: Server, live: Conninfo, intent: Intent, entries: list[Entry]
) -> _SideEffects:
    """Raises as `in_place.prepare` and `refuse`."""
    if intent.kind is Kind.IN_PLACE:
        info = in_place.signing_in(live)
        with serving(info, application_name="backstop look") as session:
            prepared = in_place.prepare(session, intent.contents, entries, as_superuser=None)
        refuse_restore_without_space(server, intent.size)
        around = in_place.around_in_words(prepared.around)
        return _SideEffects([], [], prepared.powers, around["stays"], around["goes"])
    for_superusers = superuser_only(server, intent.plan.load)
    refuse(server, intent)
    powers = str(server.ask("SELECT current_user::text")) if for_superusers else ""
    return _SideEffects(intent.plan.privileged, for_superusers, powers, [], [])


def _preview(
    server: Server,
    source: Source,
    *,
    intent: Intent,
    part: _Part,
    side_effects: _SideEffects,
    running: str | None,
) -> Preview:
    missing = sorted(part.roles - server.roles(encoding=encoding_of(part.contents)))
    tables = part.contents.get("tables", [])
    return Preview(
        database=intent.target,
        dumped_version=source.backup.server_version,
        server_version=str(server.version),
        tables=len(tables),
        rows=sum(table.get("rows") or 0 for table in tables),
        proof=source.proof,
        running=running,
        owner=source.contents.get("owner"),
        sessions=int(server.ask(_CONNECTED, source.database.dbname)),
        missing_roles=missing,
        missing_roles_sql=creating(missing, part.contents.get("roles", "")),
        definitions=part.definitions,
        left_out=[*intent.plan.left_out_names, *part.left_out],
        needed_bytes=intent.size,
        free_bytes=server.free_space(),
        is_in_place=intent.kind is Kind.IN_PLACE,
        privileged=side_effects.privileged,
        for_superusers=side_effects.for_superusers,
        powers=side_effects.powers,
        stays=side_effects.stays,
        goes=side_effects.goes,
    )


def _remarks(preview: Preview) -> Iterator[str]:
    if preview.proof is not None and preview.proof.is_failed:
        yield "the proof of this backup has failed; do not rely on it alone"
    if preview.running:
        yield f"{preview.running} is running, and must end first"
    if _major(preview.server_version) < _major(preview.dumped_version):
        yield (
            f"the backup is of PostgreSQL {preview.dumped_version}, and this server is older:"
            " features that it does not know cannot be restored"
        )
    for name in preview.missing_roles:
        yield f"role {name} does not exist: its objects and grants are not restored to it"
    if preview.privileged:
        yield f"created by our admin, as only a superuser may: {', '.join(preview.privileged)}"
    if preview.for_superusers:
        yield (
            f"only a superuser can create {', '.join(preview.for_superusers)}: if you trust"
            " everyone who could write to the database, let a superuser load the dump"
        )
    for name in preview.definitions:
        yield f"{name} is created without its rows, because others need it"
    if preview.left_out:
        yield f"left out: {', '.join(preview.left_out)}"
    yield tell_room(preview.needed_bytes, preview.free_bytes)


def _major(version: str) -> int:
    return int(version.partition(".")[0] or 0)
