"""One thing that is not as it should be."""

from dataclasses import dataclass
from datetime import datetime

from humanize import naturalsize

from app.models import Database, DatabaseBackup, Fact, Restore

NAMED = 5  # files in a text


@dataclass(frozen=True)
class Trouble:
    """One thing that is not as it should be; kind and subject tell it from others."""

    kind: Fact
    subject: str
    title: str
    body: str
    database: Database | None = None
    since: datetime | None = None


def trouble_of(
    kind: Fact, database: Database, title: str, body: str, since: datetime | None = None
) -> Trouble:
    """One of a database."""
    subject = f"{database.server} {database.dbname}"
    return Trouble(kind, subject, title, body, database, since)


def ended_as(what: str, job: DatabaseBackup | Restore) -> str:
    """Why it failed, in lines."""
    summary = f"{what}: {job.error_message or 'it failed'}."
    return "\n".join(part for part in (summary, job.error_detail, job.error_hint) if part)


def size_text(size: float) -> str:
    """1.2 MiB"""
    return naturalsize(size, binary=True)


def one_line(text: str) -> str:
    """A name can hold anything; what is sent holds nothing that a mail or a chat would obey."""
    return "".join(character if character.isprintable() else " " for character in text)
