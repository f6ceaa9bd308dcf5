"""Copies whose process is killed at random moments, to two kinds of store."""

import hashlib
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.errors import ObjectMissing, VerificationError
from app.extensions import writing
from app.models import Copy
from app.models.types import now
from app.services.copies import queue, service
from app.services.copies.mark import mark_key, read_mark
from app.services.copies.tidy import tidy_store
from app.services.copies.verify import verify_copy
from app.services.recovery import reconcile
from app.services.stores.credentials import opened
from app.services.stores.lookup import get_store
from app.services.stores.service import Changes, add_store
from tests.faults.lab import Lab, N, chance
from tests.stores.conftest import localbucket, prefix

__all__ = ["localbucket", "prefix"]

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400 + 15 * N)]

THEIRS = "backup_of-somebody-else.tar"
RATE = 400_000  # bytes a second
_GROW = "CREATE TABLE noise AS SELECT md5(n::text || random()) FROM generate_series(1, 20000) n"


@pytest.fixture(params=["file", "s3"])
def lab(
    request: pytest.FixtureRequest,
    make_lab: Callable[..., Lab],
    tmp_path: Path,
    prefix: str,
) -> Lab:
    """A panel with a slow store named `nas`, in which others keep something too."""
    lab = make_lab()
    lab.database.run(_GROW)
    if request.param == "file":
        (tmp_path / "nas").mkdir()
        url, credentials = f"file://{tmp_path / 'nas'}", {}
    else:
        place = request.getfixturevalue("localbucket")
        url, credentials = place.url(prefix), dict(place.credentials)
    with lab.context():
        changes = Changes(credentials=credentials, bytes_per_second=RATE)
        add_store("nas", url, changes, by="ann")
        opened(get_store("nas")).put(THEIRS, [b"theirs"])
    return lab


def whole_in(lab: Lab) -> set[str]:
    """The backups whose copies count; each of them is compared."""
    rows, whole = lab.rows(), set()
    with lab.context():
        target = opened(get_store("nas"))
        for name in rows:
            try:
                mark = read_mark(target, name)
            except ObjectMissing:
                continue
            stored = b"".join(target.read(mark.key))
            assert hashlib.sha256(stored).hexdigest() == rows[name].sha256, name
            whole.add(name)
        for copy in service.list_copies():
            if copy.is_completed:
                assert copy.filename in whole, f"{copy.filename} is COMPLETED without a mark"
                assert copy.sha256 == rows[copy.filename].sha256
        assert b"".join(target.read(THEIRS)) == b"theirs"
    return whole


def test_a_copy_that_is_killed_counts_only_when_it_is_whole(
    lab: Lab, record_property: Callable[[str, object], None]
):
    first = lab.make_backup()
    began = time.monotonic()
    assert lab.start("copy", "make", first, "nas").wait(60) == 0
    span, luck, finished = time.monotonic() - began, chance("copies"), 0
    for _ in range(N):
        name = lab.make_backup()
        process = lab.start("copy", "make", name, "nas")
        time.sleep(luck.uniform(span / 3, span))  # a third of it only imports our modules
        process.kill()
        process.wait()
        with lab.context():
            reconcile()
        finished += name in whole_in(lab)
        with lab.context(), writing() as session:
            for copy in session.query(Copy).filter(Copy.next_attempt_at.is_not(None)):
                copy.next_attempt_at = now()
        with lab.context():
            queue.copy_what_is_due()
            for copy in service.list_copies(filename=name):
                queue.run_copy.call_local(copy.id)
        assert name in whole_in(lab)
    record_property("faults", f"copies: {N} kills; {finished} were whole already")


def test_what_a_killed_upload_leaves_is_removed_and_nothing_else(lab: Lab):
    whole, lost = lab.make_backup(), lab.make_backup()
    with lab.context():
        for name in (whole, lost):
            copy = service.insert_copy(name, "nas", trigger=lab.rows()[name].trigger, by="ann")
            queue.run_copy.call_local(copy.id)
        store = get_store("nas")
        target = opened(store)
        target.delete(mark_key(lost))  # as if its runner had died before it wrote that
        before = {found.key for found in target.list()}
        assert tidy_store(store) == 0  # it is too new to be sure
        assert tidy_store(store, left_for=timedelta(0)) == 1
        assert {found.key for found in target.list()} == before - {lost}
        assert verify_copy(service.get_copy_in(whole, "nas").id).is_good
        with pytest.raises((ObjectMissing, VerificationError)):
            read_mark(target, lost)
