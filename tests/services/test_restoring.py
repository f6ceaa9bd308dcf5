"""The commands that restore by hand do so, exactly as they are printed; what a manifest tells."""

import hashlib
import json
import os
import shlex
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from flask import Flask

from app.config import settings as current_settings
from app.errors import VerificationError
from app.extensions import writing
from app.models import DatabaseBackup, Trigger
from app.models.types import now
from app.services import backups, listing
from app.services.databases import storage
from app.services.manifests import (
    FACTS,
    build_manifest,
    columns_of,
    createdb_options,
    moment_of,
    moment_text,
    read_manifest,
)
from app.services.restoring import restore_by_hand
from tests.conftest import Database, url_of

pytestmark = pytest.mark.usefixtures("context")


def test_the_printed_commands_restore_the_database(shop: Database, server):
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="tester")
    by_hand = restore_by_hand(backup)
    assert by_hand is not None
    restored = Database(f"{shop.name}_restored", url_of(server, f"{shop.name}_restored"))
    try:
        for command in by_hand.commands:
            # The password is the only thing that a person would be asked for.
            environment = os.environ | {"PGPASSWORD": server.password}
            subprocess.run(command, shell=True, check=True, env=environment)  # noqa: S602
        for table in ("customers", "orders"):
            rows = f"SELECT md5(string_agg(t::text, '|' ORDER BY t)) FROM {table} t"
            assert restored.run(rows) == shop.run(rows)
    finally:
        shop.run(f'DROP DATABASE IF EXISTS "{restored.name}"')


def test_a_failed_backup_has_nothing_to_restore(make_app: Callable[..., Flask]):
    with make_app(database_url="postgresql://x:y@127.0.0.1:1/x").app_context():
        backup = backups.create_backup(trigger=Trigger.CLI, created_by="tester")
        assert restore_by_hand(backup) is None


def test_without_a_fitting_pg_restore_it_says_so(make_app: Callable[..., Flask], tmp_path):
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="tester")
    with make_app(pg_bin_dir=tmp_path).app_context():
        by_hand = restore_by_hand(listing.get_backup(backup.filename))
    assert by_hand is not None
    assert "No pg_restore 17 or newer" in by_hand.warning


def test_another_server_is_not_named_as_if_it_were_the_backups(
    make_app: Callable[..., Flask], shop: Database
):
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="tester")
    with make_app(database_url="postgresql://ann@other.invalid/production").app_context():
        by_hand = restore_by_hand(listing.get_backup(backup.filename))
    assert by_hand is not None
    assert "HOST" in by_hand.commands[1]
    assert "other.invalid" not in " ".join(by_hand.commands)
    assert "replace HOST" in by_hand.warning


# What a manifest tells

TOLD = {
    "format", "restore", "manifestSha256", "id", "filename", "size", "sha256", "oldestReader",
    "server", "serverVersion", "database", "databaseSize", "contents", "toolVersion",
    "compression", "trigger", "createdBy", "createdAt", "startedAt", "finishedAt", "notes",
}  # fmt: skip


def test_a_manifest_tells_all_of_its_dump_without_the_catalogue():
    began = now()
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="änn 漢字", notes="two\nlines")
    raw = storage().manifest(backup.filename)
    told = json.loads(raw)
    assert set(told) == TOLD
    assert told["format"] == 1
    assert (told["trigger"], told["createdBy"], told["notes"]) == ("cli", "änn 漢字", "two\nlines")
    assert "漢字".encode() in raw, "readable for people"
    dump = (current_settings().backup_dir / backup.filename).read_bytes()
    assert told["size"] == len(dump)
    assert told["sha256"] == hashlib.sha256(dump).hexdigest()
    assert told["oldestReader"] == backup.oldest_reader
    moments = [moment_of(told[name]) for name in ("createdAt", "startedAt", "finishedAt")]
    assert None not in moments
    assert began <= moments[0] <= moments[1] <= moments[2] <= now()
    row = listing.get_backup(backup.filename)
    assert moments == [row.created_at, row.started_at, row.finished_at]
    assert list(told) == sorted(told), "of two manifests the lines can be compared"


def test_a_manifest_says_how_its_dump_is_restored_from_its_folder(shop: Database, server):
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    create, restore = read_manifest(storage().manifest(backup.filename))["restore"]
    new = f"{shop.name}_restored"
    assert shlex.split(create)[:2] == ["createdb", "--template=template0"]
    assert shlex.split(create)[-2:] == ["--", new]
    assert "--encoding=UTF8" in shlex.split(create)
    assert shlex.split(restore) == [
        "pg_restore", "--exit-on-error", f"--dbname=dbname={new}", backup.filename,
    ]  # fmt: skip


