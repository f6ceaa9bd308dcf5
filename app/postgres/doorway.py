"""A TCP port on loopback that leads to a Unix socket, for this process and its children.

libpq uses TLS over TCP only, and every user of the machine can connect to a port. So we
keep the port ourselves, and let nobody in but our own programs.
"""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
_CHUNK = 256 * 1024  # bytes
_TICK = 0.1  # seconds


@contextmanager
def doorway(path: Path) -> Iterator[int]:
    """The number of such a port; each connection to it becomes one to the socket at `path`.

    At the end it waits until whoever serves that socket has closed all connections.
    """
    with _Doorway(path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(_TICK,), daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


class _Doorway(socketserver.ThreadingTCPServer):
    def __init__(self, path: Path) -> None:
        self.path = str(path)
        super().__init__((LOOPBACK, 0), _Passage)


class _Passage(socketserver.BaseRequestHandler):
    """One connection; a thread for each direction, so that neither can block the other."""

    server: _Doorway
    request: socket.socket

    def handle(self) -> None:
        if not _is_of_our_programs(self.client_address, self.request.getsockname()):
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX) as beyond:
            beyond.connect(self.server.path)
            answers = threading.Thread(target=_carry, args=(beyond, self.request))
            answers.start()
            _carry(self.request, beyond)
            answers.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _is_of_our_programs(client: tuple[str, int], door: tuple[str, int]) -> bool:
    ourselves = psutil.Process()
    for process in (ourselves, *ourselves.children(recursive=True)):
        with suppress(psutil.Error):  # it ended meanwhile
            for line in process.net_connections("tcp4"):
                if (line.laddr, line.raddr) == (client, door):
                    return True
    return False
