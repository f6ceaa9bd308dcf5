"""Databases with names of their own, and rows that refer to them."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from cuid2 import create_id

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_ELSEWHERE = "elsewhere"  # the server of imported dumps, which are no database's
_SETTINGS = {
    "schedules": "uq_schedules_of_database",
    "assertions": "uq_assertions_of_database",
    "retention_policies": "uq_retention_policies_of_database",
}
_FACTS = ("database_backups", "restores", "alarms")  # these keep server and database as facts
_ONE_DRILL = "uq_restores_one_drill_pending"
_NEW_INDEXES = {
    "ix_database_backups_of_database": ["status", "database_id", "created_at"],
    "ix_database_backups_for_retention": [
        *("database_id", "status", "created_at", "id", "filename"),
        *("pinned_at", "foreign", "is_partial", "proven", "delete_requested_at", "size"),
    ],
    "ix_database_backups_names": ["id", "database_id"],
}
_OLD_INDEXES = {
    "ix_database_backups_of_database": ["status", "server", "database", "created_at"],
    "ix_database_backups_for_retention": [
        *("server", "database", "status", "created_at", "id", "filename"),
        *("pinned_at", "foreign", "proven", "delete_requested_at", "size"),
    ],
    "ix_database_backups_names": ["id", "server", "database"],
}


def upgrade() -> None:
    databases = op.create_table(
        "databases",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("ssh_url", sa.String(length=400), nullable=False),
        sa.Column("ssh_identity_file", sa.String(length=400), nullable=False),
        sa.Column("ssh_host_key", sa.Text(), nullable=False),
        sa.Column("from_environment", sa.Boolean(), nullable=False),
        sa.Column("server", sa.String(length=255), nullable=False),
        sa.Column("dbname", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("seeded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("compression", sa.String(length=32), nullable=False),
        sa.Column("without_rows_of", sa.JSON(), nullable=False),
        sa.Column("max_age", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_databases")),
        sa.UniqueConstraint("name", name=op.f("uq_databases_name")),
    )
    op.create_index(
        "uq_databases_of_environment",
        "databases",
        ["server", "dbname"],
        unique=True,
        sqlite_where=sa.text("from_environment"),
        postgresql_where=sa.text("from_environment"),
    )
    rows = list(_databases())
    if rows:
        op.bulk_insert(databases, rows)
    for table in _SETTINGS:
        _refer(table)
    for table in _FACTS:
        _refer(table)
    op.drop_index(_ONE_DRILL, "restores")
    _one_drill(["database_id"])
    with op.batch_alter_table("database_backups") as batch:
        batch.add_column(
            sa.Column("is_partial", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    for name, columns in _NEW_INDEXES.items():
        op.drop_index(name, "database_backups")
        op.create_index(name, "database_backups", columns)
    op.drop_table("seen_databases")


def downgrade() -> None:
    op.create_table(
        "seen_databases",
        sa.Column("server", sa.String(length=255), nullable=False),
        sa.Column("database", sa.String(length=255), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("server", "database", name=op.f("pk_seen_databases")),
    )
    op.execute(
        "INSERT INTO seen_databases (server, database, seen_at)"
        " SELECT server, dbname, min(seeded_at) FROM databases"
        " WHERE seeded_at IS NOT NULL GROUP BY server, dbname"
    )
    op.drop_index(_ONE_DRILL, "restores")
    _one_drill(["status"])
    for name, columns in _OLD_INDEXES.items():
        op.drop_index(name, "database_backups")
        op.create_index(name, "database_backups", columns)
    for table in _FACTS:
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(f"fk_{table}_database_id_databases", type_="foreignkey")
            batch.drop_column("database_id")
            if table == "database_backups":
                batch.drop_column("is_partial")
    for table, unique in _SETTINGS.items():
        _name_again(table, unique)
    op.drop_table("databases")


def _one_drill(columns: list[str]) -> None:
    """At most one drill waits or runs; or one of each database."""
    where = sa.text("status = 'PENDING' AND kind = 'drill'")
    op.create_index(
        _ONE_DRILL, "restores", columns, unique=True, sqlite_where=where, postgresql_where=where
    )


def _databases() -> Iterator[dict[str, object]]:
    """One for each server and database that any row names, with a name made of the latter."""
    connection = op.get_bind()
    named = " UNION ".join(
        f"SELECT server, database FROM {table}"  # noqa: S608
        for table in (*_SETTINGS, "database_backups", "alarms", "seen_databases")
    )
    seen = {
        (server, database): seen_at
        for server, database, seen_at in connection.execute(
            sa.select(
                sa.column("server"),
                sa.column("database"),
                sa.column("seen_at", sa.DateTime(timezone=True)),
            ).select_from(sa.table("seen_databases"))
        )
    }
    names: set[str] = set()
    for server, database in sorted(map(tuple, connection.execute(sa.text(named)))):
        if server in ("", _ELSEWHERE):
            continue
        names.add(name := _free_name(database, names))
        yield {
            "id": create_id(),
            "name": name,
            "url": "",
            "ssh_url": "",
            "ssh_identity_file": "",
            "ssh_host_key": "",
            "from_environment": True,
            "server": server,
            "dbname": database,
            "state": "active",
            "created_at": datetime.now(UTC),
            "created_by": "",
            "seeded_at": seen.get((server, database)),
            "compression": "",
            "without_rows_of": [],
            "max_age": None,
        }


def _free_name(database: str, taken: set[str]) -> str:
    plain = re.sub(r"[^a-z0-9_-]+", "-", database.lower()).lstrip("-_")[:50] or "database"
    number, name = 1, plain
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    return name


def _refer(table: str) -> None:
    """Give each row the id of its database, in place of its names if it needs no facts."""
    with op.batch_alter_table(table) as batch:
        batch.add_column(sa.Column("database_id", sa.String(length=32), nullable=True))
    op.execute(
        f"UPDATE {table} SET database_id = (SELECT databases.id FROM databases"  # noqa: S608
        f" WHERE databases.server = {table}.server AND databases.dbname = {table}.database)"
        if table != "restores"
        else "UPDATE restores SET database_id = (SELECT database_backups.database_id"
        " FROM database_backups WHERE database_backups.filename = restores.filename)"
    )
    with op.batch_alter_table(table) as batch:
        if unique := _SETTINGS.get(table):
            batch.drop_constraint(unique, type_="unique")
            batch.drop_column("server")
            batch.drop_column("database")
            batch.alter_column("database_id", existing_type=sa.String(length=32), nullable=False)
            batch.create_unique_constraint(unique, _unique_columns(table, ["database_id"]))
        batch.create_foreign_key(
            f"fk_{table}_database_id_databases", "databases", ["database_id"], ["id"]
        )


def _name_again(table: str, unique: str) -> None:
    """Give each row the names of its database, in place of its id."""
    with op.batch_alter_table(table) as batch:
        for name in ("server", "database"):
            batch.add_column(sa.Column(name, sa.String(length=255), nullable=True))
    for name, column in (("server", "server"), ("database", "dbname")):
        op.execute(
            f"UPDATE {table} SET {name} = (SELECT {column} FROM databases"  # noqa: S608
            f" WHERE databases.id = {table}.database_id)"
        )
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(f"fk_{table}_database_id_databases", type_="foreignkey")
        batch.drop_constraint(unique, type_="unique")
        batch.drop_column("database_id")
        for name in ("server", "database"):
            batch.alter_column(name, existing_type=sa.String(length=255), nullable=False)
        batch.create_unique_constraint(unique, _unique_columns(table, ["server", "database"]))


def _unique_columns(table: str, database: list[str]) -> list[str]:
    return database if table == "retention_policies" else [*database, "name"]
