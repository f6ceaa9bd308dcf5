"""flask web: serve the panel with waitress."""

import errno
import logging
import signal
import sys
import threading

import click
from flask import Flask, current_app
from waitress.server import create_server

from app.cli.connections import guarded_server
from app.cli.groups import CatalogueCommand
from app.cli.lookout import Lookout
from app.config import UPLOAD_PART, WEB_THREADS, settings
from app.errors import ConfigurationError
from app.metrics import listener
from app.pausing import pause
from app.services.databases.served import noting_database
from app.services.recovery import try_to_reconcile

# waitress spools a body before the application can refuse it: so a dump is
# uploaded in parts. All else is refused by the application from 64 KiB on.
_MAX_BODY = UPLOAD_PART + 1024

_LOOK_EVERY = 30.0  # seconds between two looks for what was lost


@click.command("web", cls=CatalogueCommand)
def web() -> None:
    """Serve the pages and the API until SIGTERM or Ctrl-C."""
    logging.getLogger("app").setLevel(logging.INFO)
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        server = guarded_server(
            app,
            settings().listen,
            behind_proxy=bool(settings().trusted_proxies),
            threads=WEB_THREADS,
            max_request_body_size=_MAX_BODY,
        )
    except OSError as error:
        raise cannot_listen(error, settings().listen, "BACKSTOP_LISTEN") from error
    _serve_figures(app)
    threading.Thread(target=_keep_tidy, args=(app,), daemon=True).start()
    Lookout(app).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with noting_database():
        server.run()


def _serve_figures(app: Flask) -> None:
    """On a port of its own, which only the right people can reach."""
    address = settings().metrics_listen
    if address is None:
        return
    try:
        server = create_server(listener(app), listen=address, threads=1, ident=None)
    except OSError as error:
        raise cannot_listen(error, address, "BACKSTOP_METRICS_LISTEN") from error
    threading.Thread(target=server.run, daemon=True).start()


def _keep_tidy(app: Flask) -> None:
    """Tidy up after a worker that was killed, whether or not there is another one."""
    while True:
        with app.app_context():
            try_to_reconcile(thorough=False)
        pause(_LOOK_EVERY)


def cannot_listen(error: OSError | UnicodeError, address: str, setting: str) -> ConfigurationError:
    """The error if the address is taken or not ours."""
    return ConfigurationError(
        f"cannot listen on {address}",
        detail=f"{getattr(error, 'strerror', None) or error}.",
        hint=f"Ports below 1024 need root; set {setting} to another one."
        if getattr(error, "errno", None) == errno.EACCES
        else f"Another program may use the port; set {setting} to another one.",
    )
