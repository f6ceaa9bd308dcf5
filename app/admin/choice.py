"""Which database and store a page is about: its address names them, `?database=NAME`."""

from typing import Any

from flask import has_request_context, request

from app.errors import InvalidInput
from app.models import Database, Store
from app.services.databases.lookup import choose_database, list_databases
from app.services.stores.lookup import choose_store

_ABOUT_ONE = ("assertions", "backups", "retention", "schedules")


def chosen_database() -> Database:
    """The database that is named, else the default one, else the first. Raises NotFound."""
    try:
        return choose_database(request.values.get("database", ""))
    except InvalidInput:  # there is no default
        return list_databases()[0]


def chosen_store() -> Store | None:
    """The store that is named, if one is. Raises NotFound."""
    return choose_store(request.values.get("store", ""))


def keep_choice(endpoint: str, values: dict[str, Any]) -> None:
    """Add the database and the store that are named to the addresses of pages about one."""
    if not has_request_context():
        return
    if (store := request.args.get("store", "")[:63]) and endpoint.startswith("admin.retention."):
        values.setdefault("store", store)
    if not (name := request.args.get("database", "")[:63]):
        return
    if endpoint.startswith(tuple(f"admin.{resource}." for resource in _ABOUT_ONE)):
        values.setdefault("database", name)
