"""The account that the embedded server runs under: PostgreSQL refuses to be root.

An ordinary user runs the server as themselves. Root runs it under an account
that exists already; none is ever made.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from app import host
from app.errors import ConfigurationError, ToolError

_UNPRIVILEGED = ("postgres", "nobody")
_TRY_TIMEOUT = 10  # seconds

# All that the server's programs need of our environment. PGPORT and its like
# would change the server, our own settings carry secrets.
_HANDED_ON = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said unless that went to a log."""

    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Account:
    """Someone who runs programs: we ourselves, or as root an unprivileged account."""

    name: str
    uid: int
    gid: int

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        timeout: float,
        environment: Mapping[str, str] | None = None,
        text: str | None = None,
        log: IO[bytes] | None = None,
    ) -> Ended:
        """Run a program to its end, in a session of its own (Ctrl-C is not for it).

        `text` is its input. With a `log` nothing is captured: what the program
        leaves running keeps that file open, and no pipe of ours or our caller's.

        Raises ToolError if it takes longer than `timeout` seconds, OSError if
        it cannot be started.
        """
        sink = subprocess.PIPE if log is None else log
        with subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=sink,
            stderr=sink if log is None else subprocess.STDOUT,
            env=_environment() | dict(environment or {}),
            cwd="/",  # ours may be closed to the account
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            umask=0o077,
            **self._switch(),
        ) as process:
            output, errors = _attended(process, text, timeout)
        return Ended(process.returncode, output or "", errors or "")

    def can_write_below(self, folder: Path) -> bool:
        """Whether a folder made in there would serve the account."""
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            self.take(Path(inner))
            return self.can_write(Path(inner))

    def can_write(self, folder: Path) -> bool:
        """Whether the account can get there and make a file; found out by doing it."""
        script = 'cd -- "$0" && : > .tried'
        try:
            tried = self.run(["/bin/sh", "-c", script, folder], timeout=_TRY_TIMEOUT)
        except (OSError, ToolError):
            return False
        (folder / ".tried").unlink(missing_ok=True)
        return tried.status == 0

    def take(self, path: Path) -> None:
        """Make a path the account's own."""
        if self.uid != os.geteuid():
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def _switch(self) -> dict[str, Any]:
        """What subprocess needs to become the account, with no group but its own."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def account_for(data: Path) -> Account:
    """Who runs the server: we, but as root the owner of the data or an unprivileged one.

    Raises ConfigurationError where root finds none.
    """
    if os.geteuid() != 0:
        return Account("", os.geteuid(), os.getegid())
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(f"user {owner.st_uid}", owner.st_uid, owner.st_gid)
    for name in _UNPRIVILEGED:
        if (found := host.find_user(name)) is not None:
            return Account(name, *found)
    raise ConfigurationError(
        "there is no account that the embedded PostgreSQL server could run under",
        detail="PostgreSQL refuses to run as root, and neither postgres nor nobody exists here.",
        hint="Run Backstop as an ordinary user, or set DATABASE_URL to a server of your own.",
    )


def make_passable(folder: Path) -> None:
    """Make a folder if it is missing: root's with passage for its account, else private."""
    if not folder.exists():
        make_passable(folder.parent)
        with suppress(FileExistsError):  # somebody else was faster
            folder.mkdir(mode=0o700)
            if os.geteuid() == 0:
                folder.chmod(0o711)  # whatever the umask says


def _attended(
    process: "subprocess.Popen[str]", text: str | None, timeout: float
) -> tuple[str, str]:
    try:
        return process.communicate(text, timeout)
    except BaseException as error:  # an interrupt too: nothing goes on without us
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
        if isinstance(error, subprocess.TimeoutExpired):
            name = Path(error.cmd[0]).name
            raise ToolError(f"{name} took longer than {timeout:.0f} seconds") from error
        raise


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    return kept | {"LC_ALL": "C"}
