"""Runs flask commands in forks of a process that has imported the application.

Started by tests/forks.py: it takes most of a second to import the application, and tests start
hundreds of commands. Its arguments are the folder of the checkout and the number of the socket
through which orders come: JSON with the words, the environment and the folder of a command, and
with it the descriptors of its standard streams and of a pipe for its exit status. The answer is
its pid.
"""

import gc
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

sys.path.insert(0, sys.argv[1])

import coverage
from flask.cli import main

import app
from app.postgres.tools import find_toolchains

_LARGEST = 256 * 1024  # bytes of an order
_statuses: dict[int, int] = {}  # pipes by pid


def serve(orders: socket.socket) -> None:
    """Carry out orders until nobody is left to give one."""
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        order, streams, _, _ = socket.recv_fds(orders, _LARGEST, 4)
        if not order:
            return
        *standard, status = streams
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            orders.close()
            os.close(status)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            run(json.loads(order), standard)
        _statuses[pid] = status
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for stream in standard:
            os.close(stream)
        orders.sendall(pid.to_bytes(4))


def run(order: dict[str, Any], standard: list[int]) -> None:
    """Become the command; never returns."""
    if order["is_leader"]:
        os.setsid()
    for number, stream in enumerate(standard):
        os.dup2(stream, number)
        os.close(stream)
    for held in _statuses.values():
        os.close(held)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    coverage.process_startup(force=True)  # where the environment asks for it
    sys.argv = ["flask", *order["words"]]
    main()


def _reap(*_: object) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        pipe = _statuses.pop(pid)
        with suppress(BrokenPipeError):  # nobody wants to know
            os.write(pipe, os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))
        os.close(pipe)


if __name__ == "__main__":
    assert app  # imported once, for all forks
    find_toolchains(None)  # the same
    gc.freeze()  # no fork looks through it all again, above all not at its end
    serve(socket.socket(fileno=int(sys.argv[2])))
