"""The dumps: is there a good one, are they in place, and is there room for more?"""

from humanize import naturalsize, naturaltime
from sqlalchemy import select

from app.extensions import db
from app.models import DatabaseBackup, Status
from app.models.types import now
from app.services.backups.good import find_newest_good
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database
from app.services.health.doctor.findings import Finding, names, ok, problem, warning
from app.services.health.growth import Growth, read_growth

_SOON = 7  # days until the disk is full that are too few
_FEW = 3  # backups for which there should be room


def find_newest() -> Finding:
    """The backup that a restore would use."""
    newest = find_newest_good(default_database())
    if newest is None:
        return warning("newest backup", "there is no good backup", "flask backup create makes one.")
    age = naturaltime(newest.created_at, when=now())
    return ok("newest backup", f"{newest.filename}, {age}, {_bytes(newest.size)}")


def compare_with_rows() -> Finding:
    """Dumps that are gone or of another length, and those that no row knows."""
    rows = db.session.execute(
        select(DatabaseBackup.filename, DatabaseBackup.size, DatabaseBackup.status)
    ).all()
    db.session.commit()
    stored = storage().sizes()
    kept = {name: size for name, size, status in rows if status is Status.COMPLETED}
    wrong = [name for name, size in kept.items() if name not in stored or stored[name] != size]
    unknown = sorted(stored.keys() - {name for name, _, _ in rows})
    if wrong:
        return problem(
            "dumps",
            f"of {len(kept)} completed backups {len(wrong)} are missing or of another length:"
            f" {names(sorted(wrong, reverse=True), len(wrong))}",
            "Is the right disk mounted? Put them back, or delete these backups.",
        )
    if unknown:
        return warning(
            "dumps",
            f"not in the catalogue: {names(unknown, len(unknown))}",
            "flask backup reconcile --adopt takes them in.",
        )
    return ok("dumps", f"those of all completed backups are there ({len(kept)})")


def tell_space() -> Finding:
    """The room there is."""
    return ok("free space", f"{_bytes(storage().free_space())} free")


def foresee_space() -> Finding:
    """Room for the next backups, and how long it lasts if nothing is deleted."""
    sizes = select(DatabaseBackup.size).where(DatabaseBackup.status == Status.COMPLETED)
    newest = db.session.scalar(sizes.order_by(DatabaseBackup.created_at.desc()).limit(1))
    return _foreseen(storage().free_space(), newest, read_growth())


def _foreseen(free: int, newest: int | None, growth: Growth) -> Finding:
    """From bytes that are free, and the size of the newest backup."""
    summary, hint = f"{_bytes(free)} free", "Delete backups, or free some space."
    if newest is None:
        return ok("free space", summary)
    summary += f"; a backup takes {_bytes(newest)}"
    if free < newest:
        return problem("free space", f"{summary}, so the next one does not fit", hint)
    days = growth.days_left(free)
    if days is not None:
        summary += f"; at {_bytes(growth.daily)} a day the disk is full in {days:.0f} days"
    if free < _FEW * newest or (days is not None and days < _SOON):
        return warning("free space", summary, hint)
    return ok("free space", summary)


def _bytes(size: float) -> str:
    return naturalsize(size, binary=True)
