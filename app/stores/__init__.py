"""Stores of copies elsewhere: folders, services of objects, SFTP, and what rclone reaches."""

from app.stores.address import StoreAddress, parse_store_url
from app.stores.check import check_store
from app.stores.opening import open_store
from app.stores.store import Protections, Store, StoredObject

__all__ = [
    "Protections", "Store", "StoreAddress", "StoredObject", "check_store", "open_store",
    "parse_store_url",
]  # fmt: skip
