"""Where dumps rest: files in a folder, each under its final name only once it is whole."""

from app.storages.checksum import sha256_of
from app.storages.local import LocalStorage, Staged

__all__ = ["LocalStorage", "Staged", "sha256_of"]
