"""Where a throwaway server runs, and what it cannot reach from there.

Inside bubblewrap it sees PostgreSQL's programs, its own data and nothing else:
no network, no other process, no file of the panel. So its superuser may load a
dump, whatever code that brings. As root without bubblewrap an account that was
made for drills serves, without a network. Else the server is not isolated, and
nobody with a superuser's rights may load there.
"""

import enum
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app import host
from app.errors import ConfigurationError, ToolError
from app.postgres.background import run_alone
from app.postgres.embedded.accounts import Account

#: An account that exists for drills alone; Backstop makes none.
ACCOUNT = "backstop-drill"
_ANYBODY = "nobody"

#: Where the cluster and its socket lie, as the server sees them inside bubblewrap.
INNER_CLUSTER, INNER_SOCKETS = Path("/cluster"), Path("/sockets")

_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_OF_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime")
_MORE = ("/nix/store", "/gnu/store", "/var/cache/postgresql/dicts")
_SHARED_MEMORY = 64 * 1024**2  # bytes
_PROBE_TIMEOUT = 20  # seconds
_ALONE = ("unshare", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


class Isolation(enum.Enum):
    """What keeps a throwaway server apart from the panel."""

    BUBBLEWRAP = "isolated by bubblewrap"
    ACCOUNT = f"isolated by the account {ACCOUNT}, without a network"
    NONE = "not isolated"


@dataclass(frozen=True)
class Places:
    """What a program in the sandbox needs, and what it must not see."""

    cluster: Path | None = None  # its folder, which holds the data
    sockets: Path | None = None
    programs: Path | None = None  # the folder of PostgreSQL's programs
    hidden: tuple[Path, ...] = ()  # where they lie within what is shown


@dataclass(frozen=True)
class Sandbox:
    """How programs are started for a drill, and by whom."""

    isolation: Isolation
    account: Account

    def argv(self, places: Places, program: Path, *arguments: str) -> list[str]:
        """The command that runs this program in the sandbox."""
        told = [str(program), *arguments]
        if self.isolation is Isolation.BUBBLEWRAP:
            return [*_bubblewrap(places), "--", *self._become(), *told]
        away = _ALONE if self.isolation is Isolation.ACCOUNT else ()
        return [*away, *self._become(), *told]

    def inside(self, path: Path, places: Places) -> Path:
        """What a path of the cluster or its sockets is called in the sandbox."""
        if self.isolation is Isolation.BUBBLEWRAP:
            for outer, inner in (
                (places.cluster, INNER_CLUSTER),
                (places.sockets, INNER_SOCKETS),
            ):
                if outer is not None and path.is_relative_to(outer):
                    return inner / path.relative_to(outer)
        return path

    def works(self) -> bool:
        """Whether programs can be started this way; found out by doing it."""
        try:
            argv = self.argv(Places(), Path("/bin/sh"), "-c", "exit 0")
            return run_alone(argv, environment=_ENVIRONMENT, timeout=_PROBE_TIMEOUT)[0] == 0
        except (ToolError, TimeoutError):
            return False

    def output_of(self, places: Places, program: Path, *arguments: str) -> str:
        """What a program prints in the sandbox. Raises ToolError, TimeoutError."""
        argv = self.argv(places, program, *arguments)
        status, text = run_alone(argv, environment=_ENVIRONMENT, timeout=_PROBE_TIMEOUT)
        if status != 0:
            raise ToolError(f"{program} cannot be run", detail=text[-500:])
        return text

    def _become(self) -> list[str]:
        """What turns root into the account, with no right that root has."""
        if os.geteuid() != 0:
            return []
        at = self.account
        return [
            "setpriv", f"--reuid={at.uid}", f"--regid={at.gid}", "--clear-groups",
            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--",
        ]  # fmt: skip


def find_sandbox() -> Sandbox:
    """The best sandbox that works on this machine.

    Raises ConfigurationError where root finds no account to run a server.
    """
    if os.geteuid() != 0:
        ourselves = Account("", os.geteuid(), os.getegid())
        apart = Sandbox(Isolation.BUBBLEWRAP, ourselves)
        return apart if apart.works() else Sandbox(Isolation.NONE, ourselves)
    own = _account(ACCOUNT)
    anybody = own or _account(_ANYBODY)
    if anybody is None or shutil.which("setpriv") is None:
        raise ConfigurationError(
            "there is no account that a server for drills could run under",
            detail=f"PostgreSQL refuses to run as root. Neither {ACCOUNT} nor {_ANYBODY} exists"
            " here, or the program setpriv is missing.",
            hint="Run Backstop as an ordinary user, or set BACKSTOP_DRILL_URL.",
        )
    ways = [Sandbox(Isolation.BUBBLEWRAP, anybody)]
    ways += [Sandbox(Isolation.ACCOUNT, own)] if own else []
    return next((each for each in ways if each.works()), Sandbox(Isolation.NONE, anybody))


def _account(name: str) -> Account | None:
    found = host.find_user(name)
    return None if found is None else Account(name, *found)


def _bubblewrap(places: Places) -> list[str]:
    argv = [
        "bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
        "--die-with-parent", "--new-session", "--clearenv", "--setenv", "LC_ALL", "C",
        "--setenv", "PATH", "/usr/bin:/bin", *_shown(places),
        "--proc", "/proc", "--dev", "/dev",
        "--perms", "1777", "--size", str(_SHARED_MEMORY), "--tmpfs", "/dev/shm",  # noqa: S108
    ]  # fmt: skip
    if places.cluster is not None:
        argv += ["--bind", str(places.cluster), str(INNER_CLUSTER)]
        argv += ["--ro-bind", str(places.cluster / "passwd"), "/etc/passwd"]
    if places.sockets is not None:
        argv += ["--bind", str(places.sockets), str(INNER_SOCKETS)]
    argv += ["--remount-ro", "/dev", "--remount-ro", "/"]
    return argv if os.geteuid() != 0 else [*argv, *_capabilities()]


def _shown(places: Places) -> Iterator[str]:
    """What is seen of this machine, all of it only to be read."""
    yield from ("--ro-bind", "/usr", "/usr")
    for path in (Path("/", name) for name in _SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--perms", "0755", "--dir", "/etc")
    shown = [Path(each) for each in (*(f"/etc/{name}" for name in _OF_ETC), *_MORE)]
    for hidden in places.hidden:
        if hidden.is_relative_to("/usr") and hidden.is_dir():
            yield from ("--tmpfs", str(hidden))
    for path in (*filter(Path.exists, shown), *_roots(places.programs)):
        yield from (*_folders(path), "--ro-bind", str(path), str(path))
    icu = places.programs and places.programs.parent / "share" / "icu"  # the musl wheel's own
    if icu is not None and icu.is_dir():
        yield from ("--setenv", "ICU_DATA", str(icu))


def _capabilities() -> list[str]:
    """Just what it takes to become the account."""
    kept = (f"CAP_{name}" for name in ("SETUID", "SETGID", "SETPCAP"))
    return ["--cap-drop", "ALL", *(word for name in kept for word in ("--cap-add", name))]


def _folders(path: Path) -> Iterable[str]:
    """The folders above a path, for everybody to pass; bubblewrap would close them."""
    for each in reversed(path.parents[:-1]):
        if not each.is_relative_to("/usr"):
            yield from ("--perms", "0755", "--dir", str(each))


def _roots(programs: Path | None) -> list[Path]:
    """What belongs to programs outside of /usr: their tree, and a wheel's libraries beside it."""
    if programs is None or programs.is_relative_to("/usr"):
        return []
    tree = programs.parent
    libraries = tree.parent.with_name(f"{tree.parent.name}.libs")
    return [tree, libraries] if libraries.is_dir() else [tree]
