"""How values are shown to people, as Jinja filters and for the terminal."""

from datetime import UTC, datetime, timedelta

import humanize
from flask import Flask

from app.services.manifests import moment_text


def init_app(app: Flask) -> None:
    """Make the filters known to the templates."""
    app.jinja_env.filters.update(
        bytes=bytes_text,
        duration=duration_text,
        ago=ago_text,
        moment=moment_short,
        iso=moment_text,
    )


def bytes_text(size: int) -> str:
    """1.2 MiB"""
    return humanize.naturalsize(size, binary=True)


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


def ago_text(moment: datetime) -> str:
    """2 hours ago"""
    return humanize.naturaltime(moment, when=datetime.now(UTC))


def moment_short(moment: datetime) -> str:
    """2026-11-23 12:59:30"""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
