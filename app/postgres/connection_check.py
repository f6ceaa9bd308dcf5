"""Check a connection step by step, from the name of the host to the rights of the role."""

import os
import re
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

import psycopg2
from humanize import naturalsize

from app.errors import AppError, ConnectError
from app.postgres.connection import CONNECT_TIMEOUT, Session, error_text, hint_for, starting_session
from app.postgres.conninfo import Conninfo
from app.postgres.encodings import printable
from app.postgres.floors import weakness_of
from app.postgres.inspection import inspect, inspect_rights
from app.postgres.lacks import lacks
from app.postgres.poolers import is_pooled, refuse_shared_sessions
from app.postgres.tools import Version, choose_toolchain, find_toolchains
from app.steps import Step, untried

HOST, NETWORK, TLS, SIGN_IN = "host name", "network", "TLS", "sign-in"
VERSION, POOLER, RIGHTS, SIZE = "version", "pooler", "rights", "size"
STEPS = (HOST, NETWORK, TLS, SIGN_IN, VERSION, POOLER, RIGHTS, SIZE)

_NAME = "backstop connection test"
_LONGEST = 1000  # characters of what a server says

# Where libpq is while it connects: its ConnStatusType.
_BAD = 1
_NOT_CONNECTED = (_BAD, 2, 8)  # started, needs another attempt
_TLS_STARTUP = (7, 11)  # of OpenSSL, of GSS

_STRANGE = r"no answer within|closed the connection|Connection reset|received|EOF detected"

_NETWORK_HINT = "Check host and port, and that a firewall lets this machine through."
_STRANGE_HINT = "Something listens there, but does not answer as PostgreSQL does: check the port."
_TLS_HINT = "Check sslmode and the certificates."
_SIGN_IN_HINT = "Check user, password and database; pg_hba.conf must let this machine in."
_ANY_HINT = "The server's log may say more."
_UNVERIFIED_HINT = "sslmode=verify-full makes sure that nobody else answers as the server."
_PLAIN_HINT = "Across a network, sslmode=require keeps others from reading along."


def check_connection(
    info: Conninfo, *, pg_bin_dir: Path | None = None, patience: float = CONNECT_TIMEOUT
) -> tuple[Step, ...]:
    """All steps in their order; after one that fails, the others are not tried.

    To resolve the host's name may take `patience` seconds, to sign in as many; each answer
    of the server has a limit of its own. The server is only read, and no session keeps a
    setting: a pooler may give it to others. Raises no AppError.
    """
    steps: list[Step] = []
    with closing(_steps(info, pg_bin_dir, patience)) as tried:
        for step in tried:
            steps.append(step)
            if step.passed is False:
                break
    return (*steps, *untried(STEPS[len(steps) :]))


def _steps(info: Conninfo, pg_bin_dir: Path | None, patience: float) -> Generator[Step, None, None]:
    yield _host(info, patience)
    with ExitStack() as opened:
        attempt = _Attempt(info)
        try:
            session = attempt.sign_in(opened, patience)
        except (psycopg2.Error, AppError) as error:
            yield from attempt.failed(error)
            return
        yield from attempt.succeeded()
        role, version = session.connection.info.user, session.server_version
        yield _version(version, pg_bin_dir)
        yield _pooler(session, info)
    yield _rights(info, role, version)
    yield _size(info)


def _host(info: Conninfo, patience: float) -> Step:
    """libpq tries several hosts in turn, so that one of them is enough."""
    given = info.parameters.get("hostaddr", "")
    named = given or info.parameters.get("host") or os.environ.get("PGHOST") or ""
    hosts = [host for host in named.split(",") if host and host[0] not in "/@"]
    if given or not hosts:
        return Step(HOST, True, "an address is given" if given else "a Unix socket has none")
    answers = [_resolved(host, patience) for host in hosts]
    addresses = [address for some, _ in answers for address in some]
    if addresses:
        return Step(HOST, True, f"{named} is {', '.join(addresses[:5])}")
    return Step(
        HOST,
        False,
        "; ".join(f"{host}: {why}" for host, (_, why) in zip(hosts, answers, strict=True)),
        hint_for("could not translate host name"),
    )


def _resolved(host: str, patience: float) -> tuple[list[str], str]:
    """The addresses of the host, or why there are none.

    The resolver knows no time limit of ours, so that a thread waits for it.
    """
    answers: SimpleQueue[tuple[list[str], str]] = SimpleQueue()

    def resolve() -> None:
        try:
            addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            answers.put(([], error.strerror or type(error).__name__))
        except UnicodeError:
            answers.put(([], "not a valid host name"))
        else:
            answers.put(([str(address[0]) for *_, address in addresses], ""))

    threading.Thread(target=resolve, daemon=True).start()
    try:
        return answers.get(timeout=patience)
    except Empty:
        return [], f"no answer within {patience:g} s"


