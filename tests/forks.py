"""`flask …` as a process of its own, forked from one that has imported the application.

For tests of what a command does; those of how it starts, or what it reads then, start it anew.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

import psutil

from app.config import ROOT

Stream = int | IO[Any] | None
Ended = subprocess.CompletedProcess[str]

_one_at_once = threading.Lock()


class Forked(psutil.Process):
    """A command that runs; like `psutil.Popen`, but its words are those of the fork server."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        cwd: Path = ROOT,
        root: Path = ROOT,
        is_leader: bool = False,
    ) -> None:
        order = {
            "words": list(words),
            "environment": dict(env),
            "folder": str(cwd),
            "is_leader": is_leader,
        }
        ours, theirs = os.pipe()
        with Path(os.devnull).open("r+b") as nothing:
            streams = [_number(stream, nothing) for stream in (stdin, stdout, stderr)]
            pid = _ask(root, json.dumps(order).encode(), [*streams, theirs])
        os.close(theirs)
        self._status = ours
        self.returncode: int | None = None
        self._init(pid, _ignore_nsp=True)  # as psutil.Popen: it may have ended already

    def send_signal(self, sig: int) -> None:
        """Nothing happens if it has ended, as with a child that nobody has waited for."""
        with suppress(psutil.NoSuchProcess):
            super().send_signal(sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def poll(self) -> int | None:
        """Its exit status, or minus the signal that has killed it; None while it runs."""
        try:
            return self.wait(0)
        except psutil.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The same at its end. Raises psutil.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise psutil.TimeoutExpired(timeout or 0, self.pid)
            status = os.read(self._status, 4)
            assert status, "the fork server has died"
            os.close(self._status)
            self.returncode = int.from_bytes(status, signed=True)
        return self.returncode


def flask(words: Sequence[str], *, env: Mapping[str, str], timeout: float) -> Ended:
    """Run a command to its end, as `subprocess.run` does with capture_output and text."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Forked(words, env=env, stdout=out, stderr=err)
        try:
            status = process.wait(timeout)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return subprocess.CompletedProcess(["flask", *words], status, *texts)


#: `flask` for a shell: hands everything over, and ends as the command does.
_STAND_IN = """#!{python} -IS
import json, os, socket, sys
order = {{"words": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{address}")
    socket.send_fds(server, [json.dumps(order).encode()], [0, 1, 2])
    status = server.recv(4)
sys.exit(int.from_bytes(status, signed=True) if status else "nobody ran it")
"""


@contextmanager
def flask_in(folder: Path, root: Path) -> Iterator[None]:
    """A `flask` in this folder for shells, which the fork server of a checkout runs."""
    address = folder / "forks"
    program = folder / "flask"
    program.write_text(_STAND_IN.format(python=sys.executable, address=address))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        threading.Thread(target=_answer_all, args=(listener, root)).start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _answer_all(listener: socket.socket, root: Path) -> None:
    while True:
        try:
            asking = listener.accept()[0]
        except OSError:  # it is over
            return
        threading.Thread(target=_answer, args=(asking, root)).start()


def _answer(asking: socket.socket, root: Path) -> None:
    with asking:
        order, streams, _, _ = socket.recv_fds(asking, 256 * 1024, 3)
        asked = json.loads(order)
        process = Forked(
            asked["words"],
            env=asked["environment"],
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            cwd=Path(asked["folder"]),
            root=root,
        )
        for stream in streams:
            os.close(stream)
        asking.sendall(process.wait().to_bytes(4, signed=True))


def _number(stream: Stream, nothing: IO[bytes]) -> int:
    if stream is None or stream == subprocess.DEVNULL:
        return nothing.fileno()
    return stream if isinstance(stream, int) else stream.fileno()


def _ask(root: Path, order: bytes, streams: list[int]) -> int:
    server = _server(root)
    with _one_at_once:
        socket.send_fds(server, [order], streams)
        answer = server.recv(4)
    assert answer, "the fork server has died"
    return int.from_bytes(answer)


@cache
def _server(root: Path) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    script = str(Path(__file__).with_name("fork_server.py"))
    with theirs:
        number = theirs.fileno()
        words = [sys.executable, script, str(root), str(number)]
        process = subprocess.Popen(words, cwd=root, env=kept, pass_fds=[number])
    atexit.register(lambda: (ours.close(), process.wait()))
    return ours
