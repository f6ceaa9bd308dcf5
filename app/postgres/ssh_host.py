"""An SSH host that leads to a PostgreSQL server: its address, our key, and its pinned key."""

import base64
import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from app.errors import ConnectError, InvalidInput, ToolError
from app.programs import command

_KINDS = (  # best first
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
)  # fmt: skip
_ADDRESS = re.compile(r"ssh://([^@/]*)@(?:\[([^\]]*)\]|([^:@/\[\]]*))(?::([^:@/]*))?/?")
_ADDRESS_FORM = "It looks like ssh://user@bastion.example.com:22."
_KEY_FORM = (
    "It looks like ssh-ed25519 AAAA…: a line of /etc/ssh/ssh_host_ed25519_key.pub on the host,"
    " or of ssh-keyscan without the host's name."
)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_FILE = re.compile(r"/[^\x00-\x1f\x7f%$]+")  # ssh expands % and $
_PORTS = range(1, 65_536)
_DEFAULT_PORT = "22"
_SCAN_TIMEOUT = 10  # seconds

# What ssh and ssh-keyscan say. The first pattern that matches counts.
_HINTS = (
    (
        r"Host key verification failed",
        (
            "Ask the host's administrator whether its key was changed, and pin the new one only"
            " then: another host may pretend to be it."
        ),
    ),
    (
        r"UNPROTECTED PRIVATE KEY|bad permissions",
        "Let only the account of Backstop read the identity file: chmod 600.",
    ),
    (
        r"Load key .*(invalid format|error in libcrypto|incorrect passphrase)",
        "The identity file must contain a private key without a passphrase.",
    ),
    (
        r"Permission denied|Too many authentication failures",
        (
            "Add the public key of the identity file to authorized_keys of that user on the SSH"
            " host. A key with a passphrase cannot be used."
        ),
    ),
    (
        r"administratively prohibited",
        (
            "The SSH host refuses to forward: see AllowTcpForwarding, AllowStreamLocalForwarding"
            " and PermitOpen in its sshd_config, and restrict in authorized_keys."
        ),
    ),
    (
        r"open failed",
        (
            "The SSH host cannot reach the PostgreSQL server: check host and port of the database's"
            " URL as the SSH host sees them."
        ),
    ),
    (
        r"Could not resolve hostname|Name or service not known|nodename nor servname",
        "Check the SSH host's name, and that this machine can resolve it.",
    ),
    (
        r"Connection refused|timed out|No route to host|Network is unreachable",
        "Does sshd run on the SSH host, and does a firewall let this machine through to its port?",
    ),
    (
        r"No user exists for uid",
        "ssh needs an entry in /etc/passwd for the account that runs Backstop.",
    ),
)


