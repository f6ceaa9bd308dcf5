"""Credentials of a store: as people give them, sealed, and opened again."""

import json
from collections.abc import Mapping

from app.errors import InvalidInput
from app.models import Store
from app.sealing import seal, unseal
from app.stores import Store as OpenStore
from app.stores import open_store

MAX_CREDENTIALS = 20_000  # characters
PATIENCE = 15.0  # seconds of silence while somebody waits

_FORM = "Write a name=value a line, or a JSON object; for gs:// the service account's key file."


def parse_credentials(text: str) -> dict[str, str]:
    """Credentials in a text: lines of name=value, JSON, or a key file of Google's.

    Raises InvalidInput, without a word of the text.
    """
    text = text.strip()
    if not text.startswith("{"):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        pairs = [line.partition("=") for line in lines]
        if not all(name.strip() and separator for name, separator, _ in pairs):
            raise InvalidInput("the credentials cannot be read", hint=_FORM)
        return {name.strip(): value.strip() for name, _, value in pairs}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput("the credentials cannot be read", hint=_FORM) from None
    if "private_key_id" in content:
        return {"service_account_key": text}
    if not all(isinstance(value, str) for value in content.values()):
        raise InvalidInput("the credentials cannot be read", hint=_FORM)
    return dict(content)


def as_text(credentials: Mapping[str, str]) -> str:
    """The same credentials as always the same text; empty without any."""
    given = {name: value for name, value in credentials.items() if value}
    return json.dumps(given, sort_keys=True) if given else ""


def sealed(credentials: Mapping[str, str]) -> str:
    """Credentials as they are kept; empty without any. Raises InvalidInput."""
    text = as_text(credentials)
    if len(text) > MAX_CREDENTIALS:
        raise InvalidInput(f"credentials must have at most {MAX_CREDENTIALS:,} characters")
    return seal(text) if text else ""


def opened(store: Store, **more: float) -> OpenStore:
    """The store itself, which is not asked yet.

    Raises InvalidInput, StorageError, and ConfigurationError if SECRET_KEY has changed.
    """
    credentials = json.loads(unseal(store.credentials)) if store.credentials else None
    return open_store(store.address, credentials, **more)
