"""Format values for people, as Jinja filters and for the terminal."""

from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from zoneinfo import ZoneInfo

import humanize
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import format_decimal, get_decimal_symbol
from flask import Flask
from markupsafe import Markup

from app.models.types import moment_text
from app.readers import RATES
from app.viewer import language, zone, zone_name
from app.wording import _, ngettext, said, word_text


def init_app(app: Flask) -> None:
    """Register the filters."""
    app.jinja_env.filters.update(
        sentence=sentence_text,
        bytes=bytes_text,
        backups=backups_text,
        copies=copies_text,
        rate=rate_text,
        duration=duration_text,
        ago=ago_time,
        moment=moment_here,
        zoned=zoned_text,
        at=datetime.fromisoformat,
        in_zone=in_zone,
        day=day_text,
        change=change_text,
        iso=moment_text,
        said=said,
        word=word_text,
        number=number_text,
        grown=grown_text,
        date=date_text,
    )
    app.jinja_env.globals.update(zone_name=zone_name, language=language)


def sentence_text(message: str) -> str:
    """The message with a capital at its start, unless that is the name of a file"""
    first = message.partition(" ")[0]
    return message if "_" in first else message[:1].upper() + message[1:]


def bytes_text(size: int) -> str:
    """1.2 MiB"""
    return humanize.naturalsize(size, binary=True).replace(".", get_decimal_symbol(language()))


def number_text(number: float) -> str:
    """12,345"""
    return format_decimal(number, locale=language())


def backups_text(number: int) -> str:
    """1 backup"""
    return ngettext("%(number)s backup", "%(number)s backups", number, number=number_text(number))


def copies_text(number: int) -> str:
    """1 copy"""
    return ngettext("%(number)s copy", "%(number)s copies", number, number=number_text(number))


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


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey"""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def ago_text(moment: datetime) -> str:
    """2 hours ago"""
    passed = moment - datetime.now(UTC)
    if language() == "en":
        return humanize.naturaltime(-passed)
    return format_timedelta(passed, threshold=1.5, add_direction=True, locale=language())


def ago_time(moment: datetime) -> Markup:
    """2 hours ago, and the exact time on hover"""
    exact = moment_text(moment)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, ago_text(moment))


def moment_short(moment: datetime) -> str:
    """2026-11-23 12:59:30"""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def moment_here(moment: datetime) -> str:
    """2026-11-23 13:59:30, in the viewer's time zone"""
    return _formatted(moment.astimezone(zone()), _("yyyy-MM-dd HH:mm:ss"))


def zoned_text(moment: datetime) -> str:
    """2026-11-23 13:59:30 CET, in the viewer's time zone"""
    return f"{moment_here(moment)} {moment.astimezone(zone()):%Z}"


def date_text(day: date) -> str:
    """2026-11-23"""
    return format_date(day, _("yyyy-MM-dd"), locale=language())


def day_text(day: date) -> str:
    """Monday 23 November 2026, with "Today, " or "Yesterday, " before it."""
    ago = (datetime.now(zone()).date() - day).days
    text = format_date(day, _("EEEE d MMMM yyyy"), locale=language())
    if ago == 0:
        return _("Today, %(day)s", day=text)
    return _("Yesterday, %(day)s", day=text) if ago == 1 else text


def grown_text(difference: int) -> str:
    """+1,234"""
    return format_decimal(difference, "+#,##0;-#,##0", locale=language())


def change_text(size: int, before: int) -> str:
    """+0.4 %; the size of a backup compared with the one before"""
    change = (size / before - 1) * 100
    if round(change, 1) == 0:
        return _("same size")
    return format_decimal(change, "+#,##0.0 '%';-#,##0.0 '%'", locale=language())


def in_zone(moment: datetime, timezone: str) -> str:
    """Mon 2026-11-23 13:59 CET; in UTC if the zone is unknown"""
    try:
        its_zone = ZoneInfo(timezone.strip())
    except (KeyError, ValueError, OSError):
        its_zone = ZoneInfo("UTC")
    local = moment.astimezone(its_zone)
    return f"{_formatted(local, _('EEE yyyy-MM-dd HH:mm'))} {local:%Z}"


def _formatted(local: datetime, pattern: str) -> str:
    return format_datetime(local, pattern, tzinfo=local.tzinfo, locale=language())
