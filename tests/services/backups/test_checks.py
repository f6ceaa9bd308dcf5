"""flask backup check finds what is not what it was; rebuild mends what is proven."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update

from app.config import settings as current_settings
from app.errors import StorageError
from app.extensions import db, writing
from app.models import DatabaseBackup, Status, Trigger
from app.models.types import now
from app.services.backups import checks, listing
from app.services.backups import service as backups
from app.services.backups.checks import Check, Verdict, check_backups, rebuild
from app.services.backups.manifests import FACTS, build_manifest, read_manifest
from app.services.databases.configured import storage
from app.services.jobs import claims
from tests.conftest import Database

pytestmark = pytest.mark.usefixtures("context")


def make(notes: str = "") -> DatabaseBackup:
    """A backup, and its row as it was: what becomes of that is what is asked."""
    row = backups.create_backup(trigger=Trigger.CLI, created_by="tester", notes=notes)
    db.session.refresh(row)
    db.session.expunge(row)
    db.session.rollback()
    return row


def dump_of(backup: DatabaseBackup) -> Path:
    return current_settings().backup_dir / backup.filename


def manifest_of(backup: DatabaseBackup) -> Path:
    return dump_of(backup).with_name(f"{backup.filename}.json")


def flip(dump: Path) -> None:
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)


def change(backup: DatabaseBackup, **values: object) -> None:
    """Let the row say something else, behind the panel's back."""
    with writing() as session:
        session.execute(
            update(DatabaseBackup).where(DatabaseBackup.id == backup.id).values(**values)
        )


def spoil(backup: DatabaseBackup, column: str, value: str) -> None:
    """Let the row say what no status and no moment is."""
    with writing() as session:
        session.execute(
            text(f"UPDATE database_backups SET {column} = :value WHERE id = :id"),
            {"value": value, "id": backup.id},
        )


def forget(backup: DatabaseBackup) -> None:
    with writing() as session:
        session.execute(text("DELETE FROM database_backups WHERE id = :id"), {"id": backup.id})


def facts(filename: str) -> dict[str, object]:
    """All that a row tells, but when it was written."""
    db.session.expire_all()
    row = listing.get_backup(filename)
    return {name: getattr(row, name) for name in (*FACTS, "status", "log")}


def verdicts() -> dict[str, Verdict]:
    return {each.filename: each.verdict for each in check_backups()}


def only(checks: list[Check]) -> Check:
    (found,) = checks
    return found


def test_whole_dumps_are_good():
    made = [make().filename, make().filename]
    assert [(each.filename, each.is_good) for each in check_backups()] == [
        (name, True) for name in made
    ]
    assert {each.in_words for each in check_backups()} == {"whole"}


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest gone", "manifest flipped"])
def test_each_damage_is_found_and_the_others_stay_good(damage: str):
    bad, good = make(), make()
    dump = current_settings().backup_dir / bad.filename
    manifest = dump.with_name(f"{dump.name}.json")
    if damage == "flip":
        flip(dump)
    elif damage == "cut":
        dump.write_bytes(dump.read_bytes()[:-1])
    elif damage == "gone":
        dump.unlink()
    elif damage == "manifest gone":
        manifest.unlink()
    else:
        manifest.write_bytes(
            manifest.read_bytes().replace(b"customer", b"x").replace(b"a", b"b", 1)
        )
    results = {each.filename: each.is_good for each in check_backups()}
    assert results == {bad.filename: False, good.filename: True}


def test_a_dump_that_no_row_knows_is_told():
    good = make()
    unknown = current_settings().backup_dir / "backup_2001-01-01T00-00-00-000Z.dump"
    unknown.write_bytes(b"PGDMP")
    found = {each.filename: each for each in check_backups()}
    assert {name: each.verdict for name, each in found.items()} == {
        good.filename: Verdict.WHOLE,
        unknown.name: Verdict.UNKNOWN,
    }
    told = found[unknown.name].in_words
    assert told.startswith("not in the catalogue: and not compared: ")
    assert f"{unknown.name}.json is not in" in told


# What differs, and what is done about it

MOMENTS = {"created_at": timedelta(hours=-1), "finished_at": timedelta(milliseconds=1)}
OTHERWISE = {
    "notes": "not what was written",
    "size": 1,
    "sha256": "0" * 64,
    "oldest_reader": 99,
    "server": "elsewhere:5432",
    "created_by": "mallory",
    "trigger": Trigger.SCHEDULE,
    "contents": {"encoding": "LATIN1"},
}


@pytest.mark.parametrize("column", [*OTHERWISE, *MOMENTS])
def test_a_row_that_says_otherwise_is_told_and_made_anew_from_the_manifest(column: str):
    good, bad = make("good"), make("as it was")
    was, others = facts(bad.filename), facts(good.filename)
    value = OTHERWISE[column] if column in OTHERWISE else getattr(bad, column) + MOMENTS[column]
    change(bad, **{column: value})
    assert facts(bad.filename)[column] == value

    found = [each for each in rebuild() if not each.is_good]

    told = only(found)
    assert (told.filename, told.verdict) == (bad.filename, Verdict.CATALOGUE)
    first, *more = column.split("_")
    name = first + "".join(each.capitalize() for each in more)
    assert told.in_words == (f"CATALOGUE: the dump is whole, but its row differs: {name}")
    assert facts(bad.filename) == was
    assert facts(good.filename) == others
    assert set(verdicts().values()) == {Verdict.WHOLE}


