"""Format values for people, as Jinja filters and for the terminal."""

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

import humanize
from flask import Flask

from app.models import Level, Proof, Task
from app.models.types import moment_text
from app.readers import RATES
from app.services.jobs.progress import Progress
from app.services.retention.periods import PERIODS, length_text
from app.services.retention.rules import Policy

_SHOWN = 20  # names
_TASKS = {
    Task.BACKUP: "Backup",
    Task.DRILL: "Drill of the newest good backup",
    Task.SCRUB: "Scrub of the dumps",
    Task.RESTORE: "Restore of the newest good backup into another database",
}
_RECENT = {0: "Today, ", 1: "Yesterday, "}
_BROUGHT = {
    "functions": "functions",
    "triggers": "triggers and rules",
    "extensions": "extensions",
    "languages": "languages",
    "eventTriggers": "event triggers",
    "foreignServers": "foreign servers",
    "publications": "publications",
    "subscriptions": "subscriptions",
    "owners": "objects of the roles",
}


def init_app(app: Flask) -> None:
    """Register the filters."""
    app.jinja_env.filters.update(
        sentence=sentence_text,
        bytes=bytes_text,
        backups=backups_text,
        copies=copies_text,
        rate=rate_text,
        duration=duration_text,
        ago=ago_text,
        progress=progress_text,
        left=left_text,
        outcome=outcome_text,
        asserted=asserted_text,
        proof=proof_text,
        moment=moment_short,
        in_zone=in_zone,
        task=task_text,
        brought=brought_text,
        day=day_text,
        change=change_text,
        iso=moment_text,
        policy=policy_text,
    )


def sentence_text(message: str) -> str:
    """The message with a capital at its start, unless that is the name of a file"""
    first = message.partition(" ")[0]
    return message if "_" in first else message[:1].upper() + message[1:]


def task_text(task: Task) -> str:
    """The task of a schedule"""
    return _TASKS[task]


def bytes_text(size: int) -> str:
    """1.2 MiB"""
    return humanize.naturalsize(size, binary=True)


def backups_text(number: int) -> str:
    """1 backup"""
    return "1 backup" if number == 1 else f"{number:,} backups"


def copies_text(number: int) -> str:
    """1 copy"""
    return "1 copy" if number == 1 else f"{number:,} copies"


def rate_text(rate: int | None) -> str:
    """10MB, as people type it; empty without a limit"""
    if not rate:
        return ""
    units = sorted(RATES.items(), key=itemgetter(1), reverse=True)
    return next(f"{rate // size}{unit}" for unit, size in units if rate % size == 0)


def duration_text(duration: timedelta | None) -> str:
    """3 s, 2 min 5 s, 1 h 20 min"""
    if duration is None:
        return "–"
    seconds = max(0, round(duration.total_seconds()))
    if seconds < 1:
        return "< 1 s"
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2])


def progress_text(progress: Progress) -> str:
    """Dumping public.orders, 3 of 21 tables done, 12.5 MiB written"""
    step = f"{progress.phase.capitalize()} {printable(progress.table)}".strip()
    tables = f"{progress.tables_done} of {progress.tables_total} tables done"
    written = progress.bytes_written  # 0 in a restore
    return f"{step}, {tables}" + (f", {bytes_text(written)} written" if written else "")


def brought_text(contents: dict[str, Any] | None) -> list[str]:
    """The code in a foreign dump, a line for each kind"""
    return [
        f"brings {_BROUGHT[key]}: {', '.join(names[:_SHOWN])}"
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for key, names in (contents or {}).get("foreign", {}).items()
        if key in _BROUGHT and names
    ]


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey"""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def proof_text(proof: Proof) -> str:
    """Restored in 41 s; only the word where the duration does not matter"""
    is_restored = proof.is_passed and proof.level >= Level.RESTORED
    return f"{proof.word} in {duration_text(proof.duration)}" if is_restored else proof.word


def outcome_text(result: dict[str, Any]) -> str:
    """12 tables, 175,000 rows, no difference"""
    if "differences" not in result:
        return "done; its runner ended before it could report what it found"
    number = len(result["differences"])
    differences = {0: "no difference", 1: "1 difference"}.get(number, f"{number} differences")
    tables = "1 table" if result["tables"] == 1 else f"{result['tables']:,} tables"
    rows = "1 row" if result["rows"] == 1 else f"{result['rows']:,} rows"
    stays = len(result.get("stays", []))
    more = f", {stays} more in the database than in the backup" if stays else ""
    return f"{tables}, {rows}, {differences}{more}"


def asserted_text(evidence: dict[str, Any]) -> str:
    """3 of 3 assertions true, pg_amcheck: nothing found"""
    answers = evidence.get("assertions", [])
    true = sum(answer["passed"] for answer in answers)
    assertions = "assertion" if len(answers) == 1 else "assertions"
    parts = [f"{true} of {len(answers)} {assertions} true"] if answers else []
    if "amcheck" in evidence:
        parts.append(f"pg_amcheck: {evidence['amcheck']}")
    return ", ".join(parts)


def left_text(progress: Progress) -> str:
    """about 2 min 5 s left; empty while it cannot be estimated"""
    if progress.seconds_left is None:
        return ""
    return f"about {duration_text(timedelta(seconds=progress.seconds_left))} left"


def policy_text(policy: Policy) -> str:
    """keep daily 7, keep within 30d, at most 500 GiB; days begin in Europe/Berlin"""
    parts = [
        f"{name.replace('_', ' ')} {value}"
        for name in ("keep_last", *PERIODS)
        if (value := getattr(policy, name))
    ]
    if policy.keep_within:
        parts.append(f"keep within {length_text(policy.keep_within)}")
    if policy.max_total_size:
        parts.append(f"at most {bytes_text(policy.max_total_size)}")
    if not parts:
        return "There is no retention policy: nothing is removed."
    return f"{', '.join(parts)}; in {policy.time_zone}"


def policy_form(policy: Policy) -> dict[str, Any]:
    """The values of a policy as people type them"""
    size = policy.max_total_size
    powers = [power for power in range(6) if size and size % 1024**power == 0]
    unit = ("", "KiB", "MiB", "GiB", "TiB", "PiB")[max(powers, default=0)]
    return asdict(policy) | {
        "keep_within": length_text(policy.keep_within) if policy.keep_within else "",
        "max_total_size": f"{size // 1024 ** max(powers)} {unit}".strip() if size else "",
    }


def ago_text(moment: datetime) -> str:
    """2 hours ago"""
    return humanize.naturaltime(moment, when=datetime.now(UTC))


def moment_short(moment: datetime) -> str:
    """2026-11-23 12:59:30"""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def day_text(day: date) -> str:
    """Monday 23 November 2026, with "Today, " or "Yesterday, " before it."""
    ago = (datetime.now(UTC).date() - day).days
    return f"{_RECENT.get(ago, '')}{day:%A} {day.day} {day:%B %Y}"


def change_text(size: int, before: int) -> str:
    """+0.4 %; the size of a backup compared with the one before"""
    change = (size / before - 1) * 100
    return "same size" if round(change, 1) == 0 else f"{change:+,.1f} %"


def in_zone(moment: datetime, timezone: str) -> str:
    """Mon 2026-11-23 13:59 CET; in UTC if the zone is unknown"""
    try:
        zone = ZoneInfo(timezone.strip())
    except (KeyError, ValueError, OSError):
        return f"{moment.astimezone(UTC):%a %Y-%m-%d %H:%M} UTC"
    return f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"
