"""Stores: their names, addresses, secrets, databases, and whose they are."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from app.encryption import decrypted_text, encrypted_text, make_identity
from app.errors import Conflict, InvalidInput, NotFound, StorageError
from app.extensions import db, writing
from app.models import Copy, Loss, Panel, ReadBack, Status, Store, Trigger
from app.models.types import now
from app.services.databases.service import add_database
from app.services.stores import lookup, service
from app.services.stores.credentials import opened, parse_credentials
from app.services.stores.keys import make_recovery_key
from app.services.stores.ownership import MARKER, claim, panel_id
from app.services.stores.service import Asking, Changes
from app.stores import open_store

pytestmark = pytest.mark.usefixtures("context")

CANARY = "canary-secret"
KEYS = {"access_key_id": "AKIACANARY", "secret_access_key": CANARY}
S3 = "s3://bucket/prefix?region=eu-central-1"
UNTESTED = Asking(is_asked=False)
AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    folder.mkdir()
    return folder


def add(name: str, url: str = S3, asking: Asking = UNTESTED, **changes: object) -> Store:
    return service.add_store(name, url, Changes(**changes), asking=asking, by="ann")


def plant_copy(store: Store, filename: str, status: Status = Status.COMPLETED, **more: object):
    with writing() as session:
        session.add(
            Copy(
                store_id=store.id,
                filename=filename,
                dumped_at=now(),
                status=status,
                trigger=Trigger.SCHEDULE,
                **more,
            )
        )


def test_a_store_is_added_and_marked_as_ours(nas: Path):
    store = service.add_store("nas", f"file://{nas}", by="ann")
    assert (store.name, store.address, store.takes_all) == ("nas", f"file://{nas}", True)
    assert (store.read_back, store.bytes_per_second, store.created_by) == (
        ReadBack.ALWAYS,
        None,
        "ann",
    )
    assert json.loads((nas / MARKER).read_text())["panel"] == panel_id()
    assert opened(store).size(MARKER) is not None


@pytest.mark.parametrize("name", ["", "Nas", "new", "../nas", "nas\n", "n" * 64, "-", "ñas"])
def test_hostile_names_are_refused(name: str):
    with pytest.raises(InvalidInput, match="is not a valid name of a store"):
        add(name)
    assert lookup.list_stores() == []


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIA:{CANARY}@bucket/prefix",
        f"s3://bucket/prefix?secret_access_key={CANARY}",
        f"sftp://backup:{CANARY}@host/path",
        f"ftp://u:{CANARY}@host",
        CANARY,
        f"s3://bucket/{CANARY}#" + "x" * 2000,
    ],
)
def test_a_url_with_a_password_is_refused_and_not_repeated(
    url: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InvalidInput) as refused:
        add("nas", url)
    assert CANARY not in refused.value.in_words() + caplog.text


def test_name_and_address_belong_to_one_store(nas: Path):
    add("nas", f"file://{nas}")
    with pytest.raises(Conflict, match="a store is named nas already"):
        add("nas")
    with pytest.raises(Conflict, match="is a store already: nas"):
        add("other", f"file://{nas}/")
    add("s3")
    with pytest.raises(Conflict, match="is a store already: nas"):
        service.edit_store("s3", Changes(url=f"file://{nas}"), asking=UNTESTED, by="ann")
    with pytest.raises(Conflict, match="a store is named nas already"):
        service.edit_store("s3", Changes(name="nas"), by="ann")
    with pytest.raises(NotFound) as missing:
        service.edit_store("s4", Changes(), by="ann")
    assert missing.value.hint == "The stores are nas, s3."


def test_credentials_are_sealed_and_in_no_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    store = add("s3", credentials=KEYS)
    assert CANARY not in store.credentials + repr(store) + caplog.text
    assert service.edit_store("s3", Changes(read_back=ReadBack.NEVER), by="ann").credentials
    bare = service.edit_store("s3", Changes(credentials={}), asking=UNTESTED, by="ann")
    assert bare.credentials == ""


def test_credentials_are_read_as_people_have_them():
    lines = "access_key_id = AKIA\nsecret_access_key=a=b==\n\n"
    assert parse_credentials(lines) == {"access_key_id": "AKIA", "secret_access_key": "a=b=="}
    assert parse_credentials('{"access_key": "x"}') == {"access_key": "x"}
    key_file = '{"type": "service_account", "private_key_id": "1", "private_key": "x"}'
    assert parse_credentials(key_file) == {"service_account_key": key_file}


@pytest.mark.parametrize("text", [CANARY, f"={CANARY}", f'{{"a": "{CANARY}"', '{"a": 1}'])
def test_what_is_no_credentials_is_not_repeated(text: str):
    with pytest.raises(InvalidInput, match="cannot be read") as refused:
        parse_credentials(text)
    assert CANARY not in refused.value.in_words()
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_credentials_of_another_kind_are_refused(nas: Path):
    with pytest.raises(InvalidInput, match="unknown credentials") as refused:
        add("nas", f"file://{nas}", Asking(), credentials=KEYS)
    assert CANARY not in refused.value.in_words()
    assert lookup.list_stores() == []


def test_recipients_are_checked_and_a_private_key_is_refused():
    store = add("s3", recipients=(f" {AGE} ", AGE, ""))
    assert store.recipients == [AGE]
    identity = make_identity()
    with pytest.raises(InvalidInput, match="private key") as refused:
        service.edit_store("s3", Changes(recipients=(identity.secret,)), by="ann")
    assert identity.secret not in refused.value.in_words()
    assert service.edit_store("s3", Changes(recipients=()), by="ann").recipients == []


def test_a_store_takes_some_databases_or_all():
    for name in ("crm", "wiki"):
        add_database(name, f"postgresql://u@h/{name}", by="ann")
    store = add("s3", databases=("crm", "wiki", "crm"))
    assert not store.takes_all
    assert sorted(row.name for row in store.databases) == ["crm", "wiki"]
    store = service.edit_store("s3", Changes(databases=("wiki",)), by="ann")
    assert [row.name for row in store.databases] == ["wiki"]
    assert [row.name for row in lookup.get_store("s3").databases] == ["wiki"]
    assert service.edit_store("s3", Changes(bytes_per_second=0), by="ann").databases != []
    everything = service.edit_store("s3", Changes(databases=()), by="ann")
    assert (everything.takes_all, everything.databases) == (True, [])
    with pytest.raises(NotFound, match="no database is named 'none'"):
        service.edit_store("s3", Changes(databases=("none",)), by="ann")


def test_a_limit_is_a_rate_or_none():
    assert add("s3", bytes_per_second=10**7).bytes_per_second == 10**7
    for wrong in (-1, 1, 2**63):
        with pytest.raises(InvalidInput, match="the limit"):
            service.edit_store("s3", Changes(bytes_per_second=wrong), by="ann")
    assert service.edit_store("s3", Changes(bytes_per_second=0), by="ann").bytes_per_second is None


def test_a_folder_that_is_not_there_is_refused_unless_untested(tmp_path: Path):
    with pytest.raises(StorageError, match="folder is not there"):
        add("nas", f"file://{tmp_path}/none", Asking())
    assert lookup.list_stores() == []
    assert add("nas", f"file://{tmp_path}/none").name == "nas"


def test_the_panels_own_folders_are_no_other_place(tmp_path: Path):
    for own in ("backups", "backups/below", "instance", "."):
        with pytest.raises(InvalidInput, match="one of the panel's own"):
            add("nas", f"file://{tmp_path}/{own}".removesuffix("/."))


def test_a_store_of_another_panel_is_named_and_can_be_taken_over(nas: Path):
    theirs = {"panel": "theirs", "host": "db\x1b[7mserver", "since": "2026-11-23T12:00:00.000Z"}
    (nas / MARKER).write_text(json.dumps(theirs))
    with pytest.raises(Conflict, match=r"another panel on db\\x1b\[7mserver") as refused:
        add("nas", f"file://{nas}", Asking())
    assert "names the panel theirs" in refused.value.detail
    assert lookup.list_stores() == []
    assert json.loads((nas / MARKER).read_text()) == theirs
    add("nas", f"file://{nas}", Asking(take_over=True))
    assert json.loads((nas / MARKER).read_text())["panel"] == panel_id()


@pytest.mark.parametrize(
    "marker",
    ["", "{", "[]", "{}", "null", "[" * 4000, '"x"', '{"panel": {}}', "x" * 100_000],
    ids=lambda text: text[:8],
)
def test_a_marker_that_cannot_be_read_is_that_of_another(nas: Path, marker: str):
    (nas / MARKER).write_text(marker)
    with pytest.raises(Conflict, match="belongs to another panel"):
        add("nas", f"file://{nas}", Asking())


def test_our_own_store_is_added_again_without_a_question(nas: Path):
    store = add("nas", f"file://{nas}", Asking())
    marker = (nas / MARKER).read_text()
    assert service.remove_store("nas", by="ann") == 0
    assert add("again", f"file://{nas}", Asking()).id != store.id
    assert (nas / MARKER).read_text() == marker


def test_the_panel_has_one_id(nas: Path):
    assert panel_id() == panel_id() != ""
    assert len(db.session.query(Panel).all()) == 1
    claim(open_store(f"file://{nas}"))
    claim(open_store(f"file://{nas}"))


def test_a_new_address_is_asked_too(nas: Path, tmp_path: Path):
    add("nas", f"file://{nas}", Asking())
    with pytest.raises(StorageError):
        service.edit_store("nas", Changes(url=f"file://{tmp_path}/none"), by="ann")
    assert lookup.get_store("nas").address == f"file://{nas}"
    other = tmp_path / "other"
    other.mkdir()
    edited = service.edit_store("nas", Changes(name="disk", url=f"file://{other}"), by="ann")
    assert (edited.name, edited.address) == ("disk", f"file://{other}")
    assert (other / MARKER).exists()


def test_pause_and_resume():
    add("s3")
    assert service.pause_store("s3", by="ann").is_paused
    assert not service.resume_store("s3", by="ann").is_paused
    with pytest.raises(NotFound):
        service.pause_store("none", by="ann")


def test_removal_forgets_copies_and_says_how_many_stay(nas: Path):
    store = add("nas", f"file://{nas}", Asking())
    (nas / "backup_a.dump").write_text("whole")
    plant_copy(store, "backup_a.dump", key="backup_a.dump", size=5)
    plant_copy(store, "backup_b.dump", loss=Loss.DAMAGED, size=7)
    plant_copy(store, "backup_c.dump", loss=Loss.MISSING, size=9)
    plant_copy(store, "backup_d.dump", Status.FAILED)
    plant_copy(store, "backup_e.dump", Status.PENDING)
    (row,) = lookup.list_rows()
    assert (row.copies, row.size) == (2, 12)
    assert service.remove_store("nas", by="ann") == 2
    assert lookup.list_stores() == []
    assert db.session.query(Copy).all() == []
    assert (nas / "backup_a.dump").exists()


def test_a_store_that_is_copied_to_is_neither_removed_nor_moved(tmp_path: Path):
    store = add("s3")
    plant_copy(store, "backup_a.dump", Status.PENDING, claimed_by="a worker")
    with pytest.raises(Conflict, match=r"backup_a\.dump is being copied to s3"):
        service.remove_store("s3", by="ann")
    with pytest.raises(Conflict, match=r"backup_a\.dump is being copied to s3"):
        service.edit_store("s3", Changes(url=f"{S3}&path_style=true"), asking=UNTESTED, by="ann")
    assert service.edit_store("s3", Changes(read_back=ReadBack.SAMPLE), by="ann")


def test_a_recovery_key_is_kept_by_its_public_part_alone(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    add("s3", recipients=(AGE,))
    identity = make_recovery_key("s3", by="ann")
    store = lookup.get_store("s3")
    assert store.recipients == [AGE, identity.recipient.key]
    assert identity.secret not in caplog.text
    sealed = encrypted_text(b"rows", [identity.recipient])
    assert decrypted_text(sealed, [identity]) == b"rows"
    kept = [value for row in db.session.query(Store).all() for value in vars(row).values()]
    assert identity.secret not in str(kept)


def test_too_many_stores_or_recipients_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service, "MAX_STORES", 1)
    monkeypatch.setattr(service, "MAX_RECIPIENTS", 1)
    add("s3", recipients=(AGE,))
    with pytest.raises(Conflict, match="the limit of 1 stores"):
        add("s4", "s3://other/x")
    with pytest.raises(InvalidInput, match="at most 1 recipients"):
        make_recovery_key("s3", by="ann")


def test_changes_without_a_value_change_nothing(nas: Path):
    before = add("nas", f"file://{nas}", bytes_per_second=5000, recipients=(AGE,))
    after = service.edit_store("nas", replace(Changes(), name="nas"), by="ann")
    fields = ("address", "credentials", "recipients", "read_back", "bytes_per_second", "takes_all")
    assert [getattr(before, name) for name in fields] == [getattr(after, name) for name in fields]
