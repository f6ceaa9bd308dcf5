"""Where a throwaway server runs, and what it cannot reach from there.

Inside bubblewrap, it sees only PostgreSQL's programs and its own data: no network, no
other process, no file of the panel. So its superuser may load a dump, whatever code it
brings. For root without bubblewrap, an account created for drills is used, without a
network. Otherwise the server is not isolated, and no superuser may load a dump there.
"""

import enum
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app import host
from app.errors import ConfigurationError, ToolError
from app.postgres.embedded.accounts import Account
from app.programs.background import run_alone

#: An account for drills alone; Backstop does not create it.
ACCOUNT = "backstop-drill"
_FALLBACK = "nobody"

#: The folders of the cluster and its socket inside bubblewrap.
INNER_CLUSTER, INNER_SOCKETS = Path("/cluster"), Path("/sockets")

_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_OF_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime")
_MORE = ("/nix/store", "/gnu/store", "/var/cache/postgresql/dicts")
_SHARED_MEMORY = 64 * 1024**2  # bytes
_PROBE_TIMEOUT = 20  # seconds
_ALONE = ("unshare", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


class Isolation(enum.Enum):
    """How a throwaway server is isolated from the panel."""

    BUBBLEWRAP = "isolated by bubblewrap"
    ACCOUNT = f"isolated by the account {ACCOUNT}, without a network"
    NONE = "not isolated"


@dataclass(frozen=True)
class Places:
    """The folders that a program in the sandbox needs, and those it must not see."""

    cluster: Path | None = None  # its folder, which holds the data
    sockets: Path | None = None
    programs: Path | None = None  # the folder of PostgreSQL's programs
    hidden: tuple[Path, ...] = ()  # even inside a visible folder


@dataclass(frozen=True)
class Sandbox:
    """How programs are started for a drill, and under which account."""

    isolation: Isolation
    account: Account

    def argv(self, places: Places, program: Path, *arguments: str) -> list[str]:
        """The command that runs this program in the sandbox."""
        words = [str(program), *arguments]
        if self.isolation is Isolation.BUBBLEWRAP:
            return [*_bubblewrap(places), "--", *self._become(), *words]
        apart = _ALONE if self.isolation is Isolation.ACCOUNT else ()
        return [*apart, *self._become(), *words]

    def inside(self, path: Path, places: Places) -> Path:
        """The path inside the sandbox of a file in the cluster or the socket folder."""
        if self.isolation is Isolation.BUBBLEWRAP:
            for outer, inner in (
                (places.cluster, INNER_CLUSTER),
                (places.sockets, INNER_SOCKETS),
            ):
                if outer is not None and path.is_relative_to(outer):
                    return inner / path.relative_to(outer)
        return path

    def works(self) -> bool:
        """Whether programs can be started this way; it tries."""
        try:
            argv = self.argv(Places(), Path("/bin/sh"), "-c", "exit 0")
            return run_alone(argv, environment=_ENVIRONMENT, timeout=_PROBE_TIMEOUT)[0] == 0
        except (ToolError, TimeoutError):
            return False

    def output_of(self, places: Places, program: Path, *arguments: str) -> str:
        """The output of a program in the sandbox. Raises ToolError, TimeoutError."""
        argv = self.argv(places, program, *arguments)
        status, text = run_alone(argv, environment=_ENVIRONMENT, timeout=_PROBE_TIMEOUT)
        if status != 0:
            raise ToolError(f"{program} cannot be run", detail=text[-500:])
        return text

    def _become(self) -> list[str]:
        """The command that turns root into the account, without any of root's rights."""
        if os.geteuid() != 0:
            return []
        account = self.account
        return [
            "setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups",
            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--",
        ]  # fmt: skip


def find_sandbox() -> Sandbox:
    """The best sandbox that works on this machine.

    Raises ConfigurationError if root finds no account to run a server under.
    """
    if os.geteuid() != 0:
        ourselves = Account("", os.geteuid(), os.getegid())
        isolated = Sandbox(Isolation.BUBBLEWRAP, ourselves)
        return isolated if isolated.works() else Sandbox(Isolation.NONE, ourselves)
    own = _account(ACCOUNT)
    account = own or _account(_FALLBACK)
    if account is None or shutil.which("setpriv") is None:
        raise ConfigurationError(
            "there is no account for the server of a drill",
            detail=f"PostgreSQL refuses to run as root. Neither {ACCOUNT} nor {_FALLBACK} exists"
            " here, or the program setpriv is missing.",
            hint="Run Backstop as an ordinary user, or set BACKSTOP_DRILL_URL.",
        )
    ways = [Sandbox(Isolation.BUBBLEWRAP, account)]
    ways += [Sandbox(Isolation.ACCOUNT, own)] if own else []
    return next((sandbox for sandbox in ways if sandbox.works()), Sandbox(Isolation.NONE, account))


def _account(name: str) -> Account | None:
    user = host.find_user(name)
    return None if user is None else Account(name, *user)


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
    """The visible parts of this machine, all of them read-only."""
    yield from ("--ro-bind", "/usr", "/usr")
    for path in (Path("/", name) for name in _SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--perms", "0755", "--dir", "/etc")
    shown = [Path(path) for path in (*(f"/etc/{name}" for name in _OF_ETC), *_MORE)]
    for hidden in places.hidden:
        if hidden.is_relative_to("/usr") and hidden.is_dir():
            yield from ("--tmpfs", str(hidden))
    for path in (*filter(Path.exists, shown), *_roots(places.programs)):
        yield from (*_folders(path), "--ro-bind", str(path), str(path))
    icu = places.programs and places.programs.parent / "share" / "icu"  # the musl wheel's own
    if icu is not None and icu.is_dir():
        yield from ("--setenv", "ICU_DATA", str(icu))


def _capabilities() -> list[str]:
    """The capabilities needed to become the account, and no others."""
    kept = (f"CAP_{name}" for name in ("SETUID", "SETGID", "SETPCAP"))
    return ["--cap-drop", "ALL", *(word for name in kept for word in ("--cap-add", name))]


def _folders(path: Path) -> Iterable[str]:
    """Make the folders above a path passable for everybody; bubblewrap would not."""
    for folder in reversed(path.parents[:-1]):
        if not folder.is_relative_to("/usr"):
            yield from ("--perms", "0755", "--dir", str(folder))


def _roots(programs: Path | None) -> list[Path]:
    """The folders of programs outside /usr: their tree, and a wheel's libraries next to it."""
    if programs is None or programs.is_relative_to("/usr"):
        return []
    tree = programs.parent
    libraries = tree.parent.with_name(f"{tree.parent.name}.libs")
    return [tree, libraries] if libraries.is_dir() else [tree]
