"""Readers of settings: each turns a text into a value, or raises ValueError with the right form.

The message continues a sentence that begins with the name of the setting.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_SHORTEST_SECRET = 16  # characters
_LARGEST_PORT = 65_535
_MOST_PERCENT = 10_000
_DAY = 86_400  # seconds
MOST_DUMP_JOBS = 64
_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")
_DURATIONS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": _DAY}
_SIZES = {"MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
RATES = {"B": 1, "kB": 10**3, "KiB": 1024, "MB": 10**6, "MiB": 1024**2, "GB": 10**9, "GiB": 1024**3}

Reader = Callable[[str], Any]


def matching(pattern: str, form: str) -> Reader:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must look like {form}")
        return text

    return read


def on_or_off(text: str) -> bool:
    value: str = matching("on|off", "on or off")(text)
    return value == "on"


def number(least: int, most: int) -> Reader:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def seconds(text: str) -> int:
    value = _in_units(text, _DURATIONS)
    if not 1 <= value <= 30 * _DAY:
        raise ValueError("must be a duration such as 30, 30s, 5min or 24h, at most 30d")
    return value


def size(text: str) -> int:
    value = _in_units(text, _SIZES)
    if not value:
        raise ValueError("must be a size such as 500MiB, 20GiB or 1TiB")
    return value


def rate(text: str) -> int:
    """Bytes in a second."""
    value = _in_units(text.removesuffix("/s"), RATES)
    if not value:
        raise ValueError("must be a rate such as 10MB or 500KiB, in a second")
    return value


def percent(text: str) -> int:
    value = _in_units(text, {"%": 1})
    if not 1 <= value <= _MOST_PERCENT:
        raise ValueError("must be a percentage such as 50%")
    return value


def _in_units(text: str, units: dict[str, int]) -> int:
    """The number that is written with one of these units; 0 if it is not."""
    match = re.fullmatch(r"(\d{1,12})\s*([A-Za-z%]*)", text)
    return int(match[1]) * units.get(match[2], 0) if match else 0


def off_or(read: Reader) -> Reader:
    """0 for off."""
    return lambda text: 0 if text == "off" else read(text)


def secret(text: str) -> str:
    if len(text) < _SHORTEST_SECRET:
        raise ValueError(f"must have at least {_SHORTEST_SECRET} characters")
    return text


def address(text: str) -> str:
    value: str = matching(r"[^\s/]+:\d{1,5}", "HOST:PORT")(text)
    if int(value.rpartition(":")[2]) > _LARGEST_PORT:
        raise ValueError(f"must not have a port larger than {_LARGEST_PORT}")
    return value


def hosts(text: str) -> tuple[str, ...]:
    names = text.replace(",", " ").split()
    if not all(map(_HOST.fullmatch, names)):
        raise ValueError("must be names or addresses, without ports")
    return tuple(name.strip("[]").lower() for name in names)


#: As pg_dump --compress takes it.
compression = matching(
    r"(none|gzip|lz4|zstd)(:\d{1,2}|:level=\d{1,2}(,long)?|:long)?|\d",
    "METHOD[:LEVEL], for example zstd:3 or gzip",
)


def path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def catalogue_url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if separator and scheme in ("postgres", "postgresql"):
        text = f"postgresql+psycopg2://{rest}"
    elif scheme not in ("sqlite", "postgresql+psycopg2"):
        raise ValueError("must begin with sqlite:/// or postgresql://")
    try:
        make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("is not a valid URL") from None  # the error has the password
    return text
