"""Files of the embedded server in the instance folder: state, secrets, locks.

They are private (0600); the folder lets an unprivileged account pass to the data.
"""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from app import host
from app.errors import ConfigurationError, Conflict
from app.pausing import pause
from app.postgres.conninfo import write_passfile
from app.postgres.embedded.accounts import make_passable
from app.postgres.embedded.installations import PARTIAL

_ELSEWHERE = Path("/var/lib/backstop")
_LOCK_TIMEOUT = 300  # seconds; a first start on a slow machine takes long
_TICK = 0.05
_REFUSED = (
    "They belong to the account that ran Backstop here first: use that account,"
    " set another BACKSTOP_INSTANCE_DIR, or set DATABASE_URL."
)


@dataclass(frozen=True)
class State:
    """What one process notes for the next."""

    folder: str  # to notice a copied instance folder, which starts afresh
    home: str = ""  # the folder of the data
    version: str = ""
    programs: str = ""
    socket: str = ""  # to be removed, even after a crash
    has_sample: bool = False
    stays: bool = False  # a person started it, so its last user does not stop it
    stopped_on_purpose: bool = False


class EmbeddedFiles:
    """The files of the embedded server of one instance folder."""

    def __init__(self, instance_dir: Path) -> None:
        self.folder = instance_dir.resolve() / "postgres"
        self.log = self.folder / "log"
        self.passfile = self.folder / "pgpass"
        self._password = self.folder / "password"
        self._state = self.folder / "state.json"

    @property
    def elsewhere(self) -> Path:
        """The folder for files that the account cannot reach in the instance folder."""
        instance = os.fsencode(self.folder.parent)
        return _ELSEWHERE / hashlib.sha256(instance).hexdigest()[:16]

    @property
    def state(self) -> State:
        """The state as it was noted last."""
        try:
            state = State(**json.loads(self._state.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # the last two: from another release
            return State(str(self.folder))
        return state if state.folder == str(self.folder) else State(str(self.folder))

    def note(self, **changes: Any) -> None:
        """Change the noted state; call it only under the lock."""
        changed = replace(self.state, **changes)
        if changed != self.state:
            self._write(self._state, json.dumps(asdict(changed), indent=2))

    def password(self) -> str | None:
        """The superuser's password, if it is known."""
        try:
            return self._password.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def keep_password(self, password: str) -> None:
        """Keep the password for us, and as a file that people can name in PGPASSFILE."""
        if self.password() != password or not self.passfile.exists():
            partial = self.folder / f"{PARTIAL}{secrets.token_hex(8)}"
            write_passfile(partial, password)
            self._publish(partial, self.passfile)
            self._write(self._password, password)

    def sweep(self) -> None:
        """Remove what an interrupted start left unfinished; call it only under the lock."""
        for folder in (self.folder, self.elsewhere):
            for path in folder.glob(f"{PARTIAL}*"):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)  # initdb may still run
                else:
                    path.unlink()

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file to lock; each opening counts as one user."""
        with file_errors():
            make_passable(self.folder)
            descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, mode=0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            yield file

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock for all changes. Raises Conflict if somebody else keeps it."""
        with file_errors(), self.opened("lock") as lock:
            deadline = time.monotonic() + _LOCK_TIMEOUT
            while not try_to_lock(lock):
                if time.monotonic() > deadline:
                    raise Conflict(
                        "the embedded server is being started or stopped by another process",
                        detail=f"It has not finished within {_LOCK_TIMEOUT} seconds.",
                    )
                pause(_TICK)
            yield

    def _write(self, path: Path, text: str) -> None:
        descriptor, name = tempfile.mkstemp(prefix=PARTIAL, dir=self.folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._publish(Path(name), path)

    def _publish(self, partial: Path, path: Path) -> None:
        """Give a complete file its name, and the owner of the folder if root writes it."""
        owner = self.folder.stat()
        if owner.st_uid != os.geteuid():
            os.chown(partial, owner.st_uid, owner.st_gid)
        partial.replace(path)


def try_to_lock(file: IO[bytes]) -> bool:
    """Try to lock the file exclusively, without waiting."""
    try:
        host.lock_alone(file.fileno())
    except BlockingIOError:
        return False
    return True


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn an OSError into a ConfigurationError."""
    try:
        yield
    except OSError as error:
        is_refused = isinstance(error, PermissionError)
        raise ConfigurationError(
            "the embedded PostgreSQL server's files cannot be used",
            detail=f"{error}.",
            hint=_REFUSED if is_refused else "Free some space, or set DATABASE_URL.",
        ) from error
