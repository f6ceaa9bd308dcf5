"""Lend sessions to pg_dump, with their locks and their snapshot.

pg_dump begins its snapshot before it locks the tables, and its own sessions would queue
behind all sessions that wait for our locks. So it connects to a socket of ours, which
answers like a server that has just accepted a sign-in, and then relays the bytes.
The protocol: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import ctypes
import os
import select
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from app.postgres.conninfo import Conninfo

_CHUNK = 256 * 1024  # bytes
_LONGEST_STARTUP = 10_000  # bytes, as in the server
_LONGEST_FOLDER = 60  # bytes
_VERSION_3 = 3  # of the protocol; other numbers request encryption
_TERMINATE = b"X"
_QUERY = b"Q"
_TAKE_SNAPSHOT = b"SET TRANSACTION SNAPSHOT "  # our session has it already
_END_PATIENCE = 2.0  # seconds

# Parameters that a server reports at sign-in.
_REPORTED = (
    "server_version", "server_encoding", "client_encoding", "is_superuser",
    "session_authorization", "DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes",
    "standard_conforming_strings",
)  # fmt: skip


class _Server(Protocol):
    """The bytes of a session in plain text."""

    def receive(self) -> memoryview: ...
    def send(self, data: bytes) -> None: ...
    def has_more(self) -> bool: ...


class _Plain:
    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._bytes = memoryview(bytearray(_CHUNK))

    def receive(self) -> memoryview:
        return self._bytes[: self._server.recv_into(self._bytes)]

    def send(self, data: bytes) -> None:
        self._server.sendall(data)

    def has_more(self) -> bool:
        return False


class _Encrypted:
    """Through the OpenSSL of libpq; psycopg2 ships both."""

    def __init__(self, library: ctypes.CDLL, ssl: int) -> None:
        self._read, self._write = library.SSL_read, library.SSL_write
        self._pending, self._ssl = library.SSL_pending, ctypes.c_void_p(ssl)
        self._buffer = ctypes.create_string_buffer(_CHUNK)
        self._bytes = memoryview(self._buffer).cast("B")

    def receive(self) -> memoryview:
        length = self._read(self._ssl, self._buffer, _CHUNK)
        return self._bytes[: max(length, 0)]

    def send(self, data: bytes) -> None:
        if data and self._write(self._ssl, data, len(data)) != len(data):
            raise ConnectionError

    def has_more(self) -> bool:
        return bool(self._pending(self._ssl))


@contextmanager
def lent(connections: Sequence[Connection], database: str) -> Iterator[Conninfo | None]:
    """The address at which one program can use these sessions; None if that is impossible.

    Each of its connections gets the next session. They must be idle, and nobody else may
    use them meanwhile. They keep their locks when the program has ended.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(
                prefix="backstop-dump-", dir=_short_folder(), ignore_cleanup_errors=True
            )
        )
        door = stack.enter_context(socket.socket(socket.AF_UNIX))
        loans = []
        for connection in connections:
            line = stack.enter_context(socket.socket(fileno=os.dup(connection.fileno())))
            server = _bytes_of(connection, line)
            if server is None:
                yield None
                return
            loans.append(_Loan(server, line, _welcome(connection)))
        for loan in loans:
            loan.line.setblocking(True)  # libpq's own descriptor too
        door.bind(str(Path(folder, ".s.PGSQL.5432")))
        door.listen(len(loans))
        lending = _Lending(loans, door, folder)
        lending.start()
        try:
            yield _address(connections[0], folder, database)
        finally:
            lending.end()


def _short_folder() -> str:
    """The folder for temporary files, if its name is short: a socket's path has 107 bytes."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= _LONGEST_FOLDER else "/tmp"  # noqa: S108


def alone() -> dict[str, str | None]:
    """An environment without variables of libpq that would override a lent session's address."""
    return dict.fromkeys(name for name in os.environ if name.startswith("PG"))


def _address(connection: Connection, folder: str, database: str) -> Conninfo:
    return Conninfo(
        {
            "host": folder,
            "port": "5432",
            "user": connection.info.user,
            "dbname": database,
            "sslmode": "disable",
            "channel_binding": "disable",
            "target_session_attrs": "any",
        },
        server="a session of ours",
    )


def _bytes_of(connection: Connection, line: socket.socket) -> _Server | None:
    """None with GSSAPI encryption, or where OpenSSL cannot be found."""
    library = ctypes.CDLL(psycopg2._psycopg.__file__)  # noqa: SLF001 - libpq is what it links
    pointer = ctypes.c_void_p(connection.pgconn_ptr)
    try:
        if library.PQgssEncInUse(pointer):
            return None
        if not connection.info.ssl_in_use:
            return _Plain(line)
        library.PQgetssl.restype = ctypes.c_void_p
        return _Encrypted(library, library.PQgetssl(pointer))
    except AttributeError:
        return None


