"""A real SSH server on loopback for one test, with keys and settings of its own."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app import host
from app.postgres.ssh_host import SshHost, parse_ssh_host
from tests.postgres.conftest import wait_until
from tests.servers import leave_out

RUN_DIR = Path("/run/sshd")  # root's sshd wants it


@dataclass
class Sshd:
    """What a test needs of it."""

    address: SshHost
    folder: Path
    process: psutil.Process
    keys: dict[str, Path] = field(default_factory=dict)  # "identity", "stranger": private keys

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def kill(self) -> None:
        """It and the processes of its connections, at once."""
        for process in (*self.process.children(recursive=True), self.process):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def new_key(path: Path, passphrase: str = "") -> str:
    """Make a key; return its public half as one line."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", path]
    subprocess.run(argv, check=True)
    return path.with_name(f"{path.name}.pub").read_text().strip()


@contextmanager
def an_sshd(folder: Path, *settings: str) -> Iterator[Sshd]:
    """An sshd; `settings` are lines of its configuration."""
    program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        leave_out("OpenSSH's server or client is not installed")
    if os.geteuid() == 0:
        RUN_DIR.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir()
    host_key = new_key(folder / "host")
    (folder / "authorized_keys").write_text(new_key(folder / "identity"))
    new_key(folder / "stranger")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    lines = [
        *settings, "ListenAddress 127.0.0.1", f"Port {port}", f"HostKey {folder}/host",
        f"AuthorizedKeysFile {folder}/authorized_keys", "StrictModes no", "UsePAM no",
        "PidFile none", "PermitRootLogin yes",
    ]  # fmt: skip
    (folder / "config").write_text("\n".join(lines) + "\n")
    argv = [program, "-D", "-e", "-f", folder / "config"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        url = f"ssh://{host.own_user()}@127.0.0.1:{port}"
        address = parse_ssh_host(url, str(folder / "identity"), host_key)
        keys = {name: folder / name for name in ("identity", "stranger")}
        sshd = Sshd(address, folder, psutil.Process(process.pid), keys)
        try:
            wait_until(lambda: f"port {port}" in sshd.log or process.poll(), "sshd starts")
            assert process.poll() is None, sshd.log
            yield sshd
        finally:
            sshd.kill()
