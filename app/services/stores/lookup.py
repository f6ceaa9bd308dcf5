"""Find the stores. Rows are returned detached, as those of databases are."""

from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlalchemy.orm import selectinload

from app.errors import NotFound
from app.extensions import db
from app.models import Copy, Loss, Status, Store


@dataclass(frozen=True)
class Row:
    """A store, and what lies there, as far as is known."""

    store: Store
    copies: int
    size: int  # bytes


def get_store(name: str) -> Store:
    """The store of this name. Raises NotFound, which lists the names."""
    rows = _read(select(Store).where(Store.name == name))
    if not rows:
        raise unknown(name)
    return rows[0]


def find_store_at(address: str) -> Store | None:
    """The store at an address, if there is one."""
    return next(iter(_read(select(Store).where(Store.address == address))), None)


def choose_store(name: str | None) -> Store | None:
    """The store of this name; none without a name. Raises NotFound."""
    return get_store(name) if name else None


def list_stores() -> list[Store]:
    """All stores by name."""
    return _read(select(Store).order_by(Store.name))


def list_rows() -> list[Row]:
    """All stores by name, each with its copies."""
    counted = _count_copies()
    return [Row(store, *counted.get(store.id, (0, 0))) for store in list_stores()]


def get_row(name: str) -> Row:
    """A store with its copies. Raises NotFound."""
    store = get_store(name)
    return Row(store, *_count_copies().get(store.id, (0, 0)))


def unknown(name: str) -> NotFound:
    """The error of a name that no store has."""
    names = ", ".join(store.name for store in list_stores())
    return NotFound(
        f"no store is named {name[:63]!r}",
        hint=f"The stores are {names}." if names else "Add one: flask store add NAME URL.",
    )


def _count_copies() -> dict[str, tuple[int, int]]:
    """Number and bytes of the objects of copies, by the ids of their stores."""
    is_there = (Copy.status == Status.COMPLETED) & (
        Copy.loss.is_(None) | (Copy.loss != Loss.MISSING)
    )
    summed = select(Copy.store_id, func.count(), func.coalesce(func.sum(Copy.size), 0))
    rows = db.session.execute(summed.where(is_there).group_by(Copy.store_id)).all()
    return {store_id: (number, int(size)) for store_id, number, size in rows}


def _read(chosen: Select[Store]) -> list[Store]:
    session = db.session()
    was_open = session.in_transaction()
    stores = list(session.scalars(chosen.options(selectinload(Store.databases))))
    for row in {*stores, *(database for store in stores for database in store.databases)}:
        session.expunge(row)
    if not was_open:
        session.commit()
    return stores
