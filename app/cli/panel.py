"""flask panel: the supervisor behind `make run`."""

import logging
import os
import signal
import socket
import sys
import time
from contextlib import closing, suppress
from typing import Self

import click
from flask import current_app

from app.cli.groups import CatalogueCommand, unwind_on_signals
from app.cli.web import cannot_listen
from app.config import ROOT, settings
from app.errors import AppError, ConfigurationError
from app.postgres.connection import open_session
from app.postgres.embedded import EmbeddedServer
from app.postgres.tools import find_toolchains
from app.programs import launch
from app.services.access import admins
from app.services.databases.configured import address_in_environment, embedded_server
from app.services.databases.connections import reached, sample_in_use
from app.services.databases.lookup import default_database
from app.services.databases.served import noting_database
from app.services.recovery import try_to_reconcile

_START_TIMEOUT = 60.0  # seconds until the web process must answer
_STOP_TIMEOUT = 20.0  # seconds until a child that was asked to end is killed
_LOOK_EVERY = 0.2
_SERVER_PATIENCE = 5.0  # seconds; somebody may be starting it again just now
_LONG_LIFE = 30.0  # seconds after which an end is no longer one at the start
_MAX_FALLS = 5
_OURS_ALONE = ("BACKSTOP_ADMIN_PASSWORD",)  # the children have no use for it


@click.command("panel", cls=CatalogueCommand)
def panel() -> None:
    """Run everything: embedded server, worker and web; end it with Ctrl-C."""
    unwind_on_signals()
    logging.getLogger("app").setLevel(logging.INFO)
    _try_to_listen()
    find_toolchains(settings().pg_bin_dir)
    with sample_in_use(insist=True), noting_database():
        # A context of its own: what it has read from the catalogue is let go.
        with current_app.app_context():
            _tell_about_the_database()
            try_to_reconcile()
            first = admins.create_first_admin()
            for line in _sign_in(first):  # at once: the start may still fail
                click.echo(line)
        with _Child("web") as web, _Child("worker") as worker:
            _wait_until_it_answers(web)
            _tell_how_to_begin(first)
            _watch([worker, web])


def _try_to_listen() -> None:
    """Find out at once, before anything is started, whether the port is free."""
    host, port = _address()
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, UnicodeError) as error:
        raise cannot_listen(error, settings().listen, "BACKSTOP_LISTEN") from error


def _address() -> tuple[str, int]:
    host, _, port = settings().listen.rpartition(":")
    return host.strip("[]").replace("*", "0.0.0.0"), int(port)  # noqa: S104 - only if asked for


def _tell_about_the_database() -> None:
    """Say which database it is; the panel starts even if that cannot be reached."""
    try:
        with reached(default_database()) as info:
            for notice in info.notices:
                click.echo(f"Notice: {notice}", err=True)
            with open_session(info, application_name="backstop start"):
                click.echo(f"Database: {info.database} on {info.server}")
    except AppError as error:
        click.echo(error.in_words(), err=True)
        click.echo("The panel starts anyway; backups fail until this is fixed.", err=True)


class _Child:
    """`flask COMMAND` beside us, in a process group of its own; it ends with us.

    Ctrl-C in the terminal reaches us alone: we end the children in order.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.falls = 0  # soon after its start, one after the other

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        flask = [sys.executable, "-m", "flask", "--app", str(ROOT / "wsgi.py"), self.command]
        bound = [sys.executable, "-I", "-S", str(launch.__file__), str(os.getpid()), "0", *flask]
        environment = {name: os.environ[name] for name in os.environ if name not in _OURS_ALONE}
        self.pid = os.posix_spawn(bound[0], bound, environment, setpgroup=0)
        self._started = time.monotonic()

    def has_ended(self) -> bool:
        return _has_ended(self.pid)

    def start_again(self) -> None:
        """After a pause that grows while it falls at once; give up when that does not help."""
        lived = time.monotonic() - self._started
        self.falls = self.falls + 1 if lived < _LONG_LIFE else 1
        if self.falls > _MAX_FALLS:
            click.echo(f"The {self.command} process keeps ending; the panel stops.", err=True)
            sys.exit(1)
        click.echo(f"The {self.command} process has ended; restarting it.", err=True)
        time.sleep(self.falls - 1)
        self.start()

    def __exit__(self, *_: object) -> None:
        if _has_ended(self.pid):
            return  # its pid may be another one's by now
        patience = _STOP_TIMEOUT
        if self.command == "worker" and settings().worker_stop == "wait":
            patience = settings().dump_timeout
            click.echo("Waiting for a running backup; press Ctrl-C again to end it.", err=True)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: _signal(self.pid, signal.SIGTERM))
        deadline = time.monotonic() + patience
        _signal(self.pid, signal.SIGTERM)
        while not _has_ended(self.pid):
            if time.monotonic() > deadline:
                _signal(self.pid, signal.SIGKILL)
            time.sleep(0.05)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _has_ended(pid: int) -> bool:
    """Whether our child has ended; a pid that was collected already has."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _wait_until_it_answers(web: _Child) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    host, port = _address()
    target = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104
    while time.monotonic() < deadline:
        try:
            socket.create_connection((target, port), timeout=1).close()
        except OSError:
            if web.has_ended():
                raise ConfigurationError("the web process did not start") from None
            time.sleep(0.1)
        else:
            return
    raise ConfigurationError("the web process does not answer")


def _tell_how_to_begin(first: admins.NewAdmin | None) -> None:
    """What the user needs now, after all that the start has logged."""
    name = address_in_environment()
    sample = "" if settings().database_url else ", the sample; set DATABASE_URL to your own"
    lines = [
        "",
        f"Backstop runs at http://{settings().listen}/admin/backup",
        f"Backs up      {name.dbname} on {name.server}{sample}",
        *_sign_in(first),
        "Ctrl-C ends it.",
        "",
    ]
    click.echo("\n".join(lines))


def _sign_in(admin: admins.NewAdmin | None) -> list[str]:
    """How the first admin signs in; the password that was made is never shown again."""
    if admin is None:
        return []
    if not admin.generated_password:
        return [f"Sign in as    {admin.username}", "Password      that of BACKSTOP_ADMIN_PASSWORD"]
    return [
        f"Sign in as    {admin.username}",
        f"Password      {admin.generated_password}    (shown only now)",
        "              Change it in the panel: your name, then Change password.",
    ]


def _watch(children: list[_Child]) -> None:
    """Start again what has ended: what one of them left behind, the others have tidied up."""
    embedded = None if settings().database_url else embedded_server()
    seen = time.monotonic()
    while True:
        for child in children:
            if child.has_ended():
                child.start_again()
        if embedded is None or _is_as_it_should_be(embedded):
            seen = time.monotonic()
        elif time.monotonic() > seen + _SERVER_PATIENCE:
            click.echo("The embedded server has ended; the panel stops.", err=True)
            sys.exit(1)
        time.sleep(_LOOK_EVERY)


def _is_as_it_should_be(embedded: EmbeddedServer) -> bool:
    """Running, or stopped by somebody who wanted it so."""
    return embedded.alive() or embedded.status().stopped_on_purpose
