"""A manifest that the panel has not signed makes no dump one of ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app.config import settings
from app.errors import Conflict, VerificationError
from app.extensions import writing
from app.models import DatabaseBackup, Kind, Status, Trigger
from app.services.backups import checks, listing, trust
from app.services.backups import service as backups
from app.services.backups.manifests import (
    _OWN_CHECKSUM,
    _checksum,
    _written,
    build_manifest,
    read_manifest,
)
from app.services.backups.recovery import adopt
from app.services.proofs import records as proofs
from app.services.recovery import reconcile
from app.services.restores import service as restores
from app.services.restores.request import RestoreRequest
from app.services.restores.source import get_source

pytestmark = pytest.mark.usefixtures("context")

Change = Callable[[dict[str, Any]], None]


def path_of(filename: str) -> Path:
    return settings().backup_dir / f"{filename}.json"


def make() -> str:
    return backups.create_backup(trigger=Trigger.CLI, created_by="ann").filename


def rewrite(filename: str, change: Change) -> None:
    """As somebody does who can write the folder; the checksum has no key."""
    content = read_manifest(path_of(filename).read_bytes())
    change(content)
    path_of(filename).write_bytes(_written(content | {_OWN_CHECKSUM: _checksum(content)}))


def forget(filename: str) -> None:
    """A dump and a manifest that no row knows."""
    with writing() as session:
        session.delete(listing.get_backup(filename))


def unsigned(content: dict[str, Any]) -> None:
    del content["signature"]


def signed_by_another(content: dict[str, Any]) -> None:
    content["signature"] = "0" * 64


def no_text(content: dict[str, Any]) -> None:
    content["signature"] = ["0"]


def with_another_extension(content: dict[str, Any]) -> None:
    content["contents"]["extensions"].append({"name": "dblink"})


def of_a_foreign_dump(content: dict[str, Any]) -> None:
    content["foreign"] = not content["foreign"]


FORGERIES = [unsigned, signed_by_another, no_text, with_another_extension, of_a_foreign_dump]


@pytest.mark.parametrize("forge", FORGERIES)
@pytest.mark.parametrize("take_in", ["adopt", "rebuild"])
def test_a_dump_with_a_manifest_that_we_have_not_signed_is_foreign(forge: Change, take_in: str):
    filename = make()
    rewrite(filename, forge)
    forget(filename)
    if take_in == "adopt":
        assert adopt(filename) is False
    else:
        list(checks.rebuild())
        reconcile()
    row = listing.get_backup(filename)
    assert row.foreign
    assert row.contents is not None
    assert "foreign" in row.contents  # so nothing of it is loaded by the admin
    assert not row.contents.keys() & {"owner", "settings", "objects", "owned", "comment", "read"}
    assert proofs.list_proofs(row.id) == []
    with pytest.raises(Conflict, match="foreign dump never replaces"):
        restores.queue_restore(
            RestoreRequest(
                get_source(filename), Kind.REPLACE, trigger=Trigger.API, created_by="ann"
            )
        )
    list(checks.rebuild())  # the manifest, which is signed by now, says so too
    assert listing.get_backup(filename).foreign


def test_one_that_we_have_signed_is_ours_again():
    filename = make()
    forget(filename)
    assert adopt(filename) is True
    assert not listing.get_backup(filename).foreign


def test_a_foreign_one_can_be_trusted_by_name():
    filename = make()
    was = listing.get_backup(filename).contents
    rewrite(filename, unsigned)
    forget(filename)
    adopt(filename)
    trust.trust_backup(filename, by="ann")
    row = listing.get_backup(filename)
    assert (row.foreign, row.contents) == (False, was)
    assert [each.is_passed for each in proofs.list_proofs(row.id)] == [True]
    forget(filename)
    assert adopt(filename) is True  # its manifest is signed
    with pytest.raises(Conflict, match="was made by this panel"):
        trust.trust_backup(filename, by="ann")


def test_what_its_manifest_does_not_tell_of_is_not_trusted():
    filename = make()
    rewrite(filename, unsigned)
    forget(filename)
    adopt(filename)
    dump = settings().backup_dir / filename
    dump.write_bytes(dump.read_bytes()[:-1] + b"!")
    with pytest.raises(VerificationError, match="does not match its manifest"):
        trust.trust_backup(filename, by="ann")
    assert listing.get_backup(filename).foreign


@pytest.mark.parametrize("status", [Status.FAILED, Status.PENDING])
def test_a_planted_dump_completes_no_row(status: Status):
    """Whose name is known before: that of a backup that runs, or has failed."""
    filename = make()
    rewrite(filename, unsigned)
    with writing():
        row = listing.get_backup(filename)
        row.status, row.claimed_by = status, "gone boot - 1 1"
    reconcile()
    assert listing.get_backup(filename).status is Status.FAILED


def test_rows_of_ours_stay_ours_whatever_their_manifests_say():
    """Those of older versions, and of a SECRET_KEY that was changed, are not signed."""
    old, forged = make(), make()
    rewrite(old, unsigned)
    rewrite(forged, with_another_extension)
    was = {each: listing.get_backup(each).contents for each in (old, forged)}
    verdicts = {each.filename: each.verdict for each in checks.rebuild()}
    assert verdicts == {old: checks.Verdict.WHOLE, forged: checks.Verdict.MANIFEST}
    for filename in (old, forged):
        row = listing.get_backup(filename)
        assert (row.foreign, row.contents) == (False, was[filename])
        assert path_of(filename).read_bytes() == build_manifest(row)


def test_another_secret_key_signs_otherwise(make_app: Callable[..., Flask]):
    filename = make()
    with make_app(secret_key="another key, just as long").app_context():
        with writing() as session:
            session.delete(session.merge(listing.get_backup(filename)))
        assert adopt(filename) is False
        assert json.loads(path_of(filename).read_bytes())["foreign"] is True
        assert session.query(DatabaseBackup).one().foreign
