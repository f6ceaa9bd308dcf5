"""The kinds of settings that admins change at run time, each with its operations."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from app.extensions import db
from app.models import Assertion, Database, Schedule, State
from app.services.alerts import notifiers
from app.services.databases.lookup import choose_database, not_retired
from app.services.proofs import assertions
from app.services.schedules import service as schedules
from app.services.schedules.listing import task_named
from app.services.settings_file.databases import (
    add_database,
    database_as_kept,
    database_entries,
    edit_database,
    remove_database,
)
from app.services.settings_file.entries import Fields, Key, default_name, opened
from app.services.settings_file.retention import (
    FIELDS,
    entries_in_stores,
    remove_in_store,
    remove_retention,
    retention_as_kept,
    retention_entries,
    set_in_store,
    set_retention,
)
from app.services.settings_file.stores import (
    PAUSED,
    add_store,
    edit_store,
    pause_store,
    store_as_kept,
    store_entries,
)

_SCHEDULE = {
    "task": str,
    "cron": str,
    "timezone": str,
    "notes": str,
    "enabled": bool,
}
_SCHEDULED_RESTORE = {"target": str, "sql": str, "keep_last": int}


@dataclass(frozen=True)
class Section:
    """One kind of setting: the fields of its entries, and how they are kept."""

    word: str  # what people call one of them
    fields: Mapping[str, type]  # beside "name", with their types
    needed: frozenset[str]  # those that a new one must have
    entries: Callable[[], dict[Key, Fields]]  # the current ones
    add: Callable[[Key, Fields, str], object]  # key, fields, by whom
    edit: Callable[[Key, Fields, str], object]
    remove: Callable[[Key, str], object]
    removed: str = "removed"  # what happens to those that an exact document does not contain
    of_database: bool = False  # whether an entry belongs to a database
    names_database: bool = False  # whether its name is that of the database it is about
    secrets: frozenset[str] = frozenset()  # fields that are accepted, and never shown
    as_kept: Callable[[Fields], Fields] = dict  # fields in the form in which they are kept


_Row = TypeVar("_Row", Assertion, Schedule)


def _owned(model: type[_Row], *order: InstrumentedAttribute[str]) -> Iterator[tuple[str, _Row]]:
    """Rows of all databases that are not retired, each with the name of its database."""
    chosen = select(Database.name, model).join(Database, Database.id == model.database_id)
    ordered = chosen.where(not_retired()).order_by(Database.name, *order)
    yield from db.session.execute(ordered)


def _assertions() -> dict[Key, Fields]:
    default = default_name()
    return {
        Key("" if database == default else database, row.name): {"statement": row.statement}
        for database, row in _owned(Assertion, Assertion.name)
    }


def _assertion_id(key: Key) -> str:
    return assertions.get_assertion_named(key.name, choose_database(key.database)).id


def _notifier_id(key: Key) -> str:
    return notifiers.get_notifier_named(key.name).id


def _notifiers() -> dict[Key, Fields]:
    return {
        Key("", notifier.name): {
            "url": opened(notifier.url),
            "title": notifier.title,
            "body": notifier.body,
            "enabled": notifier.enabled,
        }
        | (
            {} if notifier.facts is None else {"facts": notifier.facts}
        )  # none are named: every alarm
        for notifier in notifiers.list_notifiers()
    }


def _schedules() -> dict[Key, Fields]:
    default = default_name()
    return {
        Key("" if database == default else database, row.name): {
            key: getattr(row, key)
            for key in (_SCHEDULE | _SCHEDULED_RESTORE if row.target else _SCHEDULE)
        }
        | {"task": row.task.value, "heartbeat_url": opened(row.heartbeat)}
        for database, row in _owned(Schedule, Schedule.name)
    }


def _schedule_as_kept(fields: Fields) -> Fields:
    return fields | {key: " ".join(fields[key].split()) for key in ("cron",) if key in fields}


def _schedule_values(fields: Fields) -> Fields:
    return fields | {key: task_named(fields[key]) for key in ("task",) if key in fields}


def _schedule_id(key: Key) -> str:
    return schedules.get_schedule_named(key.name, choose_database(key.database)).id


#: In the order in which they are applied: others belong to databases.
SECTIONS: dict[str, Section] = {
    "databases": Section(
        word="database",
        fields={
            "url": str,
            "compression": str,
            "without_rows_of": list,
            "skips_counting": bool,
            "dump_jobs": int,
            "max_age": int,
            "state": str,
        },
        needed=frozenset({"url"}),
        entries=database_entries,
        add=add_database,
        edit=edit_database,
        remove=remove_database,
        removed=State.RETIRED.value,
        secrets=frozenset({"url"}),
        as_kept=database_as_kept,
    ),
    "assertions": Section(
        word="assertion",
        fields={"statement": str},
        needed=frozenset({"statement"}),
        entries=_assertions,
        add=lambda key, fields, by: assertions.add_assertion(
            key.name, **fields, of=choose_database(key.database), created_by=by
        ),
        edit=lambda key, fields, by: assertions.edit_assertion(_assertion_id(key), **fields, by=by),
        remove=lambda key, by: assertions.remove_assertion(_assertion_id(key), by=by),
        of_database=True,
    ),
    "notifiers": Section(
        word="notifier",
        fields={"url": str, "facts": list, "title": str, "body": str, "enabled": bool},
        needed=frozenset({"url"}),
        entries=_notifiers,
        add=lambda key, fields, by: notifiers.create_notifier(key.name, **fields, created_by=by),
        edit=lambda key, fields, by: notifiers.edit_notifier(_notifier_id(key), **fields, by=by),
        remove=lambda key, by: notifiers.remove_notifier(_notifier_id(key), by=by),
        secrets=frozenset({"url"}),
    ),
    "retention": Section(
        word="retention of",
        fields=FIELDS,
        needed=frozenset(),
        entries=retention_entries,
        add=set_retention,
        edit=set_retention,
        remove=remove_retention,
        names_database=True,
        as_kept=retention_as_kept,
    ),
    "schedules": Section(
        word="schedule",
        fields=_SCHEDULE | _SCHEDULED_RESTORE | {"heartbeat_url": str},
        needed=frozenset({"task", "cron"}),
        entries=_schedules,
        add=lambda key, fields, by: schedules.add_schedule(
            schedules.NewSchedule(key.name, **_schedule_values(fields)),
            of=choose_database(key.database),
            created_by=by,
        ),
        edit=lambda key, fields, by: schedules.edit_schedule(
            _schedule_id(key), schedules.ScheduleChanges(**_schedule_values(fields)), by=by
        ),
        remove=lambda key, by: schedules.remove_schedule(_schedule_id(key), by=by),
        of_database=True,
        secrets=frozenset({"heartbeat_url"}),
        as_kept=_schedule_as_kept,
    ),
    "stores": Section(
        word="store",
        fields={
            "url": str,
            "credentials": str,
            "recipients": list,
            "databases": list,
            "read_back": str,
            "takes_catalogue": str,
            "bytes_per_second": int,
            "state": str,
        },
        needed=frozenset({"url"}),
        entries=store_entries,
        add=add_store,
        edit=edit_store,
        remove=pause_store,
        removed=PAUSED,
        secrets=frozenset({"credentials"}),
        as_kept=store_as_kept,
    ),
    "store_retention": Section(  # after the stores that it names
        word="retention in",
        fields=FIELDS,
        needed=frozenset(),
        entries=entries_in_stores,
        add=set_in_store,
        edit=set_in_store,
        remove=remove_in_store,
        of_database=True,
        as_kept=retention_as_kept,
    ),
}
