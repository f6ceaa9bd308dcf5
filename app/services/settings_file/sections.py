"""The kinds of settings that admins change at run time, each with its operations."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.errors import ConfigurationError, InvalidInput
from app.sealing import unseal
from app.services.alerts import notifiers
from app.services.databases.service import default_database
from app.services.proofs import assertions
from app.services.retention import policies
from app.services.retention.periods import length_of, length_text
from app.services.retention.rules import Policy
from app.services.schedules import service as schedules
from app.services.schedules.listing import task_named

Fields = dict[str, Any]

_COUNTS = (
    *("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"),
    "max_total_size",
)
_SCHEDULE = {"task": str, "cron": str, "timezone": str, "notes": str, "enabled": bool}


@dataclass(frozen=True)
class Section:
    """One kind of setting: the fields of its entries, and how they are kept."""

    word: str  # what people call one of them
    fields: Mapping[str, type]  # beside "name", with their types
    needed: frozenset[str]  # those that a new one must have
    entries: Callable[[], dict[str, Fields]]  # the current ones, by name
    add: Callable[[str, Fields, str], object]  # name, fields, by whom
    edit: Callable[[str, Fields, str], object]
    remove: Callable[[str, str], object]
    secrets: frozenset[str] = frozenset()  # fields that are accepted, and never shown
    as_kept: Callable[[Fields], Fields] = dict  # fields in the form in which they are kept


def _assertion_id(name: str) -> str:
    return assertions.get_assertion_named(name).id


def _notifier_id(name: str) -> str:
    return notifiers.get_notifier_named(name).id


def _notifiers() -> dict[str, Fields]:
    return {
        notifier.name: {
            "url": _opened(notifier.url),
            "title": notifier.title,
            "body": notifier.body,
            "enabled": notifier.enabled,
        }
        | (
            {} if notifier.facts is None else {"facts": notifier.facts}
        )  # none are named: every alarm
        for notifier in notifiers.list_notifiers()
    }


def _opened(sealed: str) -> str:
    try:
        return unseal(sealed) if sealed else ""
    except ConfigurationError:
        return ""  # so that it is entered anew


def _retention() -> dict[str, Fields]:
    policy = policies.get_policy()
    kept = {key: value for key, value in asdict(policy).items() if value is not None}
    if policy.keep_within is not None:
        kept["keep_within"] = length_text(policy.keep_within)
    return {} if policy.is_empty else {default_database().name: kept}


def _retention_as_kept(fields: Fields) -> Fields:
    within = {key: length_text(length_of(fields[key])) for key in ("keep_within",) if key in fields}
    return fields | within


def _set_retention(name: str, fields: Fields, by: str) -> None:
    if name != (database := default_database().name):
        raise InvalidInput(f"this panel backs up {database}")
    values = dict(fields)
    if within := values.get("keep_within"):
        values["keep_within"] = length_of(within)
    policies.set_policy(replace(policies.get_policy(), **values), by=by)


def _schedules() -> dict[str, Fields]:
    return {
        schedule.name: {key: getattr(schedule, key) for key in _SCHEDULE}
        | {"task": schedule.task.value, "heartbeat_url": _opened(schedule.heartbeat)}
        for schedule in schedules.list_schedules()
    }


def _schedule_as_kept(fields: Fields) -> Fields:
    return fields | {key: " ".join(fields[key].split()) for key in ("cron",) if key in fields}


def _schedule_values(fields: Fields) -> Fields:
    return fields | {key: task_named(fields[key]) for key in ("task",) if key in fields}


def _schedule_id(name: str) -> str:
    return schedules.get_schedule_named(name).id


SECTIONS: dict[str, Section] = {
    "assertions": Section(
        word="assertion",
        fields={"statement": str},
        needed=frozenset({"statement"}),
        entries=lambda: {
            assertion.name: {"statement": assertion.statement}
            for assertion in assertions.list_assertions()
        },
        add=lambda name, fields, by: assertions.add_assertion(name, **fields, created_by=by),
        edit=lambda name, fields, by: assertions.edit_assertion(
            _assertion_id(name), **fields, by=by
        ),
        remove=lambda name, by: assertions.remove_assertion(_assertion_id(name), by=by),
    ),
    "notifiers": Section(
        word="notifier",
        fields={"url": str, "facts": list, "title": str, "body": str, "enabled": bool},
        needed=frozenset({"url"}),
        entries=_notifiers,
        add=lambda name, fields, by: notifiers.create_notifier(name, **fields, created_by=by),
        edit=lambda name, fields, by: notifiers.edit_notifier(_notifier_id(name), **fields, by=by),
        remove=lambda name, by: notifiers.remove_notifier(_notifier_id(name), by=by),
        secrets=frozenset({"url"}),
    ),
    "retention": Section(
        word="retention of",
        fields=dict.fromkeys(_COUNTS, int) | {"keep_within": str, "time_zone": str},
        needed=frozenset(),
        entries=_retention,
        add=_set_retention,
        edit=_set_retention,
        remove=lambda _, by: policies.set_policy(Policy(), by=by),
        as_kept=_retention_as_kept,
    ),
    "schedules": Section(
        word="schedule",
        fields=_SCHEDULE | {"heartbeat_url": str},
        needed=frozenset({"task", "cron"}),
        entries=_schedules,
        add=lambda name, fields, by: schedules.add_schedule(
            schedules.NewSchedule(name, **_schedule_values(fields)), created_by=by
        ),
        edit=lambda name, fields, by: schedules.edit_schedule(
            _schedule_id(name), schedules.ScheduleChanges(**_schedule_values(fields)), by=by
        ),
        remove=lambda name, by: schedules.remove_schedule(_schedule_id(name), by=by),
        secrets=frozenset({"heartbeat_url"}),
        as_kept=_schedule_as_kept,
    ),
}