def _welcome(connection: Connection) -> bytes:
    """The answer of a server to a sign-in (AuthenticationOk to ReadyForQuery)."""
    messages = [_message(b"R", struct.pack("!I", 0))]
    for name in _REPORTED:
        value = connection.get_parameter_status(name)
        if value is not None:
            messages.append(_message(b"S", b"\0".join((name.encode(), value.encode(), b""))))
    messages.append(_message(b"K", struct.pack("!II", connection.info.backend_pid % 2**32, 0)))
    return b"".join([*messages, _message(b"Z", b"I")])


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


class _Lending:
    """Lets the connections of one program in, each to the next session."""

    def __init__(self, loans: Sequence["_Loan"], door: socket.socket, folder: str) -> None:
        self._loans, self._door, self._folder = loans, door, folder
        self._over, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="relay", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Take the sessions back; a program that hangs is cut off."""
        os.write(self._wake, b".")
        self._thread.join()
        for loan in self._loans:
            loan.end()
        os.close(self._over)
        os.close(self._wake)

    def _serve(self) -> None:
        with suppress(OSError):
            awaited: list[socket.socket | int] = [self._door, self._over]
            for loan in self._loans:
                if self._door not in select.select(awaited, [], [])[0]:
                    return
                program, _ = self._door.accept()
                if loan is self._loans[-1]:
                    self._door.close()  # nobody else, not even to cancel
                    shutil.rmtree(self._folder, ignore_errors=True)  # a killed process leaves none
                loan.begin(program, self._over)


class _Loan:
    """Relays the bytes between a program and a session, in a thread, until the program leaves."""

    def __init__(self, server: _Server, line: socket.socket, welcome: bytes) -> None:
        self._server, self.line, self._welcome = server, line, welcome
        self._incomplete = bytearray()  # the beginning of a message of the program
        self._thread: threading.Thread | None = None

    def begin(self, program: socket.socket, over: int) -> None:
        """Serve this connection, until `over` can be read."""
        self._thread = threading.Thread(
            target=self._serve, args=(program, over), name="relay", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Wait until the program has left, but not for long."""
        if self._thread is None:
            return
        self._thread.join(_END_PATIENCE)
        if self._thread.is_alive():
            with suppress(OSError):
                self.line.shutdown(socket.SHUT_RDWR)
            self._thread.join()

    def _serve(self, program: socket.socket, over: int) -> None:
        with suppress(OSError), program:
            if self._let_in(program):
                self._carry(program, over)

    def _let_in(self, program: socket.socket) -> bool:
        while True:
            head = program.recv(8, socket.MSG_WAITALL)
            if len(head) < 8:  # noqa: PLR2004
                return False
            length, version = struct.unpack("!II", head)
            if version >> 16 == _VERSION_3:
                break
            program.sendall(b"N")  # no encryption in here
        rest = min(length, _LONGEST_STARTUP) - len(head)
        program.recv(max(rest, 0), socket.MSG_WAITALL)  # user and database, which we know
        program.sendall(self._welcome)
        return True

    def _carry(self, program: socket.socket, over: int) -> None:
        ends: list[socket.socket | int] = [self.line, program, over]
        while True:
            ready = [self.line] if self._server.has_more() else select.select(ends, [], [])[0]
            if self.line in ready:
                answer = self._server.receive()
                if not answer:
                    return
                program.sendall(answer)
            if program in ready and not self._pass_on(program):
                return
            if over in ready:
                return

    def _pass_on(self, program: socket.socket) -> bool:
        """Send complete messages only; False at the one that would end the session."""
        chunk = program.recv(_CHUNK)
        self._incomplete += chunk
        while len(self._incomplete) >= 5:  # noqa: PLR2004 - its kind, and its length without that
            length = 1 + int.from_bytes(self._incomplete[1:5])
            if self._incomplete[:1] == _TERMINATE:
                return False
            if len(self._incomplete) < length:
                break
            if self._incomplete.startswith(_TAKE_SNAPSHOT, 5) and self._incomplete[:1] == _QUERY:
                program.sendall(_message(b"C", b"SET\0") + _message(b"Z", b"T"))
            else:
                self._server.send(bytes(self._incomplete[:length]))
            del self._incomplete[:length]
        return bool(chunk)
