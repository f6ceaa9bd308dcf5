"""What entries of the settings' document have in common."""

from typing import Any, NamedTuple

from app.errors import ConfigurationError, InvalidInput
from app.sealing import unseal
from app.services.databases.lookup import default_database

Fields = dict[str, Any]


class Key(NamedTuple):
    """What identifies an entry."""

    database: str  # the one that it belongs to; empty: the default one, or none
    name: str


def opened(sealed: str) -> str:
    """A sealed secret; empty if it cannot be opened, so that it is entered anew."""
    try:
        return unseal(sealed) if sealed else ""
    except ConfigurationError:
        return ""


def default_name() -> str:
    """The name of the default database; empty if there is none."""
    try:
        return default_database().name
    except InvalidInput:
        return ""