class _Attempt:
    """One attempt to sign in, and how far it came."""

    def __init__(self, info: Conninfo) -> None:
        self._info = info
        self._status = _BAD
        self._server, self._user = info.server, ""
        self._is_socket = False
        self._mode = ""
        self._protocol = ""

    def sign_in(self, opened: ExitStack, patience: float) -> Session:
        """Raises psycopg2.Error, ConnectError."""
        session = opened.enter_context(
            starting_session(
                self._info,
                application_name=_NAME,
                on_wait=lambda: self._note(session),
                patience=patience,
            )
        )
        self._note(session)
        session.wait()
        self._note(session)
        return session

    def _note(self, session: Session) -> None:
        now = session.connection.info
        self._status = now.status
        self._is_socket = now.host.startswith(("/", "@"))
        self._server, self._user = f"{now.host}:{now.port}", now.user
        self._mode = now.dsn_parameters.get("sslmode", "")
        self._protocol = str(now.ssl_attribute("protocol")) if now.ssl_in_use else ""

    def succeeded(self) -> Iterator[Step]:
        yield from self._before_sign_in()
        detail = f"role {self._user}, database {self._info.database}"
        yield Step(SIGN_IN, True, printable(detail))

    def failed(self, error: psycopg2.Error | AppError) -> Iterator[Step]:
        """The steps up to the one that failed."""
        text = _text(error, self._info)
        if self._status in _NOT_CONNECTED:
            yield Step(NETWORK, False, text, hint_for(text) or _NETWORK_HINT)
            return
        hint = _STRANGE_HINT if re.search(_STRANGE, text) else hint_for(text)
        if self._status in _TLS_STARTUP:
            yield self._network()
            yield Step(TLS, False, text, hint or _TLS_HINT)
            return
        yield from self._before_sign_in()
        yield Step(SIGN_IN, False, text, hint or _SIGN_IN_HINT)

    def _before_sign_in(self) -> Iterator[Step]:
        yield self._network()
        if self._protocol:
            is_verified = self._mode.startswith("verify")
            verified = "verified" if is_verified else "not verified"
            detail = f"{self._protocol}, the certificate is {verified} (sslmode={self._mode})"
            yield Step(TLS, True, detail, "" if is_verified else _UNVERIFIED_HINT)
        elif self._is_socket:
            yield Step(TLS, None, "not needed on a Unix socket")
        else:
            yield Step(TLS, None, f"not used: sslmode={self._mode} does not demand it", _PLAIN_HINT)

    def _network(self) -> Step:
        return Step(NETWORK, True, printable(f"{self._server} accepts connections"))


def _version(version: Version, pg_bin_dir: Path | None) -> Step:
    try:
        tools = choose_toolchain(find_toolchains(pg_bin_dir), version)
    except AppError as error:
        return _failure(VERSION, error)
    weakness = weakness_of(version)
    detail = f"PostgreSQL {version}; pg_dump {tools.version} in {tools.folder} can dump it"
    return Step(VERSION, True, f"{detail}; {weakness}" if weakness else detail)


def _pooler(session: Session, info: Conninfo) -> Step:
    try:
        pooled = is_pooled(session)
        if pooled:
            refuse_shared_sessions(info)
    except AppError as error:
        return _failure(POOLER, error)
    except psycopg2.Error as error:
        text = _text(error, info)
        return Step(POOLER, False, text, hint_for(text) or _ANY_HINT)
    return Step(POOLER, True, "one in session mode" if pooled else "none in between")


def _rights(info: Conninfo, role: str, version: Version) -> Step:
    try:
        rights = inspect_rights(info)
    except AppError as error:
        return _unanswered(RIGHTS, error)
    missing = lacks(role, version.major, rights).values()
    if missing:
        return Step(
            RIGHTS,
            False,
            printable("; ".join(lack.detail for lack in missing)),
            f"As a superuser: {' '.join(lack.remedy for lack in missing)}",
        )
    return Step(RIGHTS, True, printable(f"role {role} may read all that a dump needs"))


def _size(info: Conninfo) -> Step:
    try:
        size = inspect(info).database_size
    except AppError as error:
        return _unanswered(SIZE, error)
    return Step(SIZE, True, naturalsize(size, binary=True))


def _unanswered(name: str, error: AppError) -> Step:
    """A question that a live server refuses takes too long, and does not hinder a dump."""
    step = _failure(name, error)
    is_lost = isinstance(error, ConnectError) or "no answer within" in error.detail
    return step if is_lost else replace(step, passed=None)


def _failure(name: str, error: AppError) -> Step:
    detail = f"{error.message}: {error.detail}" if error.detail else error.message
    return Step(name, False, printable(detail), error.hint or _ANY_HINT)


def _text(error: psycopg2.Error | AppError, info: Conninfo) -> str:
    text = error.detail if isinstance(error, AppError) else error_text(error, info)
    return printable(text)[:_LONGEST]