def test_a_database_s_name_is_quoted_in_the_commands():
    backup = DatabaseBackup(database="it's a=b", filename="x.dump", trigger=Trigger.CLI)
    create, restore = read_manifest(build_manifest(backup))["restore"]
    assert shlex.split(create) == [
        "createdb", "--template=template0", "--", "it's a=b_restored",
    ]  # fmt: skip
    assert shlex.split(restore)[2] == r"--dbname=dbname='it\'s a=b_restored'"


@pytest.mark.parametrize(
    ("provider", "options"),
    [
        ("c", ["--locale-provider=libc"]),
        ("i", ["--locale-provider=icu", "--icu-locale=de-AT"]),
        ("b", ["--locale-provider=builtin", "--builtin-locale=de-AT"]),
        (None, []),
        ("?", []),
    ],
)
def test_the_new_database_gets_the_locale_of_the_old_one(provider, options: list[str]):
    contents = {
        "encoding": "UTF8", "collate": "C", "ctype": "de_AT", "locale": "de-AT",
        "localeProvider": provider,
    }  # fmt: skip
    assert createdb_options(DatabaseBackup(contents=contents)) == [
        "--encoding=UTF8", "--lc-collate=C", "--lc-ctype=de_AT", *options,
    ]  # fmt: skip
    assert createdb_options(DatabaseBackup(contents=None)) == []


def test_what_a_manifest_tells_is_what_the_row_said():
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="ann", notes="n")
    row = listing.get_backup(backup.filename)
    told = columns_of(read_manifest(build_manifest(row)))
    assert told == {name: getattr(row, name) for name in FACTS}
    assert build_manifest(row) == storage().manifest(backup.filename), "and the same bytes"


@pytest.mark.parametrize("change", [b'"XX"', b"1"])
@pytest.mark.parametrize("name", [b"trigger", b"createdAt"])
def test_a_manifest_that_tells_what_makes_no_sense_is_refused(name: bytes, change: bytes):
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="ann")
    content = read_manifest(storage().manifest(backup.filename))
    content[name.decode()] = json.loads(change)
    with pytest.raises(VerificationError, match="the manifest does not tell"):
        columns_of(content)


@pytest.mark.parametrize("name", sorted(TOLD - {"format", "restore", "manifestSha256"}))
def test_a_manifest_that_tells_too_little_is_refused(name: str):
    moments = {each: now() for each in ("created_at", "started_at", "finished_at")}
    content = read_manifest(build_manifest(DatabaseBackup(trigger=Trigger.CLI, **moments)))
    columns_of(content)
    del content[name]
    with pytest.raises(VerificationError, match=f"the manifest does not tell '{name}'"):
        columns_of(content)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b"null", b"[]", b"7", b'"text"', b"{}", b'{"size": 1}']
)
def test_what_is_no_manifest_is_refused(raw: bytes):
    with pytest.raises(VerificationError, match="the manifest cannot be read"):
        read_manifest(raw)


def test_any_changed_byte_of_a_manifest_is_noticed():
    moments = {each: now() for each in ("created_at", "started_at", "finished_at")}
    backup = DatabaseBackup(trigger=Trigger.CLI, filename="x.dump", notes="n", **moments)
    raw = build_manifest(backup)
    content = read_manifest(raw)
    for index, byte in enumerate(raw):
        flipped = raw[:index] + bytes([byte ^ 1]) + raw[index + 1 :]
        try:
            found = read_manifest(flipped)
        except VerificationError:
            continue
        assert found == content, f"byte {index}"


def test_moments_are_told_in_utc_with_whole_milliseconds():
    away = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2026, 7, 1, 3, 4, 5, 67_999, away)
    assert moment_text(moment) == "2026-06-30T21:34:05.067Z"
    assert moment_of("2026-06-30T21:34:05.067Z") == datetime(2026, 6, 30, 21, 34, 5, 67_000, UTC)
    assert moment_text(None) is None
    assert moment_of(None) is None
    assert moment_of("") is None


def test_notes_edited_later_change_nothing_else_in_the_manifest():
    backup = backups.create_backup(trigger=Trigger.CLI, created_by="ann", notes="old")
    before = read_manifest(storage().manifest(backup.filename))
    with writing() as session:
        session.get_one(DatabaseBackup, backup.id).log = "another log"
    backups.edit_notes(backup.filename, "new")
    assert read_manifest(storage().manifest(backup.filename)) == before | {"notes": "new"}
