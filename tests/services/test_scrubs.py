"""Dumps are read again when their time has come, and what was damaged is told."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from app.config import settings as current_settings
from app.extensions import writing
from app.models import Level, Proof, Result, Trigger
from app.models.types import now
from app.services import backups, listing, proofs
from app.services.scrubs import scrub

pytestmark = pytest.mark.usefixtures("context")


def make(days: int) -> str:
    """A backup that was proven so many days ago."""
    made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    with writing() as session:
        then = now() - timedelta(days=days)
        session.execute(update(Proof).where(Proof.backup_id == made.id).values(proved_at=then))
    return made.filename


def newest_proof(filename: str) -> Proof:
    return proofs.list_proofs(listing.get_backup(filename).id)[0]


def test_the_dump_that_was_not_read_for_longest_comes_first():
    young, old, older = make(1), make(40), make(50)
    assert scrub() == [older]
    assert scrub() == [old]
    assert scrub() == []
    assert newest_proof(young).proved_at < now() - timedelta(hours=23)
    found = newest_proof(older)
    assert (found.level, found.result) == (Level.READ, Result.PASSED)
    assert found.evidence == {"differences": []}
    assert found.proved_at > now() - timedelta(minutes=1)


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_dump_that_was_damaged_fails_its_proof(damage: str):
    filename = make(31)
    path = current_settings().backup_dir / filename
    if damage == "gone":
        path.unlink()
    else:
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
    assert scrub() == [filename]
    found = newest_proof(filename)
    assert found.result is Result.FAILED
    assert found.evidence["differences"]
    best = proofs.best_proofs([listing.get_backup(filename)])
    assert [each.result for each in best.values()] == [Result.FAILED]
