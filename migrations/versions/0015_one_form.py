"""Catalogues of every form that 0009 and 0011 have had, brought to one; lost proofs found again."""

import secrets
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_database_backups_names": ("database_backups", ["id", "server", "database"]),
    "ix_database_backups_for_retention": (
        "database_backups",
        [
            "server",
            "database",
            "status",
            "created_at",
            "id",
            "filename",
            "pinned_at",
            "foreign",
            "proven",
            "delete_requested_at",
            "size",
        ],
    ),
    "ix_proofs_of_backup": ("proofs", ["backup_id", "result", "level"]),
}

_backups = sa.table(
    "database_backups",
    sa.column("id", sa.String),
    sa.column("filename", sa.String),
    sa.column("status", sa.String),
    sa.column("finished_at", sa.DateTime(timezone=True)),
    sa.column("contents", sa.JSON),
    sa.column("proven", sa.Boolean),
)
_proofs = sa.table(
    "proofs",
    sa.column("id", sa.String),
    sa.column("backup_id", sa.String),
    sa.column("level", sa.Integer),
    sa.column("result", sa.String),
    sa.column("proved_at", sa.DateTime(timezone=True)),
    sa.column("milliseconds", sa.BigInteger),
    sa.column("evidence", sa.JSON),
)
_drills = sa.table(
    "restores",
    sa.column("filename", sa.String),
    sa.column("kind", sa.String),
    sa.column("status", sa.String),
    sa.column("started_at", sa.DateTime(timezone=True)),
    sa.column("finished_at", sa.DateTime(timezone=True)),
    sa.column("result", sa.JSON),
    sa.column("error_message", sa.Text),
    sa.column("error_detail", sa.Text),
)
_READ, _RESTORED = 2, 3


def upgrade() -> None:
    connection = op.get_bind()
    there = sa.inspect(connection)
    if "proven" not in {each["name"] for each in there.get_columns("database_backups")}:
        with op.batch_alter_table("database_backups") as batch:
            batch.add_column(
                sa.Column("proven", sa.Boolean(), server_default=sa.false(), nullable=False)
            )
    _put_indexes_right(connection)
    for found in (_proofs_of_readings(connection), _proofs_of_drills(connection)):
        if rows := list(found):
            connection.execute(_proofs.insert(), rows)
    passed = sa.select(_proofs.c.backup_id).where(
        _proofs.c.result == "passed", _proofs.c.level >= _READ
    )
    connection.execute(
        _backups.update()
        .where(_backups.c.proven.is_(False), _backups.c.id.in_(passed))
        .values(proven=True)
    )


def _put_indexes_right(connection: sa.Connection) -> None:
    there = sa.inspect(connection)  # anew: a column may have come
    for name, (table, columns) in _INDEXES.items():
        found = {each["name"]: each["column_names"] for each in there.get_indexes(table)}
        if found.get(name) != columns:
            if name in found:
                op.drop_index(name, table)
            op.create_index(name, table, columns)


def _proofs_of_readings(connection: sa.Connection) -> Iterable[dict[str, Any]]:
    """What each dump's own manifest says of its first reading, where that proof is gone."""
    has_one = sa.exists().where(_proofs.c.backup_id == _backups.c.id, _proofs.c.level == _READ)
    lost = sa.select(_backups.c.id, _backups.c.finished_at, _backups.c.contents["read"]).where(
        _backups.c.status == "COMPLETED", _backups.c.contents.is_not(None), ~has_one
    )
    for backup_id, finished_at, read in connection.execute(lost):
        if read is not None:
            proof = _proof(_READ, read["evidence"], read["seconds"])
            yield proof | {"backup_id": backup_id, "proved_at": finished_at}


def _proofs_of_drills(connection: sa.Connection) -> Iterable[dict[str, Any]]:
    """What drills have found, as their own rows say, where the proof is gone."""
    has_one = sa.exists().where(
        _proofs.c.backup_id == _backups.c.id,
        _proofs.c.level == _RESTORED,
        _proofs.c.proved_at.between(_drills.c.started_at, _drills.c.finished_at),
    )
    ended = (
        sa.select(_backups.c.id, *_drills.c)
        .join_from(_drills, _backups, _drills.c.filename == _backups.c.filename)
        .where(_drills.c.kind == "drill", _drills.c.started_at.is_not(None), ~has_one)
        .where(_backups.c.status == "COMPLETED")
    )
    for drill in connection.execute(ended):
        if drill.status == "COMPLETED" and "differences" in (drill.result or {}):
            evidence = drill.result
        elif drill.status == "FAILED" and drill.error_message.startswith("the drill found diff"):
            evidence = {"differences": [drill.error_detail], "seconds": 0}
        else:
            continue
        proof = _proof(_RESTORED, evidence, evidence.get("seconds", 0))
        yield proof | {"backup_id": drill.id, "proved_at": drill.finished_at}


def _proof(level: int, evidence: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "id": f"lost{secrets.token_hex(10)}",
        "level": level,
        "result": "failed" if evidence["differences"] else "passed",
        "milliseconds": round(seconds * 1000),
        "evidence": evidence,
    }


def downgrade() -> None:
    """0014 has the same form."""
