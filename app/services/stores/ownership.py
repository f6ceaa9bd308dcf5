"""Whose a store is: a marker in it names the panel, so that no two write to one place."""

import json
import socket
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.errors import Conflict, ObjectExists
from app.extensions import ask, writing
from app.models import Panel
from app.models.types import moment_text, now
from app.services.audit.log import cleaned
from app.stores import Store

MARKER = "backstop-panel.json"
_LONGEST = 4096  # bytes; others may have written it


class Owner(NamedTuple):
    """The panel that a marker names; empty where it does not."""

    panel: str
    host: str

    @property
    def is_us(self) -> bool:
        return self.panel == panel_id()


def panel_id() -> str:
    """The id of this panel: of its catalogue, which several machines may share."""
    chosen = select(Panel.id)
    if not (known := ask(chosen)):
        with suppress(IntegrityError), writing() as session:  # another process was quicker
            session.add(Panel())
        known = ask(chosen)
    return str(known[0].id)


def claim(store: Store, *, take_over: bool = False) -> None:
    """Mark a store as ours, unless it is that already.

    Raises StorageError, and Conflict if another panel has marked it, unless we `take_over`.
    """
    marker = {"panel": panel_id(), "host": socket.gethostname(), "since": moment_text(now())}
    content = json.dumps(marker).encode()
    try:
        store.put_new(MARKER, content)
    except ObjectExists:
        owner = _read(store)
        if owner.is_us:
            return
        if not take_over:
            raise belongs_to(owner) from None
        store.put(MARKER, [content])


def find_owner(store: Store) -> Owner | None:
    """The panel that has marked a store, if one has. Raises StorageError."""
    return None if store.size(MARKER) is None else _read(store)


def belongs_to(owner: Owner) -> Conflict:
    """The error of a store that another panel has marked."""
    host = f" on {owner.host}" if owner.host else ""
    return Conflict(
        f"the store belongs to another panel{host}",
        detail=f"{MARKER} names the panel {owner.panel or 'of a form that we do not know'}.",
        hint="Choose another prefix or folder. If that panel is gone, take the store over.",
    )


def _read(store: Store) -> Owner:
    content = b"".join(store.read(MARKER, 0, _LONGEST))
    try:
        marker = json.loads(content)
        return Owner(cleaned(str(marker["panel"]), 64), cleaned(str(marker.get("host", "")), 64))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return Owner("", "")
