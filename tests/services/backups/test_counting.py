"""Whether the rows of a database are counted beside its dump."""

import pytest

from app.models import Trigger
from app.services.backups import service as backups
from app.services.databases.lookup import default_database
from app.services.databases.service import Changes, edit_database
from app.services.proofs.records import list_proofs
from tests.conftest import on_catalogues

pytestmark = [pytest.mark.usefixtures("context"), on_catalogues("sqlite")]


def test_a_database_can_be_left_uncounted():
    """Its dump is read back all the same, and says which tables had nothing to compare."""
    found = {}
    for skips in (False, True):
        edit_database(default_database().name, Changes(skips_counting=skips), by="ann")
        made = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
        assert made.is_completed
        (read,) = list_proofs(made.id)
        assert read.evidence["rows"] == 550
        found[skips] = sorted(read.evidence["uncounted"])
    assert found == {False: [], True: ["public.customers", "public.orders"]}
