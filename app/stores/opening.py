"""Open a store by its URL."""

from collections.abc import Mapping

from app.errors import InvalidInput
from app.stores.address import StoreAddress, parse_store_url
from app.stores.files import FileStore
from app.stores.objects import open_azure, open_google
from app.stores.remotes import open_rclone, open_sftp
from app.stores.s3 import open_s3
from app.stores.store import Store

TIMEOUT = 60.0  # seconds of silence

#: The secrets that each kind takes; None: the options of rclone's backend.
SECRETS: Mapping[str, frozenset[str] | None] = {
    "file": frozenset(),
    "s3": frozenset({"access_key_id", "secret_access_key", "session_token"}),
    "gs": frozenset({"service_account_key"}),
    "az": frozenset({"access_key", "sas_token"}),
    "sftp": frozenset({"password", "private_key", "passphrase"}),
    "rclone": None,
}


def open_store(
    url: str | StoreAddress,
    credentials: Mapping[str, str] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> Store:
    """Open a store, which is not asked yet; without credentials, S3, Google Cloud and Azure
    take them from the environment or the instance.

    `timeout`: seconds of silence after which a service does not answer; a part of an upload
    may take five times as long. Raises InvalidInput, StorageError.
    """
    address = url if isinstance(url, StoreAddress) else parse_store_url(url)
    given = {name: value for name, value in (credentials or {}).items() if value}
    known = SECRETS[address.kind]
    if known is not None and not known.issuperset(given):
        raise InvalidInput(
            f"unknown credentials for a store of the kind {address.kind}",
            hint=f"It takes {', '.join(sorted(known)) or 'none'}.",
        )
    match address.kind:
        case "s3":
            return open_s3(address, given, timeout)
        case "gs":
            return open_google(address, given, timeout)
        case "az":
            return open_azure(address, given, timeout)
        case "sftp":
            return open_sftp(address, given, timeout)
        case "rclone":
            return open_rclone(address, given, timeout)
        case _:
            return FileStore(address)
