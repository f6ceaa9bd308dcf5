"""Notifiers: where messages go, about failed backups and much else."""

import logging
import threading
from dataclasses import dataclass
from datetime import datetime
from string import Template
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from app import notifiers as carriers
from app.config import WEB_THREADS
from app.errors import Conflict, InvalidInput, NotFound, NotifierError
from app.extensions import db, writing
from app.models import Delivery, DeliveryStatus, Fact, Notifier
from app.models.delivery import TEST
from app.sealing import seal
from app.services.alerts.deliveries import attempt, queue_claimed
from app.services.audit.acting import acting

logger = logging.getLogger(__name__)

MAX_NOTIFIERS = 50
MAX_NAME = 100  # characters
MAX_URL = 2_000
MAX_TITLE = 200
MAX_BODY = 2_000
_TEST_PATIENCE = 15  # seconds; an admin waits for it
_tests = threading.BoundedSemaphore(WEB_THREADS // 2)  # other requests have the other threads

#: What a template may contain.
PLACEHOLDERS = ("title", "text", "fact", "level", "server", "database", "time")


def list_notifiers() -> list[Notifier]:
    """All of them, by name."""
    return list(db.session.scalars(select(Notifier).order_by(Notifier.name)))


def get_notifier(notifier_id: str) -> Notifier:
    """The notifier of this id. Raises NotFound."""
    return _found(db.session.scalar(select(Notifier).filter_by(id=notifier_id)))


def get_notifier_named(name: str) -> Notifier:
    """The notifier of this name. Raises NotFound."""
    return _found(db.session.scalar(select(Notifier).filter_by(name=name)))


@dataclass(frozen=True)
class CheckedUrl:
    """A URL that was already checked: that takes a second, too long for a transaction."""

    url: str
    target: str


def check_url(url: str) -> CheckedUrl:
    """Check a URL; nothing is sent. Raises InvalidInput, NotifierError, Busy."""
    url = _checked_url(url)
    return CheckedUrl(url, str(carriers.check(url)))


@acting
def create_notifier(name: str, url: str | CheckedUrl, *, created_by: str, **more: Any) -> Notifier:
    """Add a notifier, its URL encrypted; nothing is sent.

    `more` are `facts`, `title`, `body` and `enabled`, as of edit_notifier.
    Raises InvalidInput, NotifierError, or Conflict if the name is taken or
    there are too many.
    """
    values = _checked({"name": name, "url": url} | more)
    notifier = Notifier(**values, created_by=created_by[:255])
    try:
        with writing() as session:
            number = session.scalar(select(func.count()).select_from(Notifier)) or 0
            if number >= MAX_NOTIFIERS:
                raise Conflict(
                    f"the limit of {MAX_NOTIFIERS} notifiers is reached", hint="Delete one first."
                )
            session.add(notifier)
    except IntegrityError as error:
        raise _taken(values["name"]) from error
    logger.info("notifier created name=%r by=%r", notifier.name, created_by)
    return notifier


@acting
def edit_notifier(notifier_id: str, *, by: str, **changes: Any) -> Notifier:
    """Change what is given: `name`, `url`, `facts` (words, or None for every alarm),
    `title` and `body` (templates; empty for ours), `enabled`.

    Raises NotFound, InvalidInput, NotifierError, or Conflict if the name is taken.
    """
    get_notifier(notifier_id)
    values = _checked(changes)
    try:
        with writing():
            notifier = get_notifier(notifier_id)
            for key, value in values.items():
                setattr(notifier, key, value)
    except IntegrityError as error:
        raise _taken(values["name"]) from error
    logger.info("notifier edited name=%r by=%r", notifier.name, by)
    return notifier


@acting
def remove_notifier(notifier_id: str, *, by: str) -> None:
    """Delete it and the record of its messages. Raises NotFound."""
    with writing() as session:
        notifier = get_notifier(notifier_id)
        name = notifier.name
        session.delete(notifier)
    logger.info("notifier removed name=%r by=%r", name, by)


@acting
def send_test(notifier_id: str, at: datetime, *, by: str) -> None:
    """Send a test message and wait for its result; it is recorded like all others.

    Raises NotFound, Conflict if too many tests run already, and NotifierError if it
    was not accepted.
    """
    if not _tests.acquire(blocking=False):
        raise Conflict("too many tests at once", hint="Wait for one of them to end.")
    try:
        _send_test(notifier_id, at, by)
    finally:
        _tests.release()


def _send_test(notifier_id: str, at: datetime, by: str) -> None:
    with writing() as session:
        notifier = get_notifier(notifier_id)
        body = f"Sent by {by}: messages of {notifier.name} arrive here."
        delivery_id = queue_claimed(
            session, notifier, at, fact=TEST, title="Backstop: a test", body=body
        )
    attempt(delivery_id, at, seconds=_TEST_PATIENCE)
    delivery = db.session.get(Delivery, delivery_id)
    if delivery is None or delivery.status is not DeliveryStatus.SENT:
        raise NotifierError(
            "the test was not sent",
            detail=delivery.last_error if delivery else "The notifier was deleted.",
            hint="Check its URL, and whether this machine can reach the service.",
        )


def _found(notifier: Notifier | None) -> Notifier:
    if notifier is None:
        raise NotFound("no such notifier", hint="flask notifier list shows all.")
    return notifier


def _taken(name: str) -> Conflict:
    return Conflict(f'there is a notifier "{name}" already', hint="Choose another name.")


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """The values as they are stored. Raises InvalidInput, NotifierError."""
    kept = dict(values)
    if "name" in kept:
        kept["name"] = _checked_name(kept["name"])
    if "facts" in kept:
        kept["facts"] = _checked_facts(kept["facts"])
    for key, longest in (("title", MAX_TITLE), ("body", MAX_BODY)):
        if key in kept:
            kept[key] = _checked_template(key, kept[key], longest)
    if "url" in kept:  # the last, since it takes the longest
        url = kept["url"]
        checked = url if isinstance(url, CheckedUrl) else check_url(url)
        kept |= {"target": checked.target, "url": seal(checked.url)}
    return kept


def _checked_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidInput(f"the name must have 1 to {MAX_NAME} printable characters")
    return name


def _checked_url(url: str) -> str:
    url = url.strip()
    if not url:
        raise InvalidInput("the URL is empty", hint="For example: mailtos://user:password@host")
    if len(url) > MAX_URL or not url.isprintable():
        raise InvalidInput(f"the URL must have at most {MAX_URL} printable characters")
    return url


def _checked_facts(facts: list[str] | None) -> list[str] | None:
    known = [fact.value for fact in Fact]
    unknown = [word for word in facts or () if word not in known]
    if unknown:
        raise InvalidInput(
            f"not a valid fact: {unknown[0][:50]!r}", hint=f"Facts are {', '.join(known)}."
        )
    return facts and [word for word in known if word in facts]


def _checked_template(what: str, text: str, longest: int) -> str:
    text = text.replace("\r\n", "\n").strip()
    lines = text.split("\n") if what == "body" else [text]
    if len(text) > longest or not all(line.isprintable() for line in lines):
        raise InvalidInput(f"the {what} must have at most {longest} printable characters")
    template = Template(text)
    if not template.is_valid() or set(template.get_identifiers()) - set(PLACEHOLDERS):
        raise InvalidInput(
            f"the {what} has an unknown placeholder",
            hint=f"Placeholders are ${', $'.join(PLACEHOLDERS)}; write $$ for a dollar sign.",
        )
    return text
