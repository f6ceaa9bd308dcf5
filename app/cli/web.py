"""flask web: serve the panel with waitress."""

import errno
import logging
import signal
import sys
import threading
import time

import click
from flask import Flask, current_app
from waitress.server import create_server

from app.cli.groups import CatalogueCommand
from app.config import UPLOAD_PART, WEB_THREADS, settings
from app.errors import ConfigurationError
from app.services.reconcile import reconcile, tolerating

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
        server = create_server(
            app,
            listen=settings().listen,
            threads=WEB_THREADS,
            connection_limit=500,  # idle ones must not keep others out
            max_request_body_size=_MAX_BODY,
            clear_untrusted_proxy_headers=not settings().trusted_proxies,
            ident=None,
        )
    except OSError as error:
        raise cannot_listen(error) from error
    threading.Thread(target=_look_after, args=(app,), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server.run()


def _look_after(app: Flask) -> None:
    """Tidy up after a worker that was killed, whether or not there is another one."""
    while True:
        with app.app_context(), tolerating():
            reconcile()
        time.sleep(_LOOK_EVERY)


def cannot_listen(error: OSError | UnicodeError) -> ConfigurationError:
    """What to tell when the address is taken or not ours."""
    return ConfigurationError(
        f"cannot listen on {settings().listen}",
        detail=f"{getattr(error, 'strerror', None) or error}.",
        hint="Ports below 1024 are for root; set BACKSTOP_LISTEN to another one."
        if getattr(error, "errno", None) == errno.EACCES
        else "Another program may use the port; set BACKSTOP_LISTEN to another one.",
    )
