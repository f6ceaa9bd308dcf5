"""Where the newest good backup of each database is, and how far each copy is proven."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select

from app.extensions import db
from app.models import Copy, Level, Store
from app.services.backups.good import NewestGood
from app.services.proofs.records import best_proofs_of
from app.stores import parse_store_url

_HERE = ""


@dataclass(frozen=True)
class GoodCopy:
    """A good copy of a backup, or its dump here."""

    store: str  # its name; empty: here
    place: str  # the same for two stores in one bucket, or of one account on one host
    level: Level | None  # how far it is proven
    proven_at: datetime | None

    @property
    def word(self) -> str:
        """How far it is proven, for people."""
        return self.level.word.lower() if self.level else "not read back"


@dataclass(frozen=True)
class Spread:
    """All good copies of a backup, the dump here first."""

    filename: str
    copies: tuple[GoodCopy, ...]

    @property
    def places(self) -> int:
        """How many different places hold one."""
        return len({copy.place for copy in self.copies})

    @property
    def in_short(self) -> str:
        """3 copies in 2 places"""
        copies = "1 copy" if len(self.copies) == 1 else f"{len(self.copies)} copies"
        return f"{copies} in {self.places} place{'s' if self.places > 1 else ''}"

    def in_words(self) -> str:
        """here (restored), nas (read back), offsite (not read back)"""
        return ", ".join(f"{copy.store or 'here'} ({copy.word})" for copy in self.copies)


def spreads_of(newest_of: Mapping[str, NewestGood | None]) -> dict[str, Spread]:
    """The spread of the newest good backup of each database that has one, by its id.

    The number of queries does not depend on the numbers of databases and stores.
    """
    good = {database_id: newest for database_id, newest in newest_of.items() if newest}
    proofs = best_proofs_of([newest.id for newest in good.values()])
    stored = _in_stores([newest.filename for newest in good.values()])
    spreads = {}
    for database_id, newest in good.items():
        proof = proofs.get(newest.id)
        level, proven_at = (Level(proof.level), proof.proved_at) if proof else (None, None)
        here = GoodCopy(_HERE, _HERE, level, proven_at)
        spreads[database_id] = Spread(newest.filename, (here, *stored.get(newest.filename, ())))
    return spreads


def _in_stores(filenames: list[str]) -> dict[str, list[GoodCopy]]:
    """The good copies in stores, by filename and in the order of the stores' names."""
    rows = (
        select(Copy.filename, Copy.verified_at, Store.name, Store.address)
        .join(Store)
        .where(Copy.filename.in_(filenames), Copy.good())
        .order_by(Store.name)
    )
    stored: dict[str, list[GoodCopy]] = {}
    for filename, verified_at, name, address in db.session.execute(rows):
        level = Level.READ if verified_at else None
        copy = GoodCopy(name, _place_of(address), level, verified_at)
        stored.setdefault(filename, []).append(copy)
    return stored


def _place_of(address: str) -> str:
    """A bucket, an account on a host, or a whole folder where nothing else tells two apart."""
    parsed = parse_store_url(address)
    return address if parsed.kind in ("file", "rclone") else str(replace(parsed, prefix=""))
