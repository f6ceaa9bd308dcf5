"""A network between a client and a server on loopback, which can be cut."""

import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset


class Relay:
    """Carries each connection to a server, until it is cut."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._is_cut = threading.Event()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset all connections, and every new one until `mend`."""
        self._is_cut.set()
        for end in list(self._open):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._is_cut.clear()

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_cut.is_set():
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    client.close()
                else:
                    threading.Thread(target=self._carry, args=[client], daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            ends = {client: server, server: client}
            self._open.update(ends)
            with suppress(OSError), selectors.DefaultSelector() as waiting:
                for end in ends:
                    waiting.register(end, selectors.EVENT_READ)
                while all(self._pass(key.fileobj, ends) for key, _ in waiting.select()):
                    pass
            self._open.difference_update(ends)

    @staticmethod
    def _pass(end: object, ends: dict[socket.socket, socket.socket]) -> bool:
        assert isinstance(end, socket.socket)
        data = end.recv(65536)
        ends[end].sendall(data)
        return bool(data)


@contextmanager
def relaying(server_port: int) -> Iterator[Relay]:
    """A relay to a server, to the end of the block."""
    relay = Relay(server_port)
    try:
        yield relay
    finally:
        relay.close()
