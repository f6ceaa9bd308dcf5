"""Which of the databases a page is about: its address names it, `?database=NAME`."""

from typing import Any

from flask import has_request_context, request

from app.errors import InvalidInput
from app.models import Database
from app.services.databases.lookup import choose_database, list_databases

_ABOUT_ONE = ("assertions", "backups", "retention", "schedules")


def chosen_database() -> Database:
    """The database that is named, else the default one, else the first. Raises NotFound."""
    try:
        return choose_database(request.values.get("database", ""))
    except InvalidInput:  # there is no default
        return list_databases()[0]


def keep_choice(endpoint: str, values: dict[str, Any]) -> None:
    """Add the database that is named to the addresses of pages about one."""
    if not has_request_context() or not (name := request.args.get("database", "")[:63]):
        return
    if endpoint.startswith(tuple(f"admin.{resource}." for resource in _ABOUT_ONE)):
        values.setdefault("database", name)
