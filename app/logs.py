"""The format of the log: one line for each record, as text or as JSON.

Our messages end with facts, `backup queued filename=%s trigger=%s`, which become keys in
JSON. No name chosen by a user can begin a new line.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import DatabaseError

from app.errors import AppError

logger = logging.getLogger(__name__)

_FACTS = re.compile(r"(.*?)((?: \w+=%[a-z0-9.]+)+)", re.DOTALL)
_NAMES = re.compile(r" (\w+)=")


def configure(log_format: str) -> None:
    """Write the log to stderr as `text` or `json`, unless logging is configured already.

    On a terminal long records have a short form.
    """
    handler = logging.StreamHandler()
    is_read = sys.stderr.isatty()
    handler.setFormatter(_Json() if log_format == "json" else _Text(is_short=is_read))
    logging.basicConfig(handlers=[handler])


@contextmanager
def errors_logged(task: str) -> Iterator[None]:
    """Log that a task failed, and go on, because its caller must survive."""
    try:
        yield
    except AppError as error:
        words = (task, error.message, error.detail, error.hint)
        logger.warning("%s failed error=%r detail=%r hint=%r", *words)
    except DatabaseError as error:
        logger.warning("%s failed error=%r", task, str(error.orig))
    except Exception:
        logger.exception("%s failed", task)


class _Text(logging.Formatter):
    def __init__(self, *, is_short: bool) -> None:
        super().__init__("%(asctime)s level=%(levelname)s logger=%(name)s %(message)s")
        self._is_short = is_short

    def format(self, record: logging.LogRecord) -> str:
        """A traceback is indented, so that none of its lines looks like a record."""
        lines = super().format(record).splitlines()
        return "\n    ".join(map(_in_one_line, lines))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """The time in UTC, so that logs of machines in different zones can be compared."""
        return _moment(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        short = getattr(record, "short", None) if self._is_short else None
        record.message = _in_one_line(short or record.message)
        return super().formatMessage(record)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One JSON object, with the facts first."""
        message, facts = _parts(record)
        content: dict[str, Any] = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts | content, default=str)


def _parts(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The message and its facts; all of the message if it has another form."""
    parts, values = _FACTS.fullmatch(str(record.msg)), record.args
    if parts is None or not isinstance(values, tuple):
        return record.getMessage(), {}
    names = _NAMES.findall(parts[2])
    first = len(values) - len(names)
    return parts[1] % values[:first], dict(zip(names, values[first:], strict=True))


def _in_one_line(text: str) -> str:
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
