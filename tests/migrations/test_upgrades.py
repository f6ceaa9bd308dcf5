"""An upgrade keeps every row of every form of the catalogue, and leads to one form."""

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask

from app.config import ROOT
from app.errors import ConfigurationError
from app.extensions import Model, db
from app.models import DatabaseBackup, Level, Proof, Result
from app.services.catalogue.state import prepare_catalogue
from app.services.catalogue.upgrades import Upgrade, find_copies
from tests.migrations.conftest import FORMS, plant_file
from tests.migrations.planting import all_rows, assert_kept, plant, rows_of

OldCatalogue = Callable[[str], Flask]

on_sqlite = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)


def indexes() -> dict[str, Any]:
    there = sa.inspect(db.engine)
    return {
        index["name"]: (
            table,
            index["column_names"],
            bool(index["unique"]),
            [str(each) for each in index.get("dialect_options", {}).values() if each != []],
        )
        for table in there.get_table_names()
        for index in there.get_indexes(table)
    }


def config(app: Flask) -> Any:
    return app.extensions["migrate"].migrate.get_config(str(ROOT / "migrations"))


@pytest.mark.parametrize("form", FORMS)
def test_an_upgrade_keeps_every_row(old_catalogue: OldCatalogue, form: str):
    old_catalogue(form)
    before = all_rows()
    assert all(before.values())
    prepare_catalogue()
    assert_kept(before, all_rows())
    for mapper in Model.registry.mappers:  # the panel understands what it reads there
        db.session.scalars(sa.select(mapper)).all()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_upgraded_to_the_same(old_catalogue: OldCatalogue, form: str):
    app = old_catalogue(form)
    prepare_catalogue()
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Model.metadata) == []
    upgraded = indexes()
    command.downgrade(config(app), "base")
    prepare_catalogue()
    assert upgraded == indexes()


def test_every_migration_keeps_every_row(old_catalogue: OldCatalogue):
    """One after the other, each with rows in the tables that came with the one before."""
    app = old_catalogue("0001")
    scripts = ScriptDirectory.from_config(config(app))
    for script in reversed(list(scripts.walk_revisions("0001", "head"))):
        with db.engine.begin() as connection:
            plant(connection)
        before = all_rows()
        command.upgrade(config(app), script.revision)
        assert_kept(before, all_rows())


def test_a_downgrade_leaves_no_scheduled_restore(old_catalogue: OldCatalogue):
    """What an older version cannot read would keep it from starting."""
    app = old_catalogue("0012")
    prepare_catalogue()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE restores SET kind = 'refresh'")
        connection.exec_driver_sql("UPDATE schedules SET task = 'restore' WHERE id LIKE '%%0'")
    before = all_rows()
    command.downgrade(config(app), "0025")
    after = all_rows()
    assert {row["kind"] for row in after["restores"]} == {"beside"}
    assert len(after["restores"]) == len(before["restores"])
    assert len(after["schedules"]) == len(before["schedules"]) - 1
    assert {row["schedule_id"] for row in after["schedule_firings"]} <= {
        row["id"] for row in after["schedules"]
    }
    assert len(after["schedule_firings"]) >= 1


@pytest.mark.parametrize("form", ["0011_first_form", "0012"])
def test_proofs_that_an_upgrade_has_lost_are_found_again(old_catalogue: OldCatalogue, form: str):
    old_catalogue(form)
    with db.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM proofs")
        if form == "0012":
            connection.exec_driver_sql("UPDATE database_backups SET proven = false")
    prepare_catalogue()
    read, restored = Level.READ, Level.RESTORED
    proofs = db.session.scalars(sa.select(Proof).order_by(Proof.backup_id, Proof.level)).all()
    first, second = "database_backups id 0", "database_backups id 1"
    assert [(each.backup_id, each.level, each.result) for each in proofs] == [
        (first, read, Result.PASSED),
        (first, restored, Result.PASSED),
        (second, read, Result.PASSED),
    ]
    assert proofs[0].evidence["rows"] == 50
    assert proofs[0].milliseconds == 250
    proven = sa.select(DatabaseBackup.id).where(DatabaseBackup.proven)
    assert sorted(db.session.scalars(proven)) == [first, second]