def test_several_differences_are_told_together():
    backup = make()
    change(backup, notes="other", size=1)
    assert only(list(check_backups())).finding.endswith("differs: size, notes")


@pytest.mark.parametrize("status", [Status.FAILED, Status.PENDING])
def test_a_whole_dump_whose_row_is_not_completed_is_told_and_completed(status: Status):
    backup = make()
    was = facts(backup.filename)
    change(backup, status=status)
    told = only(list(rebuild()))
    assert told.verdict is Verdict.CATALOGUE
    assert told.finding.endswith("differs: status")
    assert facts(backup.filename) == was


@pytest.mark.parametrize(
    ("column", "value"),
    [("status", "XX"), ("trigger", "nobody"), ("status", ""), ("created_at", "no moment")],
)
def test_a_row_that_cannot_be_read_is_told_and_made_anew(column: str, value: str):
    if column == "created_at" and db.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL keeps moments alone")
    good, bad = make("good"), make("bad")
    was, others = facts(bad.filename), facts(good.filename)
    spoil(bad, column, value)
    found = list(rebuild())
    assert {each.filename: each.verdict for each in found} == {
        good.filename: Verdict.WHOLE,
        bad.filename: Verdict.CATALOGUE,
    }
    assert found[-1].in_words == "CATALOGUE: the dump is whole, but its row cannot be read"
    assert facts(bad.filename) == was
    assert facts(good.filename) == others
    assert set(verdicts().values()) == {Verdict.WHOLE}


def test_a_row_and_a_dump_that_cannot_be_read_are_not_guessed_from_the_manifest():
    backup = make()
    spoil(backup, "status", "XX")
    flip(dump_of(backup))
    told = only(list(rebuild()))
    assert (told.verdict, told.is_good) == (Verdict.CHANGED, False)
    with writing() as session:
        kept = session.execute(text("SELECT status FROM database_backups")).all()
    assert kept == [("XX",)]


def test_a_lost_row_is_made_anew_with_all_that_the_manifest_tells():
    backup = make("kept")
    was = facts(backup.filename)
    forget(backup)
    told = only(list(rebuild()))
    assert (told.verdict, told.is_good) == (Verdict.UNKNOWN, True)
    assert told.in_words.endswith("and whole")
    assert facts(backup.filename) == was | {"log": ""}
    assert set(verdicts().values()) == {Verdict.WHOLE}


def test_a_row_that_took_the_name_or_the_id_of_another_makes_room():
    backup = make()
    was = facts(backup.filename)
    change(backup, filename="backup_2001-01-01T00-00-00-000Z.dump")
    found = {each.filename: each.verdict for each in rebuild()}
    assert found == {
        "backup_2001-01-01T00-00-00-000Z.dump": Verdict.NOT_READABLE,
        backup.filename: Verdict.UNKNOWN,
    }
    assert facts(backup.filename) == was, "the log stays too"
    assert verdicts() == {backup.filename: Verdict.WHOLE}


def manifest_gone(backup: DatabaseBackup) -> None:
    manifest_of(backup).unlink()


def manifest_flipped(backup: DatabaseBackup) -> None:
    raw = manifest_of(backup).read_bytes()
    manifest_of(backup).write_bytes(raw.replace(b"tester", b"Tester"))


def manifest_of_another_dump(backup: DatabaseBackup) -> None:
    manifest_of(backup).write_bytes(manifest_of(make()).read_bytes())


def manifest_with_another_size(backup: DatabaseBackup) -> None:
    change(backup, size=backup.size + 1)
    manifest_of(backup).write_bytes(build_manifest(listing.get_backup(backup.filename)))
    change(backup, size=backup.size)


def manifest_with_another_checksum(backup: DatabaseBackup) -> None:
    was = backup.sha256
    change(backup, sha256="0" * 64)
    manifest_of(backup).write_bytes(build_manifest(listing.get_backup(backup.filename)))
    change(backup, sha256=was)


def a_folder_as_manifest(backup: DatabaseBackup) -> None:
    manifest_of(backup).write_text("[]")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (manifest_gone, ".dump.json is not in {}"),
        (manifest_flipped, "the manifest was changed"),
        (manifest_of_another_dump, "not: the manifest describes another dump"),
        (manifest_with_another_size, "not: it describes another dump"),
        (manifest_with_another_checksum, "not: it describes another dump"),
        (a_folder_as_manifest, "the manifest cannot be read"),
    ],
)
def test_a_manifest_that_does_not_tell_of_its_dump_is_told_and_written_anew(damage, reason: str):
    backup = make("as the row says")
    was, written = facts(backup.filename), read_manifest(manifest_of(backup).read_bytes())
    damage(backup)
    assert facts(backup.filename) == was
    found = [each for each in rebuild() if not each.is_good]
    told = only(found)
    assert (told.filename, told.verdict) == (backup.filename, Verdict.MANIFEST)
    assert told.finding.startswith("the dump is whole, but its manifest is not: ")
    assert told.finding.endswith(reason.format(current_settings().backup_dir))
    assert read_manifest(manifest_of(backup).read_bytes()) == written
    assert facts(backup.filename) == was
    assert set(verdicts().values()) == {Verdict.WHOLE}


