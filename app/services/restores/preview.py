"""What is known before a restore begins: what it would do, and what stands in its way."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from app.config import settings
from app.errors import Conflict, NotPossible
from app.extensions import db
from app.models import DatabaseBackup, Kind, Restore, Status
from app.postgres.archive import Entry, read_entries
from app.postgres.databases import Server, neighbour, serving
from app.postgres.ownership import creating, owners_of, roles_of
from app.postgres.privileges import superuser_only
from app.postgres.restore import Plan, plan
from app.postgres.selection import Name, narrowed, select
from app.postgres.tools import Toolchain, choose_toolchain, find_toolchains
from app.services.backups.free_space import (
    refuse_restore_without_space,
    refuse_without_space,
    tell_room,
)
from app.services.databases.configured import database_name, storage
from app.services.proofs.records import best_proofs
from app.services.restores import in_place, scratch
from app.services.restores.swap import refuse_unswappable

_TOLD = 20  # names that are told

_CONNECTED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = %s AND backend_type = 'client backend'
"""


def find_in_the_way(kind: Kind) -> Restore | None:
    """The restore that one of this kind would have to wait for; a drill waits for drills alone."""
    same = (Restore.kind == Kind.DRILL) if kind is Kind.DRILL else (Restore.kind != Kind.DRILL)
    return db.session.scalar(sa.select(Restore).where(Restore.status == Status.PENDING, same))


def tell(
    backup: DatabaseBackup,
    kind: Kind,
    target: str,
    chosen: Sequence[Name] = (),
    *,
    as_superuser: bool | None = None,
) -> dict[str, Any]:
    """What a restore of this kind would do, for all faces; `target` is the new database.

    Of some tables it tells too which come without rows, and what is left out.
    Without a word about a superuser (None) it tells that one is needed.

    Raises what would refuse it: ConnectError, Conflict, NotPossible, StorageError.
    """
    filename, contents, size = backup.filename, backup.contents or {}, backup.database_size
    compression, oldest_reader = backup.compression, backup.oldest_reader or 0
    dumped, database = backup.server_version, backup.database
    proof = best_proofs([backup]).get(backup.id)
    running = find_in_the_way(kind)
    told: dict[str, Any] = {
        "database": target,
        "dumpedVersion": dumped,
        "proof": proof,
        "running": f"the {running.told} of {running.filename}" if running else None,
        "owner": contents.get("owner"),
        "definitions": [],
    }
    db.session.commit()
    info = scratch.server_of(kind)
    with serving(neighbour(info), application_name="backstop look") as server:
        toolchain_for(oldest_reader, compression, server)
        with storage().open(filename) as file:
            entries = read_entries(file)
        roles, left_out = roles_of(contents), []
        if chosen:
            selection = select(entries, chosen)
            entries, contents = selection.entries, narrowed(contents, selection)
            roles, left_out = {each.owner for each in entries} - {""}, selection.left_out
            told["definitions"] = selection.definitions
        apart = divide(entries, contents, server)
        if kind is Kind.IN_PLACE:
            told |= _look_around(contents, entries)
            refuse_restore_without_space(server, size)
        else:
            for_superusers = superuser_only(server, apart.load)
            refuse(server, kind, target, contents, apart, size=size, as_superuser=as_superuser)
            told["forSuperusers"] = for_superusers
            told["powers"] = server.ask("SELECT current_user::text") if for_superusers else ""
        if kind in (Kind.REPLACE, Kind.IN_PLACE):
            refuse_without_space(
                database_name(), size or 0, compression, "the backup that is made before"
            )
        tables = contents.get("tables", [])
        missing = sorted(roles - server.roles(encoding=_encoding(contents)))
        told |= {
            "tables": len(tables),
            "rows": sum(each.get("rows") or 0 for each in tables),
            "serverVersion": str(server.version),
            "sessions": server.ask(_CONNECTED, database),
            "missingRoles": missing,
            "missingRolesSql": creating(missing, contents.get("roles", "")),
            "privileged": [] if kind is Kind.IN_PLACE else apart.privileged,
            "leftOut": [*apart.left_out_names, *left_out],
            "neededBytes": size,
            "freeBytes": server.free_space(),
        }
        is_older = server.version.major < int(dumped.partition(".")[0] or 0)
        return told | {"remarks": list(_remarks(told, is_older=is_older))}


def _look_around(contents: dict[str, Any], entries: list[Entry]) -> dict[str, Any]:
    """What a restore in place would leave, and take along. Raises as `in_place.prepare`."""
    with serving(in_place.signing_in(), application_name="backstop look") as server:
        prepared = in_place.prepare(server, contents, entries, as_superuser=None)
    return in_place.around_told(prepared.around) | {"powers": prepared.powers}


def _remarks(told: dict[str, Any], *, is_older: bool) -> Iterator[str]:
    """What is to be known before, each in a sentence without its capital and full stop."""
    if told["proof"] is not None and told["proof"].is_failed:
        yield "the proof of this backup has failed; do not rely on it alone"
    if told["running"]:
        yield f"{told['running']} is running, and must end first"
    if is_older:
        yield (
            f"the backup is of PostgreSQL {told['dumpedVersion']}, and this server is older: what"
            " it does not know cannot be restored"
        )
    for name in told["missingRoles"]:
        yield f"role {name} is not there: its owners and grants are not brought back"
    if told["privileged"]:
        yield f"made by our admin, as only a superuser may: {', '.join(told['privileged'])}"
    if told.get("forSuperusers"):
        yield (
            f"only a superuser can create {', '.join(told['forSuperusers'])}: if you trust whoever"
            " could write into the database, say that a superuser may load it"
        )
    for name in told["definitions"]:
        yield f"{name} is made without its rows: others need it to exist"
    if told["leftOut"]:
        yield f"left out: {', '.join(told['leftOut'])}"
    yield tell_room(told["neededBytes"], told["freeBytes"])


