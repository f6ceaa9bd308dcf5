"""Add, edit, pause and remove the stores of copies."""

import enum
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.config import settings
from app.encryption import parse_recipient
from app.errors import Conflict, InvalidInput
from app.extensions import db, writing
from app.models import Copy, Database, ReadBack, Status, Store, TakesCatalogue
from app.services.audit.acting import acting, tell
from app.services.databases.lookup import get_database
from app.services.databases.service import checked_name
from app.services.stores.credentials import PATIENCE, opened, sealed
from app.services.stores.lookup import get_row, get_store, unknown
from app.services.stores.ownership import claim
from app.stores import parse_store_url

logger = logging.getLogger(__name__)

E = TypeVar("E", bound=enum.Enum)

MAX_STORES = 50
MAX_URL = 1000  # characters
MAX_RECIPIENTS = 20
SLOWEST = 1000  # bytes per second


@dataclass(frozen=True)
class Changes:
    """The new values of a store; None leaves the old one."""

    name: str | None = None
    url: str | None = None
    credentials: Mapping[str, str] | None = None  # secrets; empty: those of the environment
    recipients: tuple[str, ...] | None = None  # public keys of age; empty: not encrypted
    databases: tuple[str, ...] | None = None  # names; empty: all, also later ones
    read_back: ReadBack | None = None
    bytes_per_second: int | None = None  # 0: no limit
    takes_catalogue: TakesCatalogue | None = None


@dataclass(frozen=True)
class Asking:
    """How a store is asked whose it is, when it is saved."""

    is_asked: bool = True
    take_over: bool = False  # from another panel


_ASKED = Asking()


@acting
def add_store(
    name: str, url: str, changes: Changes | None = None, *, asking: Asking = _ASKED, by: str
) -> Store:
    """Copy to another store, which is marked as ours.

    Raises NotFound, InvalidInput, StorageError, and Conflict if its name or address is taken,
    also by another panel.
    """
    name = checked_name(name, "store")
    store = unsaved_store(url, changes)
    store.name, store.created_by = name, by[:255]
    chosen = _known_databases(changes)
    _refuse_taken(store)
    _ask(store, asking)
    try:
        with writing() as session:
            _refuse_taken(store)
            if (session.scalar(select(func.count()).select_from(Store)) or 0) >= MAX_STORES:
                raise Conflict(f"the limit of {MAX_STORES} stores is reached")
            session.add(store)
            _choose(store, chosen, session)
    except IntegrityError as error:
        raise _taken(name) from error
    tell(subject=name, detail=store.address)
    logger.info("store added name=%r address=%r by=%r", name, store.address, by)
    return get_store(name)


def unsaved_store(url: str, changes: Changes | None = None) -> Store:
    """A store at a URL that has no name and no row yet. Raises InvalidInput."""
    store = Store(recipients=[], credentials="")
    store.address = checked_address(url)
    if changes is not None:
        _apply(changes, store)
    return store


@acting
def edit_store(name: str, changes: Changes, *, asking: Asking = _ASKED, by: str) -> Store:
    """Change a store; with a new URL or new credentials, it is asked whose it is.

    Raises as `add_store`, and Conflict if its URL is changed while something is copied to it.
    """
    store = get_store(name)
    if changes.name is not None:
        checked_name(changes.name, "store")
    chosen = _known_databases(changes)
    address = store.address
    _apply(changes, store)
    if store.address != address or changes.credentials is not None or asking.take_over:
        _refuse_taken(store)
        _ask(store, asking)
    try:
        with writing() as session:
            row = locked_row(name, session)
            if row.address != store.address:
                _refuse_while_copying(row)
                _refuse_taken(store)
            _apply(changes, row)
            row.name = changes.name or name
            _choose(row, chosen, session)
            session.flush()
            new_name = row.name
    except IntegrityError as error:
        raise _taken(changes.name or name) from error
    changed = [field.name for field in fields(changes) if getattr(changes, field.name) is not None]
    moved = f"; was {address}" if store.address != address else ""
    tell(subject=new_name, detail=f"changed: {', '.join(changed) or 'nothing'}{moved}")
    logger.info("store edited name=%r by=%r", new_name, by)
    return get_store(new_name)


@acting
def pause_store(name: str, *, by: str) -> Store:
    """Copy nothing more to a store until it is resumed. Raises NotFound."""
    return _set_paused(name, is_paused=True, by=by)


@acting
def resume_store(name: str, *, by: str) -> Store:
    """Copy to a paused store again. Raises NotFound."""
    return _set_paused(name, is_paused=False, by=by)


@acting
def remove_store(name: str, *, by: str) -> int:
    """Forget a store and its copies; returns how many objects stay at its address.

    Nothing is removed there. Raises NotFound, and Conflict while something is copied to it.
    """
    left = get_row(name).copies
    with writing() as session:
        store = locked_row(name, session)
        address = store.address
        _refuse_while_copying(store)
        session.delete(store)
    tell(subject=name, detail=f"copies that stay at {address}: {left}")
    logger.info("store removed name=%r copies=%d by=%r", name, left, by)
    return left


