"""A database behind an SSH host: backed up, drilled and restored through it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.models import Database as Row
from app.models import Kind, Status, Trigger
from app.services.backups import service as backups
from app.services.databases import service
from app.services.restores import service as restores
from app.services.restores.request import RestoreRequest
from app.services.restores.source import get_source
from tests.sshd import Sshd, an_sshd

pytestmark = pytest.mark.usefixtures("context")


@pytest.fixture
def sshd(tmp_path: Path, passable_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    folder = passable_dir / "tunnels"
    folder.mkdir(mode=0o711, exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with an_sshd(tmp_path / "sshd") as started:
        yield started


def guarded(sshd: Sshd, url: str) -> Row:
    ssh = sshd.address
    changes = service.Changes(
        ssh_url=str(ssh), ssh_identity_file=str(ssh.identity_file), ssh_host_key=ssh.host_key
    )
    return service.add_database("behind", url, changes, by="ann")


def test_it_is_backed_up_and_restored_through_the_host(sshd: Sshd, new_database):
    other = new_database()
    other.run("CREATE TABLE t AS SELECT g FROM generate_series(1, 7) g")
    database = guarded(sshd, other.url)
    backup = backups.create_backup(database, trigger=Trigger.CLI, created_by="ann")
    assert backup.status is Status.COMPLETED, backup.error_detail
    request = RestoreRequest(get_source(backup.filename), Kind.REPLACE, Trigger.CLI)
    done = restores.create_restore(request)
    assert done.status is Status.COMPLETED, done.error_detail
    assert other.run("SELECT count(*) FROM t") == [(7,)]
    restores.undo_restore(done.id, by="ann")
    sshd.kill()
    failed = backups.create_backup(database, trigger=Trigger.CLI, created_by="ann")
    assert failed.status is Status.FAILED
    assert "SSH" in failed.error_message


def test_a_host_without_a_pinned_key_is_refused():
    changes = service.Changes(ssh_url="ssh://ann@bastion", ssh_identity_file="/key")
    with pytest.raises(InvalidInput):
        service.add_database("behind", "postgresql://u@h/d", changes, by="ann")
