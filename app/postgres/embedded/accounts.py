"""The account of the embedded server, because PostgreSQL refuses to run as root.

An ordinary user runs the server as themselves, root under an existing account; none is
ever created.
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

# The variables that the server's programs need. PGPORT and similar ones would change the
# server, and our own settings contain secrets.
_HANDED_ON = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Ended:
    """How a program ended, and its output unless it went to a log."""

    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Account:
    """Who runs programs: our own user, or for root an unprivileged account."""

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
        """Run a program to its end, in its own session, so that Ctrl-C does not reach it.

        `text` is its input. With a `log` nothing is captured: processes that it leaves
        running keep that file open, and no pipe of ours. Raises ToolError after `timeout`
        seconds, OSError if it cannot be started.
        """
        sink = subprocess.PIPE if log is None else log
        with subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=sink,
            stderr=sink if log is None else subprocess.STDOUT,
            env=_environment() | dict(environment or {}),
            cwd="/",  # the account may not enter ours
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            umask=0o077,
            **self._switch(),
        ) as process:
            output, errors = _attended(process, text, timeout)
        return Ended(process.returncode, output or "", errors or "")

    def can_write_below(self, folder: Path) -> bool:
        """Whether the account could use a folder created in this one."""
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            self.take(Path(inner))
            return self.can_write(Path(inner))

    def can_write(self, folder: Path) -> bool:
        """Whether the account can create a file there; it tries."""
        script = 'cd -- "$0" && : > .tried'
        try:
            tried = self.run(["/bin/sh", "-c", script, folder], timeout=_TRY_TIMEOUT)
        except (OSError, ToolError):
            return False
        (folder / ".tried").unlink(missing_ok=True)
        return tried.status == 0

    def take(self, path: Path) -> None:
        """Make the account the owner of a path."""
        if self.uid != os.geteuid():
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def _switch(self) -> dict[str, Any]:
        """The arguments of Popen to become the account, with its own group only."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def account_for(data: Path) -> Account:
    """The account of the server: our own, or for root the data's owner, or an unprivileged one.

    Raises ConfigurationError where root finds none.
    """
    if os.geteuid() != 0:
        return Account("", os.geteuid(), os.getegid())
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(f"user {owner.st_uid}", owner.st_uid, owner.st_gid)
    for name in _UNPRIVILEGED:
        if (user := host.find_user(name)) is not None:
            return Account(name, *user)
    raise ConfigurationError(
        "there is no account that the embedded PostgreSQL server could run under",
        detail="PostgreSQL refuses to run as root, and neither postgres nor nobody exists here.",
        hint="Run Backstop as an ordinary user, or set DATABASE_URL to a server of your own.",
    )


def make_passable(folder: Path) -> None:
    """Create a missing folder: private, but passable for the server's account if we are root."""
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
    except BaseException as error:  # also an interrupt: nothing may go on without us
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # with its children
        if isinstance(error, subprocess.TimeoutExpired):
            name = Path(error.cmd[0]).name
            raise ToolError(f"{name} took longer than {timeout:.0f} seconds") from error
        raise


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    return kept | {"LC_ALL": "C"}