def checked_address(url: str) -> str:
    """The address in the URL of a store. Raises InvalidInput, without a secret."""
    if len(url) > MAX_URL:
        raise InvalidInput(f"the URL of the store must have at most {MAX_URL} characters")
    address = parse_store_url(url)
    if address.kind == "file":
        _refuse_own_folders(Path(address.prefix))
    if len(text := str(address)) > MAX_URL:
        raise InvalidInput(f"the URL of the store must have at most {MAX_URL} characters")
    return text


def checked_recipients(recipients: Iterable[str]) -> list[str]:
    """Public keys without repetitions. Raises InvalidInput."""
    given = (recipient.strip() for recipient in recipients)
    kept = list(dict.fromkeys(parse_recipient(recipient).key for recipient in given if recipient))
    if len(kept) > MAX_RECIPIENTS:
        raise InvalidInput(f"at most {MAX_RECIPIENTS} recipients are possible")
    return kept


def read_back_named(word: str) -> ReadBack:
    """Which new copies are read back. Raises InvalidInput."""
    return _named(ReadBack, word, "copies are read back")


def takes_catalogue_named(word: str) -> TakesCatalogue:
    """Whether the catalogue is exported to a store. Raises InvalidInput."""
    return _named(TakesCatalogue, word, "the catalogue is exported")


def _named(kind: type[E], word: str, what: str) -> E:
    try:
        return kind(word)
    except ValueError as error:
        words = ", ".join(str(member.value) for member in kind)
        raise InvalidInput(f"{what} {words}, not {word[:64]!r}") from error


def _apply(changes: Changes, store: Store) -> None:
    """Raises InvalidInput."""
    if changes.url:
        store.address = checked_address(changes.url)
    if changes.credentials is not None:
        store.credentials = sealed(changes.credentials)
    if changes.recipients is not None:
        store.recipients = checked_recipients(changes.recipients)
    if changes.read_back is not None:
        store.read_back = changes.read_back
    if changes.takes_catalogue is not None:
        store.takes_catalogue = changes.takes_catalogue
    if changes.bytes_per_second is not None:
        if changes.bytes_per_second and not SLOWEST <= changes.bytes_per_second < 2**63:
            raise InvalidInput(f"the limit must be at least {SLOWEST} bytes per second, or 0")
        store.bytes_per_second = changes.bytes_per_second or None


def _known_databases(changes: Changes | None) -> list[str] | None:
    """The ids of the databases that are named; None leaves them. Raises NotFound."""
    if changes is None or changes.databases is None:
        return None
    names = (name.strip() for name in changes.databases)
    return [get_database(name).id for name in dict.fromkeys(names) if name]


def _choose(store: Store, chosen: list[str] | None, session: Session) -> None:
    if chosen is not None:
        store.takes_all = not chosen
        store.databases = list(session.scalars(select(Database).where(Database.id.in_(chosen))))


def _ask(store: Store, asking: Asking) -> None:
    """Mark it as ours. The catalogue is not locked meanwhile, since this can take long."""
    if asking.is_asked:
        db.session.commit()
        claim(opened(store, timeout=PATIENCE), take_over=asking.take_over)


def _set_paused(name: str, *, is_paused: bool, by: str) -> Store:
    with writing() as session:
        locked_row(name, session).is_paused = is_paused
    state = "paused" if is_paused else "active"
    tell(subject=name, detail=state)
    logger.info("store is %s name=%r by=%r", state, name, by)
    return get_store(name)


def locked_row(name: str, session: Session) -> Store:
    """The row of a store, locked until the transaction ends. Raises NotFound."""
    store = session.scalar(select(Store).where(Store.name == name).with_for_update())
    if store is None:
        raise unknown(name)
    return store


def _refuse_taken(store: Store) -> None:
    """Raise Conflict if another one has its name or address."""
    with db.session.no_autoflush:
        others = select(Store).where(Store.id != (store.id or ""))
        for other in db.session.scalars(others):
            if other.name == store.name:
                raise _taken(store.name)
            if other.address == store.address:
                raise Conflict(
                    f"{store.address} is a store already: {other.name}",
                    hint=f"Edit {other.name} instead, or choose another prefix or folder.",
                )


def _refuse_while_copying(store: Store) -> None:
    running = select(Copy.filename).where(
        Copy.store_id == store.id, Copy.status == Status.PENDING, Copy.claimed_by.is_not(None)
    )
    if (filename := db.session.scalar(running.limit(1))) is not None:
        raise Conflict(
            f"{filename} is being copied to {store.name}",
            hint="Wait until it has ended, or cancel it.",
        )


def _refuse_own_folders(folder: Path) -> None:
    """Raise InvalidInput for a folder that is one of ours, lies in it or holds it."""
    folder = folder.resolve()
    for own in (settings().backup_dir.resolve(), settings().instance_dir.resolve()):
        if folder.is_relative_to(own) or own.is_relative_to(folder):
            raise InvalidInput(
                "the folder of the store is one of the panel's own",
                detail=f"{own} holds what is to be copied elsewhere.",
                hint="Choose a folder on another disk, or on another machine.",
            )


def _taken(name: str) -> Conflict:
    return Conflict(f"a store is named {name} already", hint="Choose another name.")
