"""Bytes pass a port on loopback in both directions at once."""

import socket
import threading
from pathlib import Path

from app.postgres.doorway import doorway

MANY = 8 * 1024 * 1024  # bytes, more than any buffer holds


def receive_all(line: socket.socket) -> int:
    count = 0
    while chunk := line.recv(65_536):
        count += len(chunk)
    return count


def test_neither_direction_blocks_the_other(passable_dir: Path):
    """As in a restore whose server answers while the client still sends."""
    path = passable_dir / "door"
    received: list[int] = []

    def serve(listener: socket.socket) -> None:
        line, _ = listener.accept()
        with line:
            answers = threading.Thread(target=line.sendall, args=(b"a" * MANY,))
            answers.start()
            while sum(received) < MANY:
                received.append(len(line.recv(65_536)))
            answers.join()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        with doorway(path) as port, socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(b"q" * MANY)  # nobody takes the answers meanwhile
            assert receive_all(line) == MANY
        server.join()
    assert sum(received) == MANY


def test_a_door_that_leads_nowhere_closes(passable_dir: Path):
    with (
        doorway(passable_dir / "nowhere") as port,
        socket.create_connection(("127.0.0.1", port)) as line,
    ):
        assert line.recv(1) == b""