@pytest.mark.parametrize("with_row", [True, False])
def test_a_dump_that_nobody_vouches_for_is_told_and_left_as_it_is(with_row: bool):
    backup = make()
    was = facts(backup.filename)
    flip(dump_of(backup))
    if not with_row:
        forget(backup)
    manifest, dump = manifest_of(backup).read_bytes(), dump_of(backup).read_bytes()
    told = only(list(rebuild()))
    assert (told.verdict, told.is_good) == (Verdict.CHANGED, False)
    assert told.in_words == ("CHANGED: its checksum is not the recorded one; do not restore it")
    assert (manifest_of(backup).read_bytes(), dump_of(backup).read_bytes()) == (manifest, dump)
    if with_row:
        assert facts(backup.filename) == was
    else:
        assert listing.list_backups().backups == []


def test_the_files_of_another_backup_are_not_taken_for_those_of_the_name_they_bear(
    shop: Database,
):
    backup = make()
    shop.run("DELETE FROM orders")
    other = make()
    was = facts(backup.filename)
    dump_of(backup).write_bytes(dump_of(other).read_bytes())
    manifest_of(backup).write_bytes(manifest_of(other).read_bytes())
    found = {each.filename: each.verdict for each in rebuild()}
    assert found == {backup.filename: Verdict.CHANGED, other.filename: Verdict.WHOLE}
    assert facts(backup.filename) == was


def test_a_row_with_another_id_makes_room_for_the_one_that_the_manifest_tells():
    backup = make()
    was = facts(backup.filename)
    change(backup, id="another")
    told = only(list(rebuild()))
    assert told.finding.endswith("differs: id")
    assert facts(backup.filename) == was


def test_a_dump_that_cannot_be_opened_is_told_and_nothing_is_rebuilt_from_its_manifest():
    backup = make()
    was = facts(backup.filename)
    dump_of(backup).unlink()
    change(backup, notes="differs")
    told = only(list(rebuild()))
    assert (told.verdict, told.is_good) == (Verdict.NOT_READABLE, False)
    assert told.in_words == (
        f"NOT READABLE: {backup.filename} is not in {current_settings().backup_dir}"
    )
    assert facts(backup.filename) == was | {"notes": "differs"}


def test_an_unknown_dump_without_a_manifest_gets_no_row():
    (current_settings().backup_dir).mkdir()
    stray = current_settings().backup_dir / "backup_2001-01-01T00-00-00-000Z.dump"
    stray.write_bytes(b"PGDMP")
    assert only(list(rebuild())).verdict is Verdict.UNKNOWN
    assert listing.list_backups().backups == []
    assert stray.read_bytes() == b"PGDMP"


# What is not compared


def test_a_dump_that_is_being_published_is_left_to_its_runner():
    backup = make()
    change(
        backup,
        status=Status.PENDING,
        claimed_by=claims.runner(),
        lease_until=now() + timedelta(seconds=60),
        size=0,
        sha256="",
    )
    assert list(rebuild()) == []
    assert listing.get_backup(backup.filename).is_pending


def test_a_delete_that_has_begun_is_not_missed_and_one_that_left_its_file_is_looked_at():
    gone, there = make(), make()
    for each in (gone, there):
        change(each, delete_requested_at=now())
    dump_of(gone).unlink()
    assert verdicts() == {there.filename: Verdict.WHOLE}


def test_failed_backups_have_nothing_to_compare():
    backup = make()
    change(backup, status=Status.FAILED)
    dump_of(backup).unlink()
    assert verdicts() == {}


def test_they_are_told_oldest_first():
    made = [make() for _ in range(3)]
    forget(made[1])
    assert [each.filename for each in check_backups()] == [each.filename for each in made]


def test_a_manifest_lost_between_the_two_looks_of_rebuild_changes_no_row(
    monkeypatch: pytest.MonkeyPatch,
):
    backup = make()
    change(backup, notes="differs")
    compare = checks._compare

    def lose(*words) -> Check:
        manifest_of(backup).unlink()
        return compare(*words)

    monkeypatch.setattr(checks, "_compare", lose)
    assert only(list(rebuild())).verdict is Verdict.CATALOGUE
    assert facts(backup.filename)["notes"] == "differs"


def test_a_manifest_that_cannot_be_written_is_an_error_and_the_row_stays():
    backup = make()
    was = facts(backup.filename)
    manifest_of(backup).unlink()
    manifest_of(backup).mkdir()
    with pytest.raises(StorageError):
        list(rebuild())
    assert facts(backup.filename) == was
    assert storage().has(backup.filename)
