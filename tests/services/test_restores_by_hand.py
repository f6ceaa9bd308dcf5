"""The commands that restore by hand do so, exactly as they are printed."""

import os
import subprocess
from collections.abc import Callable

import pytest
from flask import Flask

from app.models import Trigger
from app.services.backups import listing
from app.services.backups import service as backups
from app.services.restores.by_hand import restore_by_hand
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
    assert "Replace HOST" in by_hand.warning


def test_the_printed_commands_set_what_rows_depend_on(shop: Database, server):
    shop.run(f"""
        ALTER DATABASE "{shop.name}" SET app.tenant = '42';
        SET app.tenant = '42';
        CREATE TABLE ours (t int CHECK (t = current_setting('app.tenant')::int));
        INSERT INTO ours VALUES (42)""")
    by_hand = restore_by_hand(backups.create_backup(trigger=Trigger.CLI, created_by="tester"))
    assert by_hand is not None
    restored = Database(f"{shop.name}_restored", url_of(server, f"{shop.name}_restored"))
    try:
        for command in by_hand.commands:
            environment = os.environ | {"PGPASSWORD": server.password}
            subprocess.run(command, shell=True, check=True, env=environment)  # noqa: S602
        assert restored.run("SELECT t FROM ours") == [(42,)]
    finally:
        shop.run(f'DROP DATABASE IF EXISTS "{restored.name}"')
