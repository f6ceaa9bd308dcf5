"""Run flask commands that get a signal at a chosen step; started by test_steps.

Reads orders from stdin, one JSON line each: {"words": […], "step": n, "when":
"before" | "after", "signal": number, "statements": bool, "names": FILE}. Each is
carried out by a fork, which runs the real command line; it would take a new Python
process most of a second only to import the application. Step 0 lets the command
end. The names of the steps that were taken are written to the file. Answers each
line with the exit status.

A step is a call that changes what lies in the folders named by FOLDERS, a
commit that writes to the catalogue, or a statement of ours that changes
databases and roles on the server. With "statements", these alone are counted:
the number of commits depends on the time that it all takes.
"""

import atexit
import gc
import json
import os
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from flask.cli import main
from sqlalchemy.engine.default import DefaultDialect

import app
from app.postgres.connection import Session
from app.postgres.tools import find_toolchains

CHANGES = ("CREATE", "ALTER", "DROP", "COMMENT", "GRANT", "REVOKE", "REASSIGN", "ANALYZE")
FOLDERS = tuple(os.environ["FOLDERS"].split(os.pathsep))


class Steps:
    """Counts the steps of this process, and sends it a signal at one of them."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.names: list[str] = []
        self._file = Path(order["names"])
        self._fatal, self._number = (order["step"], order["when"]), order["signal"]
        self._is_counted = str.isupper if order["statements"] else bool
        self._changes: dict[int, int] = {}

    def take(self, name: str, call: Callable[[], Any]) -> Any:
        if not self._is_counted(name):
            return call()
        self.names.append(name)
        number = len(self.names)
        self._signal_at(number, "before")
        try:
            return call()
        finally:
            self._signal_at(number, "after")

    def _signal_at(self, number: int, when: str) -> None:
        if self._fatal == (number, when):
            self.write()
            os.kill(os.getpid(), self._number)

    def write(self) -> None:
        """Write the names of the steps that were taken."""
        self._file.write_text(json.dumps(self.names))

    def watch(self) -> None:
        for name in ("fsync", "link", "unlink", "rename", "replace", "open"):
            setattr(os, name, self._watched(getattr(os, name)))
        begin = Session.begin
        Session.begin = lambda session, sql, *words, **more: self._statement(
            sql, partial(begin, session, sql, *words, **more)
        )
        commit = DefaultDialect.do_commit
        DefaultDialect.do_commit = lambda dialect, to: self._commit(
            to, partial(commit, dialect, to)
        )

    def _watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def call(*words: Any, **more: Any) -> Any:
            paths = [_path_of(word) for word in words]
            concerned = [path for path in paths if path.startswith(FOLDERS)]
            if not concerned or (real.__name__ == "open" and not words[1] & os.O_CREAT):
                return real(*words, **more)
            name = f"{real.__name__} {' '.join(Path(path).name for path in concerned)}"
            return self.take(name, partial(real, *words, **more))

        return call

    def _statement(self, sql: str, call: Callable[[], None]) -> None:
        words = sql.split()[:2]
        if words[0] in CHANGES:
            self.take(" ".join(words), call)
        else:
            call()

    def _commit(self, connection: Any, call: Callable[[], None]) -> None:
        key, changes = id(connection.dbapi_connection), connection.total_changes
        if self._changes.get(key, 0) == changes:
            call()
        else:
            self.take("commit", call)
        self._changes[key] = changes


def _path_of(word: Any) -> str:
    if isinstance(word, int) and not isinstance(word, bool):
        try:
            return str(Path(f"/proc/self/fd/{word}").readlink())
        except OSError:
            return ""
    return str(word) if isinstance(word, str | Path) else ""


def run(order: dict[str, Any]) -> None:
    """Carry out one order; never returns."""
    os.dup2(2, 1)  # the answers alone go to our caller
    steps = Steps(order)
    atexit.register(steps.write)
    steps.watch()
    sys.argv = ["flask", *order["words"]]
    main()


if __name__ == "__main__":
    assert app  # imported once, for all forks
    find_toolchains(None)  # the same
    gc.freeze()  # no fork looks through it all again, above all not at its end
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
