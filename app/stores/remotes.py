"""What rclone is told of a store: its backend, options and passwords."""

import json
import re
from collections.abc import Mapping
from functools import cache
from urllib.parse import urlsplit

from app.errors import InvalidInput, StorageError, ToolError
from app.programs.streaming import feed
from app.stores.address import FORMS, StoreAddress
from app.stores.rclone import RcloneStore, SftpStore, find_rclone, plain_environment

_PATIENCE = 30  # seconds, for what needs no network
_HOST_KEY = re.compile(r"(ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) [A-Za-z0-9+/]+=*")
_RSA = "rsa-sha2-512 rsa-sha2-256"
_SSH_PORT = 22

#: Backends that are this machine itself, or lead to others that nobody has checked.
_NOT_ELSEWHERE = (
    "alias", "archive", "cache", "chunker", "combine", "compress", "crypt", "hasher", "http",
    "local", "memory", "union",
)  # fmt: skip
#: Options that run a program here or there.
_RUNS_A_PROGRAM = re.compile(r"command|^ssh$")


def open_sftp(address: StoreAddress, credentials: Mapping[str, str], timeout: float) -> SftpStore:
    """A folder on an SSH host whose key is pinned. Raises InvalidInput, StorageError."""
    host_key = _HOST_KEY.match(address.options.get("host_key", ""))
    if host_key is None:
        raise InvalidInput(
            "the URL of the store lacks the public key of its SSH host",
            hint=f"It looks like {FORMS['sftp']}; ssh-keyscan shows the key, which must be"
            " compared with the host's own.",
        )
    given = {*address.options, *credentials}
    if not given & {"identity_file", "password", "private_key"}:
        raise InvalidInput(
            "there are no credentials for the SSH host",
            hint="Set identity_file=… in the URL, or give a private key or a password.",
        )
    where = urlsplit(f"//{address.place}")
    host, port = where.hostname or "", where.port or _SSH_PORT
    settings = {
        "type": "sftp",
        "host": host,
        "user": where.username or "",
        "port": str(port),
        "host_key_algorithms": _RSA if host_key[1] == "ssh-rsa" else host_key[1],
        "key_file": address.options.get("identity_file", ""),
        "key_pem": credentials.get("private_key", "").strip().replace("\n", "\\n"),
        "key_file_pass": _obscured(credentials.get("passphrase", "")),
        "pass": _obscured(credentials.get("password", "")),
        "copy_is_hardlink": "true",
        "shell_type": "none",
        "disable_hashcheck": "true",
    }
    known_as = host if port == _SSH_PORT else f"[{host}]:{port}"
    return SftpStore(
        address,
        {name: value for name, value in settings.items() if value},
        timeout,
        tuple(credentials.values()),
        f"{known_as} {host_key[0]}\n",
    )


def open_rclone(
    address: StoreAddress, credentials: Mapping[str, str], timeout: float
) -> RcloneStore:
    """Whatever else rclone reaches. Raises InvalidInput, StorageError."""
    backend = address.place
    are_passwords = _backends().get(backend, {})
    if not are_passwords or backend in _NOT_ELSEWHERE:
        raise InvalidInput(
            f"rclone has no backend {backend} that is a store",
            hint="Choose one of its overview of storage systems, as `rclone config` writes it.",
        )
    settings = {"type": backend}
    for name, value in (dict(address.options) | dict(credentials)).items():
        if name not in are_passwords or _RUNS_A_PROGRAM.search(name):
            raise InvalidInput(f"a store of rclone's {backend} does not take the option {name}")
        settings[name] = _obscured(value) if are_passwords[name] else value
    return RcloneStore(address, settings, timeout, tuple(credentials.values()))


@cache
def _backends() -> Mapping[str, Mapping[str, bool]]:
    """For each backend its options, and whether they are passwords, as rclone itself says."""
    listed = json.loads(_asked("config", "providers"))
    return {
        backend["Prefix"]: {option["Name"]: option["IsPassword"] for option in backend["Options"]}
        for backend in listed
    }


def _obscured(password: str) -> str:
    """The password as rclone takes it; this is no encryption."""
    return _asked("obscure", "-", text=password).strip() if password else ""


def _asked(*words: str, text: str = "") -> str:
    """What rclone answers. Raises StorageError."""
    try:
        ended = feed(
            [find_rclone(), *words],
            [text.encode()],
            environment=plain_environment(),
            patience=_PATIENCE,
        )
    except (TimeoutError, ToolError) as error:
        raise StorageError("rclone does not answer") from error
    if ended.status != 0:
        raise StorageError("rclone cannot be asked", detail=f"It ended with {ended.status}.")
    return ended.log
