"""What services found, in words, as Jinja filters and for the terminal."""

import re
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from babel.dates import get_day_names
from flask import Flask

from app.formatting import (
    backups_text,
    bytes_text,
    copies_text,
    duration_text,
    number_text,
    printable,
)
from app.models import Level, Proof, Task
from app.services.copies.places import Spread
from app.services.jobs.progress import Progress
from app.services.retention.candidate import Tally
from app.services.retention.periods import length_text
from app.services.retention.rules import Policy
from app.services.schedules.outlook import Outlook
from app.services.schedules.times import in_words
from app.viewer import language, zone
from app.wording import _, _l, ngettext, said, word_text

_SHOWN = 20  # names
_TASKS = {
    Task.BACKUP: _l("Backup"),
    Task.DRILL: _l("Drill of the newest good backup"),
    Task.SCRUB: _l("Scrub of the dumps"),
    Task.RESTORE: _l("Restore of the newest good backup into another database"),
}
_BROUGHT = {
    "functions": _l("brings functions: %(names)s"),
    "triggers": _l("brings triggers and rules: %(names)s"),
    "extensions": _l("brings extensions: %(names)s"),
    "languages": _l("brings languages: %(names)s"),
    "eventTriggers": _l("brings event triggers: %(names)s"),
    "foreignServers": _l("brings foreign servers: %(names)s"),
    "publications": _l("brings publications: %(names)s"),
    "subscriptions": _l("brings subscriptions: %(names)s"),
    "owners": _l("brings objects of the roles: %(names)s"),
}
_RULES = {
    "keep_last": _l("keep last %(number)s"),
    "keep_hourly": _l("keep hourly %(number)s"),
    "keep_daily": _l("keep daily %(number)s"),
    "keep_weekly": _l("keep weekly %(number)s"),
    "keep_monthly": _l("keep monthly %(number)s"),
    "keep_yearly": _l("keep yearly %(number)s"),
}


_STEP = re.compile(r"\*/\d+")
_WEEKDAYS = re.compile(r"[0-7](-[0-7])?(,[0-7](-[0-7])?)*")


def init_app(app: Flask) -> None:
    """Register the filters."""
    app.jinja_env.filters.update(
        progress=progress_text,
        left=left_text,
        outcome=outcome_text,
        asserted=asserted_text,
        proof=proof_text,
        proven=proven_text,
        task=task_text,
        brought=brought_text,
        policy=policy_text,
        tally=tally_text,
        spread=spread_text,
        outlook=outlook_text,
        spread_words=spread_words,
        cron=cron_text,
    )


def task_text(task: Task) -> str:
    """The task of a schedule"""
    return str(_TASKS[task])


def tally_text(tally: Tally) -> str:
    """2 backups (1.2 MiB)"""
    return f"{backups_text(tally.number)} ({bytes_text(tally.size)})"


def spread_text(spread: Spread) -> str:
    """3 copies in 2 places"""
    return ngettext(
        "%(copies)s in %(num)s place",
        "%(copies)s in %(num)s places",
        spread.places,
        copies=copies_text(len(spread.copies)),
    )


def spread_words(spread: Spread) -> str:
    """here (restored), nas (read back), offsite (not read back)"""
    return ", ".join(f"{copy.store or said('here')} ({said(copy.word)})" for copy in spread.copies)


def cron_text(cron: str) -> str:
    """Every day at 03:00; where English is not read, what is not common stays an expression"""
    if language() == "en":
        return in_words(cron)
    minute, hour, *_days = cron.split()
    time = f"{hour:0>2}:{minute:0>2}"
    match cron.split():
        case [step, "*", "*", "*", "*"] if _STEP.fullmatch(step):
            text = _("Every %(number)s minutes", number=step[2:])
        case [_number, "*", "*", "*", "*"] if minute.isdigit():
            text = _("Every hour at minute %(minute)s", minute=minute)
        case _ if not (minute + hour).isdigit():
            text = cron
        case [*_time, "*", "*", "*"]:
            text = _("Every day at %(time)s", time=time)
        case [*_time, day, "*", "*"] if day.isdigit():
            text = _("On day %(day)s of each month at %(time)s", day=day, time=time)
        case [*_time, "*", "*", days] if _WEEKDAYS.fullmatch(days):
            text = _("%(weekdays)s at %(time)s", weekdays=_weekdays_text(days), time=time)
        case _:
            text = cron
    return text