def refuse(
    server: Server,
    kind: Kind,
    target: str,
    contents: dict[str, Any],
    apart: Plan,
    *,
    size: int | None,
    as_superuser: bool | None,
) -> None:
    """Raise what is known to end such a restore before anything is loaded.

    `size` is that of the database when it was dumped, in bytes. Raises
    Conflict, NotPossible, StorageFull.
    """
    _refuse_impossible(server, contents, apart)
    if as_superuser is not None:
        _refuse_for_superusers(server, contents, apart, as_superuser=as_superuser)
    if kind is Kind.REPLACE:
        missing = sorted(roles_of(contents) - server.roles(encoding=_encoding(contents)))
        if missing:
            raise Conflict(
                f'database "{target}" cannot be replaced: roles of the backup are missing',
                detail="; ".join(f"role {name} is not there" for name in missing) + ".",
                hint=f"Create them: {' '.join(creating(missing, contents.get('roles', '')))}"
                " Or restore beside.",
            )
        refuse_unswappable(server, target)
    if kind is Kind.BESIDE:
        refuse_taken(server, target)
    refuse_restore_without_space(server, size)


def _refuse_for_superusers(
    server: Server, contents: dict[str, Any], apart: Plan, *, as_superuser: bool
) -> None:
    """Raise NotPossible for what a role without rights cannot load, by name."""
    names = superuser_only(server, apart.load)
    if not names:
        return
    told = f"{', '.join(names[:_TOLD])}."
    if not as_superuser:
        raise NotPossible(
            "the backup holds what only a superuser can create",
            detail=told,
            hint="If you trust whoever could write into the database, let a superuser load it:"
            ' --as-superuser, or "confirmSuperuser": true. Else restore by hand.',
        )
    if not may_load_as_superuser(server, contents):
        raise NotPossible(
            "the backup holds what only a superuser can create, and none may load it",
            detail=told,
            hint="It is foreign, or our role is no superuser, or BACKSTOP_RESTORE_URL names one"
            " that is none. Restore it by hand.",
        )


def may_load_as_superuser(server: Server, contents: dict[str, Any]) -> bool:
    """Whether a superuser could load it, if that was asked for."""
    is_foreign = "foreign" in contents
    return not is_foreign and not settings().restore_url and server.is_superuser()


def refuse_taken(server: Server, target: str) -> None:
    """Raise Conflict where the new database's name is not free."""
    if server.has_database(target):
        raise Conflict(f'database "{target}" is there already', hint="Choose another name.")


def toolchain_for(oldest_reader: int, compression: str, server: Server) -> Toolchain:
    """Programs that can read such an archive: those for the server, else the newest.

    pg_restore takes a newer server, unlike pg_dump. Raises NotPossible.
    """
    found = find_toolchains(settings().pg_bin_dir)
    able = [each for each in found if each.reads(oldest_reader, compression)]
    if not able:
        raise NotPossible(
            f"no pg_restore {oldest_reader} or newer was found that reads"
            f" {compression.partition(':')[0]}",
            hint="Install the client programs of that version, or set BACKSTOP_PG_BIN_DIR.",
        )
    newest = max(each.version for each in able)
    return choose_toolchain(able, min(server.version, newest))


def divide(entries: list[Entry], contents: dict[str, Any], server: Server) -> Plan:
    """Who loads what of an archive on this server."""
    untrusted = server.untrusted_extensions(_extensions(contents))
    return plan(entries, untrusted, is_foreign="foreign" in contents)


def _encoding(contents: dict[str, Any]) -> str:
    """That of the dump: in it, names were read."""
    return contents.get("encoding") or ""


def _extensions(contents: dict[str, Any]) -> list[str]:
    return [each["name"] for each in contents.get("extensions", [])]


def _refuse_impossible(server: Server, contents: dict[str, Any], apart: Plan) -> None:
    missing = server.missing_extensions(_extensions(contents))
    if missing:
        raise NotPossible(
            f"this server lacks extensions of the backup: {', '.join(missing)}",
            hint="Install their packages on the server, then restore again.",
        )
    untrusted = server.untrusted_extensions(_extensions(contents))
    if "foreign" in contents and untrusted:
        raise NotPossible(
            f"only a superuser may create what this dump needs: {', '.join(sorted(untrusted))}",
            detail="Nothing of a foreign dump is loaded with a superuser's rights.",
            hint="Create them in a database by hand, then load the dump there as an ordinary role.",
        )
    databases, roles = server.may_create()
    if not (databases and (roles or settings().restore_url)):
        raise NotPossible(
            "a restore needs a role that may create databases and roles",
            detail="Whoever restores must not be a superuser, so a role is made for it.",
            hint="As a superuser: ALTER ROLE … CREATEDB CREATEROLE; or name such a role's"
            " stand-in by BACKSTOP_RESTORE_URL.",
        )
    if apart.for_superusers and not server.is_superuser():
        raise NotPossible(
            "the backup holds what only a superuser can create, and our role is none",
            detail=f"{', '.join(apart.for_superusers)}.",
            hint="Let a superuser be in DATABASE_URL for the restore, or restore by hand.",
        )
    foreign = server.roles_not_ours_to_be(owners_of(contents), encoding=_encoding(contents))
    if foreign:
        raise NotPossible(
            f"our role may not give anything to role {', '.join(foreign)}",
            detail="In the backup, it owns something.",
            hint="As a superuser: GRANT that role to the role of DATABASE_URL.",
        )
