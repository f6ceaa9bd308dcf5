"""What a drill proves counts as soon as its row has ended, and not before."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.extensions import writing
from app.models import Kind, Level, Restore, Result, Status
from app.models.types import now
from app.services.backups import service as backups
from app.services.proofs import assertions
from app.services.proofs import records as proofs
from app.services.recovery import reconcile
from tests.conftest import Database
from tests.services.restores.conftest import attempt, backed_up

pytestmark = pytest.mark.usefixtures("context")


def proofs_of(filename: str) -> list[tuple[int, Result]]:
    """Level and result of each, newest first."""
    made = proofs.list_proofs(backups.get_backup(filename).id)
    return [(proof.level, proof.result) for proof in made]


@pytest.mark.parametrize(
    ("ending", "least"), [("complete", 0), ("fail", 1000)], ids=["passed", "failed"]
)
def test_a_drill_that_is_killed_before_its_row_has_ended_proves_nothing(
    ending: str, least: int, living: Database, monkeypatch: pytest.MonkeyPatch
):
    statement = f"SELECT count(*) > {least} FROM orders"
    assertions.add_assertion("enough", statement, created_by="ann")
    filename = backed_up()
    real = getattr(Restore, ending)

    def killed(*_: object) -> None:
        monkeypatch.setattr(Restore, ending, real)
        raise OperationalError("UPDATE", {}, Exception("the process is gone"))

    monkeypatch.setattr(Restore, ending, killed)
    with pytest.raises(OperationalError):
        attempt(filename, Kind.DRILL)
    with writing() as session:
        (row,) = session.scalars(select(Restore))
        row.claimed_by, row.lease_until = "elsewhere boot ns 1 1", now() - timedelta(days=1)
    reconcile()
    with writing() as session:
        (row,) = session.scalars(select(Restore))
        assert (row.status, row.error_message) == (Status.FAILED, "the restore was interrupted")
    assert proofs_of(filename) == [(Level.READ, Result.PASSED)]


@pytest.mark.parametrize(("least", "result"), [(0, Result.PASSED), (1000, Result.FAILED)])
def test_the_proof_of_a_drill_is_made_while_the_drill_runs(
    least: int, result: Result, living: Database
):
    statement = f"SELECT count(*) > {least} FROM orders"
    assertions.add_assertion("enough", statement, created_by="ann")
    filename = backed_up()
    row = attempt(filename, Kind.DRILL)
    asserted, restored, read = proofs_of(filename)
    assert asserted == (Level.ASSERTED, result)
    assert restored == (Level.RESTORED, Result.PASSED)
    assert read == (Level.READ, Result.PASSED)
    shown = proofs.proof_of(row)
    assert shown is not None
    assert row.started_at <= shown.proved_at <= row.finished_at
