"""A TCP line to a server that is cut, reset or goes silent: at once, or after some bytes."""

import selectors
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from app.postgres.conninfo import Conninfo

WAYS = ("close", "reset", "stall")


@dataclass
class Fault:
    """What happens once so many bytes have come back from the server."""

    after: int
    way: str  # one of WAYS
    to_all: bool  # else the one connection that carried the last byte is hurt
    has_struck: threading.Event = field(default_factory=threading.Event)


def socket_of(server: Conninfo) -> str:
    """The path of a PostgreSQL's socket."""
    return f"{server.parameters['host']}/.s.PGSQL.{server.parameters['port']}"


class Line:
    """Carries bytes between clients on a TCP port and a server's: a path, or host and port."""

    def __init__(self, server: str | tuple[str, int]) -> None:
        self._real = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.carried = 0  # bytes that came back from the server
        self.connections = 0
        self._fault: Fault | None = None
        self._over = threading.Event()
        self._is_cut = threading.Event()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._silent: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def strike(self, after: int, way: str, *, to_all: bool) -> Fault:
        """Hurt the line once so many more bytes have come back."""
        self.carried = 0
        self._fault = Fault(after, way, to_all)
        return self._fault

    def cut(self) -> None:
        """Reset all connections now, and every new one until `mend`."""
        self._is_cut.set()

    def mend(self) -> None:
        """Let new connections through again; those that are silent end now."""
        self._fault = None
        self._is_cut.clear()
        self.carried = self.connections = 0
        silent, self._silent = self._silent, []
        for each in silent:
            each.close()

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)
        for each in (self._listener, *self._peers, *self._silent):
            each.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            for client in list(self._clients) if self._is_cut.is_set() else ():
                self._hurt(client, "reset")
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._welcome(self._listener.accept()[0])
                elif key.fileobj in self._peers:  # not hurt meanwhile
                    self._carry(key.fileobj)

    def _welcome(self, client: socket.socket) -> None:
        self.connections += 1
        server = socket.socket(socket.AF_UNIX if isinstance(self._real, str) else socket.AF_INET)
        server.connect(self._real)
        self._peers |= {client: server, server: client}
        self._clients.add(client)
        for each in (client, server):
            self._selector.register(each, selectors.EVENT_READ)
        fault = self._fault
        if fault is not None and fault.has_struck.is_set() and fault.to_all:
            self._hurt(client, fault.way)

    def _carry(self, source: socket.socket) -> None:
        target = self._peers[source]
        try:
            chunk = source.recv(65_536)
            fault = self._fault
            if fault is None or source in self._clients or fault.has_struck.is_set():
                target.sendall(chunk)
            else:
                target.sendall(chunk[: fault.after - self.carried])
        except OSError:
            chunk = b""
        if source not in self._clients:
            self.carried += len(chunk)
            self._look(target)
        if not chunk and source in self._peers:
            self._forget(source, target)
            source.close()
            target.close()

    def _look(self, client: socket.socket) -> None:
        fault = self._fault
        if fault is None or fault.has_struck.is_set() or self.carried < fault.after:
            return
        fault.has_struck.set()
        for each in list(self._clients) if fault.to_all else [client]:
            self._hurt(each, fault.way)

    def _hurt(self, client: socket.socket, way: str) -> None:
        server = self._peers[client]
        self._forget(client, server)
        if way == "stall":
            self._silent += [client, server]
            return
        if way == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        server.close()

    def _forget(self, *pair: socket.socket) -> None:
        for each in pair:
            with suppress(KeyError):
                self._selector.unregister(each)
            self._peers.pop(each, None)
            self._clients.discard(each)
