"""Adapter: the only door to Apprise and to heartbeat monitors.

Each message is carried by a process of its own (child.py), with a deadline: one
that hangs holds nobody up, and can be ended, as no thread can. Whatever a
library of a notification service does, it does away from our memory, with
none of our settings in its environment.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from app.errors import Busy, InvalidInput, NotifierError

_CHILD = Path(__file__).with_name("child.py")
_START = 20  # seconds for a process to start, in addition to its task
_CHECK = 10  # seconds
_AT_ONCE = 4  # checks: each occupies a thread of the web process
_PATIENCE = 2.0  # seconds for one of these places
_places = threading.BoundedSemaphore(_AT_ONCE)

#: The part of our environment that a carrier gets: how to reach the network.
_PASSED = re.compile(
    r"PATH|LANG|LC_\w+|TZ|(HTTPS?|ALL|NO|FTP)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
    r"|CURL_CA_BUNDLE|SYSTEMROOT|COVERAGE_\w+",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 4  # characters; shorter parts of a URL are words of any sentence
_MAX_SAID = 500
_HINT = "docs/how-to/get-alarms.md shows URLs; https://appriseit.com has one for each service."


@dataclass(frozen=True)
class Target:
    """The parts of a URL that may be shown: scheme, service and host."""

    scheme: str
    service: str
    host: str  # empty where that place in the URL holds a key

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host or '…'} ({self.service})"


def check(url: str) -> Target:
    """What a URL of a notifier means; nothing is sent. Raises InvalidInput, NotifierError, Busy."""
    with _a_place():
        try:
            answer = _ask({"do": "check", "url": url}, _CHECK)
        except _TooLate as error:
            raise _busy("the URL could not be checked in time") from error
    if not answer["ok"]:
        # What follows is the URL, with some letters of its secrets.
        said = [line.partition(" URL")[0] + "." for line in answer["said"]]
        raise InvalidInput("not a valid URL of a notifier", detail=_told(said, url), hint=_HINT)
    return Target(_scheme(url), answer["service"][:100], answer["host"][:200])


def send(url: str, title: str, body: str, *, level: str = "info", seconds: int = 30) -> None:
    """Hand a message to the service of this URL, which takes at most `seconds`.

    `level` is info, success, warning or failure. Raises NotifierError, which
    never carries what is secret in the URL.
    """
    asked = {"do": "send", "url": url, "title": title, "body": body, "level": level}
    _require_ok(_ask(asked, seconds), url)


def ping(url: str, what: str, text: str, *, seconds: int = 30) -> None:
    """Tell a heartbeat monitor `start`, `fail`, or success by an empty `what`.

    Raises NotifierError.
    """
    _require_ok(_ask({"do": "ping", "url": url, "title": what, "body": text}, seconds), url)


@contextmanager
def _a_place() -> Iterator[None]:
    """A place for work that a page or a call waits for. Raises Busy."""
    if not _places.acquire(timeout=_PATIENCE):
        raise _busy("too many URLs are being checked at once")
    try:
        yield
    finally:
        _places.release()


def _busy(message: str) -> Busy:
    return Busy(message, retry_after=_CHECK, hint="Try again in a moment.")


def _require_ok(answer: dict[str, Any], url: str) -> None:
    if not answer["ok"]:
        raise NotifierError("the message was not accepted", detail=_told(answer["said"], url))


def _ask(asked: dict[str, Any], seconds: int) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_CHILD)],
            input=json.dumps(asked | {"seconds": seconds}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it could repeat the URL
            timeout=seconds + _START,
            env={name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)},
            cwd="/",
            process_group=0,  # Ctrl-C is for us
            encoding="utf-8",
            check=False,
        )
        if done.returncode == -signal.SIGALRM:
            raise _too_late(seconds)
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise _too_late(seconds) from None  # it carries what was said to the child
    except (ValueError, OSError):
        raise NotifierError("the message could not be handed over") from None
    return answer


class _TooLate(NotifierError):
    """The service hangs, or the machine is too slow."""


def _too_late(seconds: int) -> NotifierError:
    return _TooLate(f"no answer within {seconds} s", hint="The service hangs or is not reachable.")


def _told(said: list[str], url: str) -> str:
    """The carrier's words in one line, without the secrets in the URL."""
    text = " ".join(" ".join(said).split())
    for secret in sorted(_secrets_of(url), key=len, reverse=True):
        text = text.replace(secret, "*****")
    return "".join(character if character.isprintable() else "?" for character in text)[:_MAX_SAID]


def _secrets_of(url: str) -> set[str]:
    """Every part of a URL but its scheme: which of them are secret differs by service."""
    rest = url.partition("://")[2]
    parts = {part for text in (rest, unquote(rest)) for part in re.split(r"[/?&=:@#+,;\s]", text)}
    return {url, unquote(url), *(part for part in parts if len(part) >= _SHORTEST_SECRET)}


def _scheme(url: str) -> str:
    return (urlsplit(url).scheme or "unknown")[:32]
