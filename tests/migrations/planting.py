"""Rows for every table of a catalogue, whatever its form, and a look at what became of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Connection, MetaData, Table

from app.extensions import db

Rows = dict[str, list[dict[str, Any]]]

_FIRST = datetime(2026, 1, 1, 3, 0, 0, 123_000, tzinfo=UTC)
_DRILLED = {"differences": [], "leftOut": [], "missingRoles": [], "owner": "shop", "seconds": 1.5}
_READ = {"seconds": 0.25, "evidence": {"tables": 1, "rows": 50, "uncounted": [], "differences": []}}
_CONTENTS = {
    "encoding": "UTF8",
    "collate": "C",
    "ctype": "C",
    "localeProvider": "c",
    "locale": None,
    "extensions": [],
    "tables": [{"schema": "public", "name": "customers", "oid": 16384, "rows": 50}],
    "sequences": [],
    "objects": {},
    "read": _READ,
}

#: What the panel understands, by table and column or by column; one for each row in turn.
_WORDS: dict[str, list[Any]] = {
    "server": ["db1:5432"],
    "database": ["shop"],
    "database_backups.server": ["db1:5432", "db1:5432", "elsewhere"],
    "alarms.server": ["db1:5432", ""],
    "alarms.database": ["shop", ""],
    "databases.state": ["active"],
    "stores.read_back": ["always", "sample", "never"],
    "stores.takes_catalogue": ["encrypted", "always", "never"],
    "copies.status": ["COMPLETED", "COMPLETED", "FAILED"],
    "copies.loss": [None, "damaged", None],
    "databases.name": ["shop", "crm", "wiki"],
    "databases.dbname": ["shop", "crm", "wiki"],
    "databases.without_rows_of": [[]],
    "trigger": ["cli"],
    "filename": [f"backup_2026-01-01T03-0{n}-00-123Z.dump" for n in range(3)],
    "timezone": ["Europe/Berlin"],
    "time_zone": ["Europe/Berlin"],
    "language": ["de", ""],
    "database_backups.status": ["COMPLETED", "COMPLETED", "FAILED"],
    "database_backups.contents": [_CONTENTS, _CONTENTS, None],
    "database_backups.proven": [True, True, False],
    "database_backups.oldest_reader": [17],
    "restores.status": ["COMPLETED", "FAILED"],
    "restores.kind": ["drill", "beside", "drill"],
    "restores.result": [_DRILLED, _DRILLED, {}],
    "proofs.backup_id": [f"database_backups id {n}" for n in (0, 1, 1)],
    "proofs.result": ["passed"],
    "proofs.level": [2, 2, 3],
    "proofs.evidence": [_READ["evidence"], _READ["evidence"], _DRILLED],
    "schedules.task": ["backup", "drill", "scrub"],
    "schedules.cron": ["0 3 * * *"],
    "schedule_firings.outcome": ["completed", "failed"],
    "seen_databases.database": ["shop", "crm", "wiki"],
    "retention_policies.database": ["shop", "crm", "wiki"],
    "audit_entries.outcome": ["done", "refused", "failed"],
    "alarms.kind": ["backup-failed", "drill-failed"],
    "deliveries.fact": ["backup-failed"],
    "deliveries.status": ["sent", "failed"],
    "notifiers.facts": [["backup-failed"], None],
}

#: What only somebody who is at work writes.
_EMPTY = {"delete_requested_at", "lease_until", "next_attempt_at", "cancelled_by", "kept_until"}


def plant(connection: Connection, rows: int = 3) -> None:
    """Write rows into every table that has none."""
    metadata = reflected(connection)
    for table in metadata.sorted_tables:
        if connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0:
            planted = [_row(table, n) | _referring(connection, table, n) for n in range(rows)]
            connection.execute(table.insert(), planted)


def rows_of(connection: Connection) -> Rows:
    """All rows of all tables, as the driver gives them, by table."""
    return {
        table.name: sorted(
            (
                dict(row._mapping)
                for row in connection.exec_driver_sql(f'SELECT * FROM "{table.name}"')
            ),
            key=lambda row: [str(row[column.name]) for column in table.primary_key],
        )
        for table in reflected(connection).sorted_tables
    }


def all_rows() -> Rows:
    with db.engine.connect() as connection:
        return rows_of(connection)


def assert_kept(before: Rows, after: Rows) -> None:
    """Each row is there, and each of its columns that still exists is what it was."""
    for table, rows in before.items():
        if table not in after:
            assert table == "seen_databases"
            continue
        columns = rows[0].keys() & after[table][0].keys()
        kept = [{name: row[name] for name in columns} for row in after[table]]
        for row in rows:
            assert {name: row[name] for name in columns} in kept, f"{table}: {row}"
    if "databases" in after and "databases" not in before:
        _assert_named(before, after)


def _assert_named(before: Rows, after: Rows) -> None:
    """Each row that named a database refers to the one of that name, unless it was imported."""
    databases = {row["id"]: row for row in after["databases"]}
    by_address = {(row["server"], row["dbname"]): row for row in databases.values()}
    assert len(by_address) == len(databases)
    for seen in before.get("seen_databases", []):
        assert by_address[seen["server"], seen["database"]]["seeded_at"] == seen["seen_at"]
    for table in ("database_backups", "schedules", "assertions", "retention_policies", "alarms"):
        referring = {row["id"]: row["database_id"] for row in after[table]}
        for row in before.get(table, []):
            database = by_address.get((row["server"], row["database"]))
            assert referring[row["id"]] == (database and database["id"])
            assert database is not None or row["server"] in ("", "elsewhere")


def reflected(connection: Connection) -> MetaData:
    """The tables that are there, without Alembic's own."""
    metadata = MetaData()
    metadata.reflect(connection)
    metadata.remove(metadata.tables["alembic_version"])
    return metadata


def _referring(connection: Connection, table: Table, number: int) -> dict[str, Any]:
    """Ids of rows that a migration has made, whose ids nobody knows beforehand."""
    ids: dict[str, Any] = {}
    for column in table.columns:
        for key in column.foreign_keys:
            there = sorted(connection.scalars(sa.select(key.column)))
            if there and _value(table, column, number) not in (None, *there):
                ids[column.name] = there[number % len(there)]
    return ids


def _row(table: Table, number: int) -> dict[str, Any]:
    return {column.name: _value(table, column, number) for column in table.columns}


def _value(table: Table, column: Column[Any], number: int) -> Any:
    words = _WORDS.get(f"{table.name}.{column.name}") or _WORDS.get(column.name)
    if words:
        return words[number % len(words)]
    if column.name in _EMPTY and column.nullable:
        return None
    for key in column.foreign_keys:
        return _value(key.column.table, key.column, number)
    return _of_type(table, column, number)


def _of_type(table: Table, column: Column[Any], number: int) -> Any:
    match column.type:
        case sa.Boolean():
            return column.name == "enabled"
        case sa.Integer():
            return number + 1
        case sa.DateTime():
            return _FIRST + timedelta(days=number)
        case sa.JSON():
            return {"kept": number}
        case sa.String(length=length):
            return f"{table.name} {column.name} {number}"[-(length or 100) :]
    raise AssertionError(f"no value for {table.name}.{column.name} {column.type!r}")
