"""Upgrade catalogues in forks that are killed at a chosen statement; started by test_upgrades.

Reads orders from stdin, one JSON line each: {"folder": …, "url": …, "step": n}. Step 0 lets
the upgrade end. Answers each with the number of statements until then, or "killed".
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultDialect

from app import create_app
from app.services.catalogue.state import prepare_catalogue
from tests.conftest import settings_in


class Steps:
    """Counts statements and commits, and ends this process at one of them."""

    def __init__(self, fatal: int) -> None:
        self._fatal, self.taken = fatal, 0

    def take(self, *_: Any) -> None:
        self.taken += 1
        if self.taken == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def run(order: dict[str, Any], answer: int) -> None:
    steps = Steps(order["step"])
    commit = DefaultDialect.do_commit

    def counted(dialect: Any, connection: Any) -> None:
        steps.take()
        commit(dialect, connection)
        steps.take()

    DefaultDialect.do_commit = counted
    event.listen(Engine, "after_cursor_execute", steps.take)
    app = create_app(
        settings_in(Path(order["folder"]), "postgresql:///unused", catalogue_url=order["url"])
    )
    with app.app_context():
        prepare_catalogue()
    os.write(answer, str(steps.taken).encode())
    os._exit(0)


if __name__ == "__main__":
    gc.freeze()
    for line in sys.stdin:
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            run(json.loads(line), writer)
        os.close(writer)
        os.waitpid(pid, 0)
        print(os.read(reader, 20).decode() or "killed", flush=True)
        os.close(reader)
