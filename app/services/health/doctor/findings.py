"""What an examination finds, and how one that fails becomes a finding."""

import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.config import settings
from app.errors import AppError
from app.extensions import db

SHOWN = 5  # names in one line


class State(enum.Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, what to do."""

    subject: str
    state: State
    told: str
    hint: str = ""


def ok(subject: str, told: str) -> Finding:
    """All is well."""
    return Finding(subject, State.OK, _in_one_line(told))


def warning(subject: str, told: str, hint: str = "") -> Finding:
    """Backups can be made, but somebody should look at this."""
    return Finding(subject, State.WARNING, _in_one_line(told), _in_one_line(hint))


def problem(subject: str, told: str, hint: str) -> Finding:
    """Backups fail, are lost, or are not safe."""
    return Finding(subject, State.PROBLEM, _in_one_line(told), _in_one_line(hint))


def unexamined(subject: str, why: str) -> Finding:
    """Something else is in the way, and told in a line of its own."""
    return warning(subject, f"not examined: {why}")


def examined(subject: str, examination: Callable[[], Finding]) -> Finding:
    """What the examination finds; if it fails, that is the finding."""
    try:
        return examination()
    except AppError as error:
        return failed(subject, error)
    except SQLAlchemyError as error:
        db.session.rollback()
        reason = error.orig if isinstance(error, DBAPIError) else error
        return problem(
            subject,
            discreet(str(reason)),
            "Check BACKSTOP_CATALOGUE_URL, or owner and rights of the instance folder.",
        )
    except OSError as error:
        return problem(subject, str(error), "Check the owner and mode of this path.")


def failed(subject: str, error: AppError) -> Finding:
    """An error as a finding."""
    text = f"{error.message}: {error.detail}" if error.detail else error.message
    return problem(subject, text, error.hint)


def names(some: Iterable[str], count: int) -> str:
    """The first few names of a greater number: a, b and 12 more."""
    shown = list(some)[:SHOWN]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return f"{', '.join(shown)}{more}"


def discreet(text: str) -> str:
    """What a library says, without passwords; adapters leave them out by themselves."""
    for url in (settings().catalogue_url, settings().queue_url):
        for password in re.findall(r"://[^:/@]*:([^@]+)@", url):
            text = text.replace(password, "*****").replace(unquote(password), "*****")
    return text


def _in_one_line(text: str) -> str:
    """Names are free to have line breaks and escape codes in them; a line is not."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
