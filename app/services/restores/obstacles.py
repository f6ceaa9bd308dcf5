"""Refuse a restore that is known to fail, before anything is loaded."""

from dataclasses import dataclass
from typing import Any

from app.config import settings
from app.errors import Conflict, NotPossible
from app.models import DatabaseBackup, Kind
from app.postgres.archive import Entry
from app.postgres.databases import Server
from app.postgres.ownership import creating, owners_of, roles_of
from app.postgres.privileges import superuser_only
from app.postgres.restore import Plan, plan_load
from app.postgres.tools import Toolchain, choose_toolchain, find_toolchains
from app.services.backups.free_space import refuse_restore_without_space
from app.services.restores.scratch import restore_url
from app.services.restores.swap import refuse_unswappable

_MOST_NAMES = 20  # in one message


@dataclass(frozen=True)
class Intent:
    """A restore into a database of its own, as far as something can block it."""

    kind: Kind
    target: str
    contents: dict[str, Any]
    plan: Plan
    size: int | None  # of the database when it was dumped, in bytes
    as_superuser: bool | None  # None: not decided yet


def refuse(server: Server, intent: Intent) -> None:
    """Raise what is known to end such a restore before anything is loaded.

    Raises Conflict, NotPossible, StorageFull.
    """
    contents, plan, target = intent.contents, intent.plan, intent.target
    _refuse_impossible(server, contents, plan)
    if intent.as_superuser is not None:
        _refuse_for_superusers(server, intent)
    if intent.kind in (Kind.REPLACE, Kind.REFRESH):
        missing = sorted(roles_of(contents) - server.roles(encoding=encoding_of(contents)))
        if missing:
            raise Conflict(
                f'database "{target}" cannot be replaced: roles of the backup are missing',
                detail="; ".join(f"role {name} does not exist" for name in missing) + ".",
                hint=f"Create them: {' '.join(creating(missing, contents.get('roles', '')))}"
                " Or restore beside.",
            )
        if server.has_database(target):
            refuse_unswappable(server, target)
    if intent.kind is Kind.BESIDE:
        refuse_taken(server, target)
    refuse_restore_without_space(server, intent.size)


def _refuse_for_superusers(server: Server, intent: Intent) -> None:
    """Raise NotPossible for objects that a role without rights cannot load, by name."""
    names = superuser_only(server, intent.plan.load)
    if not names:
        return
    listed = f"{', '.join(names[:_MOST_NAMES])}."
    if not intent.as_superuser:
        raise NotPossible(
            "the backup holds objects that only a superuser can create",
            detail=listed,
            hint="If you trust everyone who could write to the database, let a superuser load it:"
            ' --as-superuser, or "confirmSuperuser": true. Otherwise restore by hand.',
        )
    if not may_load_as_superuser(server, intent.contents):
        raise NotPossible(
            "the backup holds objects that only a superuser can create, and none may load it",
            detail=listed,
            hint="The dump is foreign, our role is not a superuser, or the role of"
            " BACKSTOP_RESTORE_URL is not one. Restore by hand.",
        )


def may_load_as_superuser(server: Server, contents: dict[str, Any]) -> bool:
    """Whether a superuser can load it, once that is confirmed."""
    is_foreign = "foreign" in contents
    return not is_foreign and not restore_url(server.info.server) and server.is_superuser()


def refuse_taken(server: Server, target: str) -> None:
    """Raise Conflict if the name of the new database is taken."""
    if server.has_database(target):
        raise Conflict(f'database "{target}" exists already', hint="Choose another name.")


def toolchain_for(backup: DatabaseBackup, server: Server) -> Toolchain:
    """The programs for this server if they can read the backup, else the newest.

    Unlike pg_dump, pg_restore also works with a newer server. Raises NotPossible.
    """
    oldest_reader, compression = backup.oldest_reader or 0, backup.compression
    installed = find_toolchains(settings().pg_bin_dir)
    able = [toolchain for toolchain in installed if toolchain.reads(oldest_reader, compression)]
    if not able:
        raise NotPossible(
            f"no pg_restore {oldest_reader} or newer was found that reads"
            f" {compression.partition(':')[0]}",
            hint="Install the client programs of that version, or set BACKSTOP_PG_BIN_DIR.",
        )
    newest = max(toolchain.version for toolchain in able)
    return choose_toolchain(able, min(server.version, newest))


def divide(entries: list[Entry], contents: dict[str, Any], server: Server) -> Plan:
    """Plan who loads which entries of an archive on this server."""
    untrusted = server.untrusted_extensions(_extensions(contents))
    return plan_load(entries, untrusted, is_foreign="foreign" in contents)


def encoding_of(contents: dict[str, Any]) -> str:
    """The encoding of the dump, in which its names were read."""
    return contents.get("encoding") or ""


def _extensions(contents: dict[str, Any]) -> list[str]:
    return [extension["name"] for extension in contents.get("extensions", [])]


def _refuse_impossible(server: Server, contents: dict[str, Any], plan: Plan) -> None:
    missing = server.missing_extensions(_extensions(contents))
    if missing:
        raise NotPossible(
            f"this server lacks extensions of the backup: {', '.join(missing)}",
            hint="Install their packages on the server, then restore again.",
        )
    untrusted = server.untrusted_extensions(_extensions(contents))
    if "foreign" in contents and untrusted:
        raise NotPossible(
            f"only a superuser may create extensions of this dump: {', '.join(sorted(untrusted))}",
            detail="Nothing of a foreign dump is loaded with a superuser's rights.",
            hint="Create them in a database by hand, then load the dump there as an ordinary role.",
        )
    databases, roles = server.may_create()
    if not (databases and (roles or restore_url(server.info.server))):
        raise NotPossible(
            "a restore needs a role that may create databases and roles",
            detail="A superuser must not load a dump, so each restore creates a role for that.",
            hint="As a superuser: ALTER ROLE … CREATEDB CREATEROLE; or set BACKSTOP_RESTORE_URL to"
            " a role that loads in its place.",
        )
    if plan.for_superusers and not server.is_superuser():
        raise NotPossible(
            "the backup holds objects that only a superuser can create, and our role is not one",
            detail=f"{', '.join(plan.for_superusers)}.",
            hint="Use a superuser in DATABASE_URL for the restore, or restore by hand.",
        )
    foreign = server.roles_not_ours_to_be(owners_of(contents), encoding=encoding_of(contents))
    if foreign:
        raise NotPossible(
            f"our role may not give objects to role {', '.join(foreign)}",
            detail="It owns objects in the backup.",
            hint="As a superuser: GRANT that role to the role of DATABASE_URL.",
        )
