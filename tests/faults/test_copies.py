"""Copies whose process is killed, or whose network is cut, at random moments.

Whatever happens: a copy that counts reads back to the SHA-256 of its backup, nothing else
counts, and nothing of others in the store is touched.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import update

from app.encryption import decrypted, make_identity
from app.errors import ObjectMissing, VerificationError
from app.extensions import writing
from app.models import Copy
from app.models.types import now
from app.services.copies import queue, removal, service
from app.services.copies.mark import mark_key, read_mark
from app.services.copies.tidy import tidy_store
from app.services.copies.verify import verify_copy
from app.services.databases.configured import storage
from app.services.recovery import reconcile
from app.services.stores.credentials import opened
from app.services.stores.lookup import get_store
from app.services.stores.service import Asking, Changes, add_store, edit_store
from tests.faults.lab import Lab, N, chance
from tests.faults.line import Line
from tests.stores.conftest import localbucket, prefix

__all__ = ["localbucket", "prefix"]

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400 + 15 * N)]

THEIRS = "backup_of-somebody-else.tar"
RATE = 400_000  # bytes a second
KEYS = [make_identity(), make_identity()]
ENDS = 60  # seconds until a command whose network is cut has ended
_GROW = "CREATE TABLE noise AS SELECT md5(n::text || random()) FROM generate_series(1, 20000) n"


@dataclass
class Site:
    """A panel with a slow store named `nas`, in which others keep something too."""

    lab: Lab
    keys: Path  # a file with the secret of KEYS[0]; the drill key of the store is another
    line: Line | None = None  # to the store, where it is on the network
    spans: dict[str, float] = field(default_factory=dict)  # seconds that an act takes

    def words(self, act: str, name: str) -> tuple[str, ...]:
        """The command of an act."""
        return {
            "make": ("copy", "make", name, "nas"),
            "verify": ("copy", "verify", name),
            "fetch": ("copy", "fetch", name, "--identity", str(self.keys)),
            "reencrypt": (
                *("copy", "reencrypt", "nas", "--backup", name),
                *("--identity", str(self.keys)),
            ),
            "remove": ("copy", "remove", name, "nas", "--yes"),
        }[act]


ACTS = ("make", "verify", "fetch", "reencrypt", "remove")


@pytest.fixture(params=["file", "s3"])
def site(
    request: pytest.FixtureRequest,
    make_lab: Callable[..., Lab],
    tmp_path: Path,
    prefix: str,
) -> Iterator[Site]:
    keys = tmp_path / "key.txt"
    keys.write_text("".join(f"{identity.secret}\n" for identity in KEYS[:1]))
    lab = make_lab()
    lab.database.run(_GROW)
    if request.param == "file":
        (tmp_path / "nas").mkdir()
        _add(lab, f"file://{tmp_path / 'nas'}", {})
        yield Site(lab, keys)
        return
    place = request.getfixturevalue("localbucket")
    port = urlsplit(place.endpoint).port
    with closing(Line(("127.0.0.1", port))) as line:
        url = place.url(prefix).replace(str(port), str(line.port))
        _add(lab, url, dict(place.credentials))
        yield Site(lab, keys, line)


def _add(lab: Lab, url: str, credentials: dict[str, str]) -> None:
    with lab.context():
        changes = Changes(credentials=credentials, bytes_per_second=RATE)
        add_store("nas", url, changes, by="ann")
        opened(get_store("nas")).put(THEIRS, [b"theirs"])


def whole_in(lab: Lab) -> set[str]:
    """The backups whose copies have a mark; each of them is compared."""
    rows, whole = lab.rows(), set()
    with lab.context():
        target = opened(get_store("nas"))
        for name in rows:
            try:
                mark = read_mark(target, name)
            except ObjectMissing:
                continue
            stored = b"".join(target.read(mark.key))
            assert hashlib.sha256(stored).hexdigest() == mark.stored.sha256, name
            plain = b"".join(decrypted([stored], KEYS)) if mark.is_encrypted else stored
            assert hashlib.sha256(plain).hexdigest() == rows[name].sha256, name
            whole.add(name)
        for copy in service.list_copies():
            assert not copy.is_good or copy.filename in whole, f"{copy.filename} has no mark"
        assert b"".join(target.read(THEIRS)) == b"theirs"
    return whole


def settled(site: Site) -> None:
    """Do what a worker does later: end dead jobs, try again, finish removals, and tidy up."""
    with site.lab.context():
        reconcile()
        with writing() as session:
            for column in (Copy.next_attempt_at, Copy.removing_since):
                due = update(Copy).where(column.is_not(None))
                session.execute(due.values({column: now() - timedelta(days=1)}))
        removal.finish_removals()
        queue.copy_what_is_due()
        for copy in service.list_copies():
            if copy.is_pending:
                queue.run_copy.call_local(copy.id)


def prepared(site: Site, act: str, name: str, luck: random.Random) -> None:
    """Let there be what an act needs."""
    with site.lab.context():
        if act == "make":
            recipients = luck.choice([(), (KEYS[0].recipient.key,)])
            edit_store("nas", Changes(recipients=recipients), asking=Asking(False), by="ann")
            return
        service.wanted_copy(name, "nas", trigger=site.lab.rows()[name].trigger, by="ann")
    settled(site)
    with site.lab.context():
        assert service.get_copy_in(name, "nas").is_good
        if act == "fetch":
            storage().delete(name)
        elif act == "reencrypt":
            key = KEYS[1].recipient.key
            edit_store("nas", Changes(recipients=(key,)), asking=Asking(False), by="ann")


def disturbed(site: Site, act: str, name: str, luck: random.Random) -> None:
    """Start an act, and kill it or cut its network at a random moment."""
    process = site.lab.start(*site.words(act, name))
    span = site.spans[act]
    time.sleep(luck.uniform(span / 3, span))  # a third of it only imports our modules
    if site.line is None or luck.random() < 0.5:
        process.kill()
        process.wait()
        return
    site.line.cut()
    assert process.wait(ENDS) is not None
    site.line.mend()


@pytest.mark.parametrize("act", ACTS)
def test_an_act_that_is_killed_or_cut_never_leaves_half_a_copy_that_counts(
    site: Site, act: str, record_property: Callable[[str, object], None]
):
    lab, luck, finished = site.lab, chance(f"copies {act}"), 0
    name = lab.make_backup()
    prepared(site, act, name, luck)
    began = time.monotonic()
    assert lab.start(*site.words(act, name)).wait(60) == 0
    site.spans[act] = time.monotonic() - began
    sha256 = lab.rows()[name].sha256
    for _ in range(N):
        if act == "make":
            name = lab.make_backup()
            sha256 = lab.rows()[name].sha256
        prepared(site, act, name, luck)
        disturbed(site, act, name, luck)
        there = whole_in(lab)
        assert act in ("make", "remove") or name in there
        with lab.context():
            here = (
                storage().has(name)
                and hashlib.sha256(storage().path_of(name).read_bytes()).hexdigest()
            )
            assert here == sha256 or (act == "fetch" and not here)
            copies = service.list_copies(filename=name)
            assert [copy.loss for copy in copies] in ([], [None])
            finished += (act, name in there, bool(here)) in {
                ("make", True, True), ("remove", False, True), ("fetch", True, True),
            }  # fmt: skip
        settled(site)
        if act == "fetch" and not here:
            assert lab.start(*site.words(act, name)).wait(60) == 0
        assert act == "remove" or name in whole_in(lab)
        with lab.context():
            tidy_store(get_store("nas"), left_for=timedelta(0))
            keys = {found.key for found in opened(get_store("nas")).list("backup_")} - {THEIRS}
        assert len(keys) == 2 * len(whole_in(lab)), keys
    record_property("faults", f"copies, {act}: {N} kills and cuts; {finished} had ended already")


def test_what_a_killed_upload_leaves_is_removed_and_nothing_else(site: Site):
    lab = site.lab
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
