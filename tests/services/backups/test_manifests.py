"""A manifest is believed only where it is as it was written, and can be meant."""

import hashlib
import json
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from app.config import settings as current_settings
from app.errors import VerificationError
from app.extensions import db, writing
from app.logs import errors_logged
from app.models import DatabaseBackup, Trigger
from app.models.types import now
from app.services.backups import checks, listing
from app.services.backups import service as backups
from app.services.backups.checks import Verdict, check_backups
from app.services.backups.manifests import (
    _OWN_CHECKSUM,
    FACTS,
    FORMAT,
    _checksum,
    build_manifest,
    createdb_options,
    facts_in,
    facts_of,
    is_signed,
    moment_text,
    read_manifest,
)
from app.services.recovery import reconcile

panel = pytest.mark.usefixtures("context")


def make(notes: str = "") -> DatabaseBackup:
    return backups.create_backup(trigger=Trigger.CLI, created_by="tester", notes=notes)


def path_of(backup: DatabaseBackup) -> Path:
    return current_settings().backup_dir / f"{backup.filename}.json"


def rewrite(backup: DatabaseBackup, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest with another content and a checksum that fits it."""
    content = read_manifest(path_of(backup).read_bytes())
    change(content)
    content[_OWN_CHECKSUM] = _checksum(content)
    path_of(backup).write_text(json.dumps(content), encoding="utf-8")


def forget(*gone: DatabaseBackup) -> None:
    with writing() as session:
        for backup in gone:
            session.delete(session.get_one(DatabaseBackup, backup.id))


@panel
def test_a_manifest_tells_what_the_row_does():
    backup = make("kept")
    content = read_manifest(path_of(backup).read_bytes())
    assert content | facts_of(listing.get_backup(backup.filename)) == content
    assert content["contents"]["encoding"] == "UTF8"
    assert [each["name"] for each in content["contents"]["tables"]] == ["customers", "orders"]
    columns = facts_in(content).columns()
    assert build_manifest(DatabaseBackup(**columns)) == path_of(backup).read_bytes()


@panel
def test_it_tells_all_of_its_dump_without_the_catalogue():
    began = now()
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="änn 漢字", notes="two\nlines")
    raw = path_of(backup).read_bytes()
    told = json.loads(raw)
    assert told["format"] == 1
    assert (told["trigger"], told["createdBy"], told["notes"]) == ("cli", "änn 漢字", "two\nlines")
    assert "漢字".encode() in raw, "readable for people"
    dump = path_of(backup).with_suffix("").read_bytes()
    assert told["size"] == len(dump)
    assert told["sha256"] == hashlib.sha256(dump).hexdigest()
    moments = [datetime.fromisoformat(told[f"{each}At"]) for each in ("created", "started")]
    moments.append(datetime.fromisoformat(told["finishedAt"]))
    assert began <= moments[0] <= moments[1] <= moments[2] <= now()
    assert list(told) == sorted(told), "of two manifests the lines can be compared"


@panel
def test_its_commands_name_encoding_locale_and_the_dump():
    backup = make()
    create, restore = read_manifest(path_of(backup).read_bytes())["restore"]
    words = shlex.split(create)
    new = f"{backup.database}_restored"
    assert words[:2] == ["createdb", "--template=template0"]
    assert "--encoding=UTF8" in words
    assert words[-2:] == ["--", new]
    wanted = ["pg_restore", "--exit-on-error", f"--dbname=dbname={new}", backup.filename]
    assert shlex.split(restore) == wanted


@panel
def test_a_database_s_name_is_quoted_in_its_commands():
    backup = DatabaseBackup(database="it's a=b", filename="x.dump", trigger=Trigger.CLI)
    create, restore = read_manifest(build_manifest(backup))["restore"]
    assert shlex.split(create) == ["createdb", "--template=template0", "--", "it's a=b_restored"]
    assert shlex.split(restore)[2] == r"--dbname=dbname='it\'s a=b_restored'"


@pytest.mark.parametrize(
    ("provider", "locale", "options"),
    [
        ("c", None, ["--locale-provider=libc"]),
        ("i", "de-AT", ["--locale-provider=icu", "--icu-locale=de-AT"]),
        ("b", "C.UTF-8", ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]),
        (None, None, []),
        ("?", "de-AT", []),
    ],
)
def test_each_locale_provider_is_named_as_createdb_knows_it(
    provider: str | None, locale: str | None, options: list[str]
):
    contents = {
        "encoding": "UTF8",
        "collate": "C",
        "ctype": "de_AT",
        "localeProvider": provider,
        "locale": locale,
    }
    assert createdb_options(DatabaseBackup(contents=contents)) == [
        "--encoding=UTF8",
        "--lc-collate=C",
        "--lc-ctype=de_AT",
        *options,
    ]
    assert createdb_options(DatabaseBackup()) == []


@pytest.mark.parametrize(("collate", "ctype"), [(None, None), ("C", None), (None, "C")])
def test_a_foreign_dump_need_not_tell_its_locale(collate: str | None, ctype: str | None):
    told = {"encoding": "UTF8", "collate": collate, "ctype": ctype}
    contents = told | {"localeProvider": None, "locale": None}
    assert createdb_options(DatabaseBackup(contents=contents)) == ["--encoding=UTF8"]


HOSTILE: dict[str, Any] = {
    "notes": {"a": 1},
    "notes ": "x\0y",
    "server": None,
    "server ": "x" * 256,
    "databaseSize": 10**30,
    "size": True,
    "size ": -1,
    "oldestReader": "17",
    "createdAt": None,
    "createdAt ": "2026-11-23T12:00:00",
    "createdAt  ": "9999-12-31T23:59:59-14:00",
    "trigger": "somebody",
    "contents": [1, 2],
    "contents ": {"x": 1},
    "id": "x" * 33,
    "sha256": 5,
}


@panel
@pytest.mark.parametrize("key", HOSTILE)
def test_what_cannot_be_meant_is_refused_and_hurts_no_other(key: str):
    hostile, other = make(), make()
    value = HOSTILE[key]
    rewrite(hostile, lambda content: content.update({key.strip(): value}))
    with pytest.raises(VerificationError, match=key.strip()):
        facts_in(read_manifest(path_of(hostile).read_bytes()))
    verdicts = {each.filename: each.verdict for each in check_backups()}
    assert verdicts == {hostile.filename: Verdict.MANIFEST, other.filename: Verdict.WHOLE}
    forget(hostile, other)
    assert {each.verdict for each in checks.rebuild()} == {Verdict.UNKNOWN}
    assert listing.get_backup(other.filename).is_completed
    assert reconcile().unknown == [hostile.filename]


def small() -> dict[str, Any]:
    """A manifest with all that must be told, of a dump that is nowhere."""
    columns = dict.fromkeys(FACTS, "x") | {"trigger": Trigger.CLI, "oldest_reader": 17, "size": 1}
    columns |= dict.fromkeys(("created_at", "started_at", "finished_at"), now())
    columns |= {"database_size": None, "contents": None, "foreign": False, "pinned_at": None}
    columns["is_partial"] = False
    return {"format": FORMAT, "restore": []} | facts_of(DatabaseBackup(**columns))


@pytest.mark.parametrize(
    "name",
    sorted(
        small().keys()
        - {
            "format",
            "restore",
            "foreign",
            "isPartial",
            "pinnedAt",
            "pinnedBy",
            "pinReason",
            _OWN_CHECKSUM,
        }
    ),
)
def test_what_it_does_not_tell_is_named(name: str):
    content = small()
    facts_in(content)
    del content[name]
    with pytest.raises(VerificationError, match=f": {name}$"):
        facts_in(content)


def test_contents_that_do_not_tell_all_are_refused():
    nothing = dict.fromkeys(("collate", "ctype", "localeProvider", "locale"))
    whole = nothing | {"encoding": "UTF8", "extensions": [{"name": "x"}], "tables": []}
    facts_in(small() | {"contents": whole | {"more": 1}})
    for key in whole:
        told = {name: value for name, value in whole.items() if name != key}
        with pytest.raises(VerificationError, match=r": contents$"):
            facts_in(small() | {"contents": told})
    for wrong in ([{}], [{"name": 7}], ["x"], None):
        with pytest.raises(VerificationError, match=r": contents$"):
            facts_in(small() | {"contents": whole | {"tables": wrong}})


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("notes", "x" * 2000, "x" * 2001),
        ("id", "x" * 32, "x" * 33),
        ("sha256", "x" * 64, "x" * 65),
        ("server", "x" * 255, "x" * 256),
        ("compression", "x" * 32, "x" * 33),
        ("oldestReader", 8, 7),
        ("oldestReader", 999, 1000),
        ("size", 0, -1),
        ("size", 7, "7"),
        ("databaseSize", 7, "7"),
        ("databaseSize", 2**63 - 1, 2**63),
        ("startedAt", None, "soon"),
        ("finishedAt", None, 7),
        ("foreign", True, "perhaps"),
    ],
)
def test_what_a_column_takes_is_taken_and_no_more(name: str, taken: object, refused: object):
    facts_in(small() | {name: taken})
    with pytest.raises(VerificationError, match=f": {name}$"):
        facts_in(small() | {name: refused})


def test_any_changed_byte_is_noticed():
    content = small()
    raw = json.dumps(content).encode()
    for index, byte in enumerate(raw):
        flipped = raw[:index] + bytes([byte ^ 1]) + raw[index + 1 :]
        try:
            found = read_manifest(flipped)
        except VerificationError:
            continue
        assert found == content, f"byte {index}"


@pytest.mark.parametrize("raw", [b"{", b"[]", b"7", b'"text"', b"{}", b'{"size": 1}'])
def test_what_is_no_manifest_is_refused(raw: bytes):
    with pytest.raises(VerificationError, match="the manifest"):
        read_manifest(raw)


def test_moments_are_told_in_utc_with_whole_milliseconds():
    away = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2026, 7, 1, 3, 4, 5, 67_999, away)
    assert moment_text(moment) == "2026-06-30T21:34:05.067Z"
    assert moment_text(None) is None


@panel
def test_notes_edited_later_change_nothing_else():
    backup = make("old")
    before = read_manifest(path_of(backup).read_bytes())
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).log = "another log"
    backups.edit_notes(backup.filename, "new")
    after = read_manifest(path_of(backup).read_bytes())
    assert is_signed(after)
    assert after == before | {"notes": "new", "signature": after["signature"]}


@panel
@pytest.mark.parametrize(
    "raw",
    [b"[" * 100_000, b'{"notes": "\\ud800", "manifestSha256": "x"}', b"", b"null", b"\xff\xfe{}"],
    ids=["deep", "half a character", "empty", "nothing", "not UTF-8"],
)
def test_what_cannot_be_read_is_told_and_rebuilt_from_the_row(raw: bytes):
    backup = make("kept")
    whole = path_of(backup).read_bytes()
    path_of(backup).write_bytes(raw)
    reconcile()
    assert [each.verdict for each in check_backups()] == [Verdict.MANIFEST]
    assert [each.verdict for each in checks.rebuild()] == [Verdict.MANIFEST]
    assert path_of(backup).read_bytes() == whole
    assert [each.verdict for each in check_backups()] == [Verdict.WHOLE]


@panel
def test_a_manifest_with_the_id_of_another_takes_nothing_from_it():
    thief, other = make(), make()
    before = facts_of(listing.get_backup(other.filename))
    rewrite(thief, lambda content: content.update(id=other.id))
    forget(thief)
    verdicts = {each.filename: each.verdict for each in checks.rebuild()}
    assert verdicts == {thief.filename: Verdict.CHANGED, other.filename: Verdict.WHOLE}
    assert facts_of(listing.get_backup(other.filename)) == before


@panel
def test_a_dump_that_was_renamed_with_its_manifest_is_told_as_such():
    backup = make()
    dump = path_of(backup).with_suffix("")
    renamed = dump.with_name("backup_renamed.dump")
    dump.rename(renamed)
    path_of(backup).rename(f"{renamed}.json")
    forget(backup)
    (check,) = check_backups()
    assert check.verdict is Verdict.CHANGED
    assert "the manifest describes another dump" in check.finding


@panel
def test_a_word_that_is_none_is_found_and_rebuilt_and_stops_nothing_else():
    damaged, other = make("kept").filename, make().filename
    db.session.execute(
        text("UPDATE database_backups SET status = 'COMPLETEE' WHERE filename = :name"),
        {"name": damaged},
    )
    db.session.commit()
    verdicts = {each.filename: each.verdict for each in check_backups()}
    assert verdicts == {damaged: Verdict.CATALOGUE, other: Verdict.WHOLE}
    reconcile()
    assert listing.get_backup(other).is_completed
    with pytest.raises(DataError):
        listing.get_backup(damaged)
    db.session.rollback()
    list(checks.rebuild())
    assert listing.get_backup(damaged).notes == "kept"
    assert [each.verdict for each in check_backups()] == [Verdict.WHOLE, Verdict.WHOLE]


def test_whatever_goes_wrong_in_looking_after_others_is_logged(caplog: pytest.LogCaptureFixture):
    with errors_logged("reconcile"):
        raise LookupError("a defect")
    assert "a defect" in caplog.text
