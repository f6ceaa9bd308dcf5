"""Indexes for figures and lists, so that many backups cost them little."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_database_backups_of_status": ("database_backups", ["status", "created_at", "id"]),
    "ix_database_backups_of_database": (
        "database_backups",
        ["status", "server", "database", "created_at"],
    ),
    "ix_database_backups_of_trigger": ("database_backups", ["status", "trigger", "size"]),
    "ix_database_backups_names": ("database_backups", ["id", "server", "database"]),
    "ix_proofs_of_level": ("proofs", ["level", "result", "backup_id", "proved_at"]),
}


def upgrade() -> None:
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)


def downgrade() -> None:
    for name, (table, _) in _INDEXES.items():
        op.drop_index(name, table)