def test_a_drill_that_found_differences_is_a_failed_proof_again(old_catalogue: OldCatalogue):
    old_catalogue("0012")
    with db.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM proofs")
        connection.exec_driver_sql(
            "UPDATE restores SET status = 'FAILED', error_message = 'the drill found differences:"
            " this backup does not restore as it was', error_detail = 'orders: 5 rows, not 6'"
            " WHERE id = 'restores id 0'"
        )
    prepare_catalogue()
    failed = db.session.scalars(sa.select(Proof).where(Proof.result == Result.FAILED)).one()
    assert failed.backup_id == "database_backups id 0"
    assert failed.evidence["differences"] == ["orders: 5 rows, not 6"]


@on_sqlite
def test_rows_that_lose_what_they_refer_to_stop_an_upgrade(old_catalogue: OldCatalogue):
    old_catalogue("0012")
    before = all_rows()
    with db.engine.connect() as connection:
        upgrade = Upgrade(connection, None)
        with (
            pytest.raises(ConfigurationError, match="would lose") as refused,
            connection.begin(),
            upgrade.run("0012", "0013"),
        ):
            connection.exec_driver_sql("DELETE FROM database_backups WHERE id LIKE '%1'")
    assert refused.value.detail == "proofs: 2 rows"
    assert all_rows() == before


@on_sqlite
def test_an_orphan_that_was_there_before_does_not_stop_an_upgrade(old_catalogue: OldCatalogue):
    old_catalogue("0012")
    with closing(sqlite3.connect(str(db.engine.url.database))) as by_hand:
        by_hand.execute("DELETE FROM database_backups WHERE id LIKE '%1'")
        by_hand.commit()
    prepare_catalogue()
    assert len(all_rows()["proofs"]) >= 3


@on_sqlite
def test_rows_are_bound_to_each_other_again_after_an_upgrade(old_catalogue: OldCatalogue):
    old_catalogue("0012")
    prepare_catalogue()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM database_backups")
    assert all_rows()["proofs"] == []


@on_sqlite
def test_a_copy_is_kept_before_an_upgrade_and_said(old_catalogue: OldCatalogue, tmp_path: Path):
    old_catalogue("0006")
    before = all_rows()
    lines: list[str] = []
    prepare_catalogue(lines.append)
    copy = tmp_path / "instance" / "catalogue.db.revision-0006"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert lines[0].startswith("Upgrading the catalogue from revision 0006 to 00")
    assert str(copy) in lines[1]
    assert lines[2] == "  0007: Schedules, their due times, and which errors pass."
    assert lines[-1] == "The catalogue is upgraded."
    with sa.create_engine(f"sqlite:///{copy}").connect() as connection:
        assert rows_of(connection) == before
    assert list(copy.parent.glob("*.partial")) == []


@on_sqlite
def test_only_the_last_copies_are_kept(old_catalogue: OldCatalogue, tmp_path: Path):
    old_catalogue("0012")
    catalogue = tmp_path / "instance" / "catalogue.db"
    for age, revision in enumerate(("0003", "0001", "0002")):
        copy = catalogue.with_name(f"catalogue.db.revision-{revision}")
        copy.touch()
        os.utime(copy, (1_000_000 - age, 1_000_000 - age))
    prepare_catalogue()
    assert list(find_copies(catalogue)) == ["0012", "0003", "0001"]


def test_a_new_catalogue_is_made_without_a_word_or_a_copy(
    tmp_path: Path, make_app: Callable[..., Flask]
):
    lines: list[str] = []
    with make_app(catalogue_url=f"sqlite:///{tmp_path}/new.db").app_context():
        prepare_catalogue(lines.append)
        prepare_catalogue(lines.append)
    assert lines == []
    assert find_copies(tmp_path / "new.db") == {}


def test_an_older_version_names_the_copy_that_it_can_read(old_catalogue: OldCatalogue, kind: str):
    old_catalogue("0012")
    prepare_catalogue()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError) as refused:
        prepare_catalogue()
    assert refused.value.message == "the catalogue is of a newer Backstop"
    assert "has revision 9999" in refused.value.detail
    named = "catalogue.db.revision-0012" if kind == "sqlite" else "that you made before the upgrade"
    assert named in refused.value.hint


def test_a_catalogue_put_back_by_hand_is_upgraded_again(
    tmp_path: Path, sqlite_template: Path, make_app: Callable[..., Flask]
):
    app = make_app()
    path = tmp_path / "instance" / "catalogue.db"
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
        plant_file(path, "0006")
        prepare_catalogue()
        assert all_rows()["proofs"]