@dataclass(frozen=True)
class SshHost:
    """Where to sign in by SSH, and as whom; made by `parse_ssh_host`."""

    host: str
    port: int
    user: str
    identity_file: Path  # our private key
    host_key: str  # the host's only accepted public key, "ssh-ed25519 AAAA…"

    def __str__(self) -> str:
        """The URL, which contains no secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user}@{host}:{self.port}"


def parse_ssh_host(url: str, identity_file: str, host_key: str) -> SshHost:
    """Parse `ssh://user@host:port`, the path of a private key and the host's public key.

    Raises InvalidInput, which never quotes them: somebody may paste a secret.
    """
    match = _ADDRESS.fullmatch(url.strip())
    if match is None:
        raise InvalidInput("this is not an SSH address", hint=_ADDRESS_FORM)
    user, host, port = match[1], match[2] or match[3], match[4] or _DEFAULT_PORT
    if ":" in user:
        raise InvalidInput(
            "an SSH address with a password is not supported",
            hint="Backstop signs in with a key. Leave the password out.",
        )
    if not _USER.fullmatch(user):
        raise InvalidInput(
            "the user in the SSH address is not valid",
            detail="It consists of letters, digits and . _ @ + - and does not begin with - or a"
            " dot.",
            hint=_ADDRESS_FORM,
        )
    where = _checked_host(host), _checked_port(port)
    return SshHost(*where, user, _checked_file(identity_file), parse_host_key(host_key))


def parse_host_key(line: str) -> str:
    """The public key of a host as "ssh-ed25519 AAAA…", without a comment. Raises InvalidInput."""
    kind, _, rest = line.strip().partition(" ")
    key = f"{kind} {rest.partition(' ')[0]}"
    if kind not in _KINDS:
        raise InvalidInput("this is not the public key of an SSH host", hint=_KEY_FORM)
    try:
        load_ssh_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(
            "the public key of the SSH host is damaged",
            detail="A part is missing, or it was changed.",
            hint=_KEY_FORM,
        ) from None
    return key


def fingerprint(host_key: str) -> str:
    """The fingerprint as `ssh-keygen -l` shows it, "SHA256:…"."""
    digest = hashlib.sha256(base64.b64decode(host_key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def scan_host_key(host: str, port: int) -> str:
    """Ask a host for its public key, which proves nothing: compare its fingerprint elsewhere.

    Raises InvalidInput, ConnectError, and ToolError without ssh-keyscan.
    """
    argv = [
        find_program("ssh-keyscan"), "-T", str(_SCAN_TIMEOUT), "-p", str(_checked_port(str(port))),
        "-t", "ed25519,ecdsa,rsa", _checked_host(host),
    ]  # fmt: skip
    message = f"no SSH host at {host}:{port}"
    try:
        outcome = command.run(argv, timeout=3 * _SCAN_TIMEOUT)
    except TimeoutError:
        raise ConnectError(message, detail="The connection timed out.") from None
    lines = (line.partition(" ")[2] for line in outcome.output.splitlines())
    keys = [line for line in lines if line.partition(" ")[0] in _KINDS]
    if not keys:
        # It is silent about both.
        raise ssh_error(message, outcome.log or "The connection was refused or timed out.")
    return parse_host_key(min(keys, key=lambda key: _KINDS.index(key.partition(" ")[0])))


def is_host(text: str) -> bool:
    """Whether it is a host's name or address, which no program reads as anything else."""
    return _HOST.fullmatch(text) is not None


def find_program(name: str) -> str:
    """The path of one of OpenSSH's programs. Raises ToolError."""
    path = shutil.which(name)
    if path is None:
        raise ToolError(
            f"{name} was not found",
            hint="Install OpenSSH's client programs; in Debian the package openssh-client.",
        )
    return path


def ssh_error(message: str, words: str) -> ConnectError:
    """An error with the line of OpenSSH's words that says most, and a hint."""
    lines = [" ".join(line.split()) for line in words.splitlines() if line.strip(" @\r")]
    for pattern, hint in _HINTS:
        for line in lines:
            if re.search(pattern, line):
                return ConnectError(message, detail=line, hint=hint)
    return ConnectError(message, detail=lines[-1] if lines else "ssh gave no reason.")


def _checked_host(host: str) -> str:
    if not is_host(host):
        raise InvalidInput(
            "the host in the SSH address is not valid",
            detail="It is a name of letters, digits and . _ - that does not begin with - or a dot,"
            " or an IP address; IPv6 stands in brackets.",
            hint=_ADDRESS_FORM,
        )
    return host


def _checked_port(port: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) not in _PORTS:
        raise InvalidInput(
            "the port in the SSH address is not valid",
            detail="It is a number from 1 to 65535.",
            hint=_ADDRESS_FORM,
        )
    return int(port)


def _checked_file(path: str) -> Path:
    if not _FILE.fullmatch(path):
        raise InvalidInput(
            "the path of the SSH identity file is not valid",
            detail="It is an absolute path without control characters, % and $.",
            hint="It looks like /etc/backstop/ssh_key.",
        )
    return Path(path)
