"""A restore as it is requested, and the name of the database that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.errors import Conflict, InvalidInput
from app.host import own_user
from app.models import Kind, Trigger
from app.postgres.databases import cut_name
from app.postgres.selection import Name
from app.services.restores import tables
from app.services.restores.names import checked_name
from app.services.restores.refresh import checked_target
from app.services.restores.source import Source


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore, into what, and who asks for it.

    `into` names the new database of a restore beside, empty for a proposed name, or the one
    that a schedule makes anew; other kinds name theirs themselves. Only a restore beside can
    be limited to some `tables`. `as_superuser` lets a superuser run the code in the dump.
    """

    source: Source
    kind: Kind
    trigger: Trigger
    created_by: str = field(default_factory=own_user)
    into: str = ""
    tables: Sequence[Name] = ()
    as_superuser: bool = False
    schedule_id: str | None = None  # of a refresh


def proposed_name(source: Source) -> str:
    """A name for a restore beside: the database's, with the time of the backup."""
    backup = source.backup
    return cut_name(backup.database, f"_restored_{backup.created_at:%Y%m%dT%H%M%S}")


def refuse_unconfirmed(source: Source, confirmed: str) -> None:
    """Raise InvalidInput unless the name of the database to replace was typed.

    Each face asks for it before a replace or a restore in place.
    """
    database = source.database.dbname
    if confirmed.strip() != database.strip():
        raise InvalidInput(
            f"type {database} to replace it",
            hint="The restore overwrites or replaces the live database.",
        )


def target_of(source: Source, kind: Kind, into: str = "", chosen: Sequence[Name] = ()) -> str:
    """The final name of the database; empty for a drill. Raises Conflict, InvalidInput."""
    backup = source.backup
    if not backup.is_completed:
        raise Conflict(f"{backup.filename} is {backup.status.value} and has no dump")
    if kind is Kind.REFRESH:
        _refuse_untrusted(source)
        return checked_target(into, source.database)
    if into and kind is not Kind.BESIDE:
        raise InvalidInput(
            "only a restore beside makes a database with another name", hint="Leave the name out."
        )
    if chosen and kind is not Kind.BESIDE:
        raise InvalidInput(
            "some tables can only be restored beside, into a new database",
            hint="Copy what you need from there.",
        )
    tables.refuse_unknown(source, chosen)
    if kind is Kind.DRILL:
        return ""
    if kind is Kind.BESIDE:
        return checked_name(into or proposed_name(source), source.database.dbname)
    _refuse_untrusted(source)
    return source.database.dbname


def _refuse_untrusted(source: Source) -> None:
    backup = source.backup
    if source.is_elsewhere:
        raise Conflict(
            f"{backup.filename} is of another database than the one that is configured",
            detail=f'It is of "{backup.database}" on {backup.server}.',
            hint="Restore it beside, or name the database to replace.",
        )
    if backup.is_partial:
        raise Conflict(
            "a partial backup never replaces the live database",
            detail="The rows of some tables were left out.",
            hint="Restore it beside, or choose a full backup.",
        )
    if backup.foreign:
        raise Conflict(
            "a foreign dump never replaces the live database",
            hint="Restore it beside, and check it.",
        )