def _weekdays_text(numbers: str) -> str:
    names = get_day_names("wide", locale=language())  # from Monday, 0; cron's week has two Sundays
    text = re.sub(r"[0-7]", lambda number: str(names[(int(number[0]) - 1) % 7]), numbers)
    return text.replace(",", ", ").replace("-", "–")


def outlook_text(outlook: Outlook) -> str:
    """When a retention policy applies, in one or two sentences"""
    return said(outlook.in_words(zone()))


def progress_text(progress: Progress) -> str:
    """Dumping public.orders, 3 of 21 tables done, 12.5 MiB written"""
    step = f"{word_text(progress.phase)} {printable(progress.table)}".strip()
    tables = _(
        "%(done)s of %(total)s tables done",
        done=progress.tables_done,
        total=progress.tables_total,
    )
    written = progress.bytes_written  # 0 in a restore
    more = [_("%(size)s written", size=bytes_text(written))] if written else []
    return ", ".join([step, tables, *more])


def brought_text(contents: dict[str, Any] | None) -> list[str]:
    """The code in a foreign dump, a line for each kind"""
    return [
        str(_BROUGHT[key]) % {"names": ", ".join(names[:_SHOWN])}
        + (_(" and %(number)s more", number=len(names) - _SHOWN) if len(names) > _SHOWN else "")
        for key, names in (contents or {}).get("foreign", {}).items()
        if key in _BROUGHT and names
    ]


def proof_text(proof: Proof) -> str:
    """Restored in 41 s; only the word where the duration does not matter"""
    if not proof.is_passed or proof.level < Level.RESTORED:
        return proven_text(proof)
    return _(
        "%(word)s in %(duration)s",
        word=proven_text(proof),
        duration=duration_text(proof.duration),
    )


def proven_text(proof: Proof) -> str:
    """Restored; the word alone"""
    return said(proof.word)


def outcome_text(result: dict[str, Any]) -> str:
    """12 tables, 175,000 rows, no difference"""
    if "differences" not in result:
        return _("done; its runner ended before it could report what it found")
    number, tables, rows = len(result["differences"]), result["tables"], result["rows"]
    stays = len(result.get("stays", []))
    parts = [
        ngettext("%(number)s table", "%(number)s tables", tables, number=number_text(tables)),
        ngettext("%(number)s row", "%(number)s rows", rows, number=number_text(rows)),
        ngettext("%(num)s difference", "%(num)s differences", number)
        if number
        else _("no difference"),
    ]
    if stays:
        parts.append(_("%(number)s more in the database than in the backup", number=stays))
    return ", ".join(parts)


def asserted_text(evidence: dict[str, Any]) -> str:
    """3 of 3 assertions true, pg_amcheck: nothing found"""
    answers = evidence.get("assertions", [])
    true = sum(answer["passed"] for answer in answers)
    told = ngettext(
        "%(true)s of %(num)s assertion true",
        "%(true)s of %(num)s assertions true",
        len(answers),
        true=true,
    )
    parts = [told] if answers else []
    if "amcheck" in evidence:
        parts.append(f"pg_amcheck: {evidence['amcheck']}")
    return ", ".join(parts)


def left_text(progress: Progress) -> str:
    """about 2 min 5 s left; empty while it cannot be estimated"""
    if progress.seconds_left is None:
        return ""
    left = duration_text(timedelta(seconds=progress.seconds_left))
    return _("about %(duration)s left", duration=left)


def policy_text(policy: Policy) -> str:
    """keep daily 7, keep within 30d, at most 500 GiB; days begin in Europe/Berlin"""
    parts = [
        str(text) % {"number": value}
        for name, text in _RULES.items()
        if (value := getattr(policy, name))
    ]
    if policy.keep_within:
        parts.append(_("keep within %(length)s", length=length_text(policy.keep_within)))
    if policy.max_total_size:
        parts.append(_("at most %(size)s", size=bytes_text(policy.max_total_size)))
    if not parts:
        return _("There is no retention policy: nothing is removed.")
    return _("%(rules)s; in %(zone)s", rules=", ".join(parts), zone=policy.time_zone)


def policy_form(policy: Policy) -> dict[str, Any]:
    """The values of a policy as people type them"""
    size = policy.max_total_size
    powers = [power for power in range(6) if size and size % 1024**power == 0]
    unit = ("", "KiB", "MiB", "GiB", "TiB", "PiB")[max(powers, default=0)]
    return asdict(policy) | {
        "keep_within": length_text(policy.keep_within) if policy.keep_within else "",
        "max_total_size": f"{size // 1024 ** max(powers)} {unit}".strip() if size else "",
    }
