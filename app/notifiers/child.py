"""Carry one message to where a URL says, in a process of its own.

Run as a script, never imported: `python -I child.py`. What is to be done comes
as JSON by standard input, since URLs carry secrets; what came of it goes out
as JSON. Libraries that carry messages wait as long as somebody at the other
end wants them to: here an alarm clock ends everything in time, also when
whoever started us has died. It knows nothing of the panel.
"""

import json
import logging
import signal
import sys
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from apprise import Apprise, AppriseAsset
from apprise.manager_attachment import AttachmentManager
from apprise.manager_plugins import NotificationManager
from apprise.plugins import NotifyBase

# These talk to this machine, not to the network; on a desktop they would run programs.
_LOCAL = (
    *("dbus", "kde", "qt", "glib", "gio", "gnome", "macosx", "windows"),
    *("syslog", "blink1"),
)
_WAIT = 10.0  # seconds for a connection, and for each answer


def main() -> None:
    """Read a task, do it, and report the result."""
    asked = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # it ends us
    signal.alarm(asked["seconds"])
    said = _Said()
    logging.getLogger("apprise").addHandler(said)
    logging.getLogger("apprise").propagate = False
    done = _ping(asked, said) if asked["do"] == "ping" else _by_apprise(asked)
    json.dump({"ok": False} | done | {"said": said.lines}, sys.stdout)


class _Said(logging.Handler):
    """Apprise's log of its failures, which it reports nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage()[:1000])


def _by_apprise(asked: dict[str, Any]) -> dict[str, Any]:
    NotificationManager().disable(*_LOCAL)  # type: ignore[no-untyped-call]
    # A URL can attach the content of a file or an address: nothing of ours may be read.
    AttachmentManager().remove("file", "http", "https")  # type: ignore[no-untyped-call]
    asset = AppriseAsset(app_id="Backstop", app_desc="Backstop", app_url="", storage_mode="memory")
    carrier = Apprise.instantiate(asked["url"], asset=asset)
    if carrier is None:
        return {"ok": False}
    known = {"service": str(carrier.service_name), "host": _host_of(carrier, asked["url"])}
    if asked["do"] == "check":
        return known | {"ok": True}
    carriers = Apprise(carrier, asset=asset)
    sent = carriers.notify(
        asked["body"], title=asked["title"], notify_type=asked["level"], body_format="text"
    )
    return known | {"ok": bool(sent)}


def _host_of(carrier: NotifyBase, url: str) -> str:
    """The host in a URL; empty if that part holds a key or a topic."""
    try:
        host = urlsplit(url).hostname or ""
        shown = urlsplit(carrier.url(privacy=True)).hostname or ""  # type: ignore[no-untyped-call]
    except ValueError:
        return ""
    is_host = "host" in carrier.template_tokens and host == shown
    return host if is_host and (host == "localhost" or not {".", ":"}.isdisjoint(host)) else ""


def _ping(asked: dict[str, Any], said: _Said) -> dict[str, Any]:
    """Send a heartbeat: POST to the URL, with /start or /fail appended to its path."""
    parts = urlsplit(asked["url"])
    path = parts.path.rstrip("/") + (f"/{asked['title']}" if asked["title"] else "")
    url = urlunsplit(parts._replace(path=path))
    try:
        answer = requests.post(
            url,
            data=asked["body"].encode(),
            headers={"User-Agent": "Backstop", "Content-Type": "text/plain; charset=utf-8"},
            timeout=_WAIT,
            allow_redirects=False,
        )
    except (requests.RequestException, ValueError) as error:
        said.lines.append(f"No connection: {_reason(error)}")
        return {}
    if not answer.ok or answer.is_redirect:
        said.lines.append(f"It answered with status {answer.status_code}")
        return {}
    return {"ok": True}


def _reason(error: BaseException) -> str:
    """The innermost cause: the errors above it repeat the whole URL."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return str(error) or type(error).__name__


if __name__ == "__main__":
    main()
