"""Which backups are kept, and which are pinned."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retention_policies",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("server", sa.String(length=255), nullable=False),
        sa.Column("database", sa.String(length=255), nullable=False),
        sa.Column("keep_last", sa.Integer(), nullable=True),
        sa.Column("keep_hourly", sa.Integer(), nullable=True),
        sa.Column("keep_daily", sa.Integer(), nullable=True),
        sa.Column("keep_weekly", sa.Integer(), nullable=True),
        sa.Column("keep_monthly", sa.Integer(), nullable=True),
        sa.Column("keep_yearly", sa.Integer(), nullable=True),
        sa.Column("keep_within", sa.Integer(), nullable=True),
        sa.Column("max_total_size", sa.BigInteger(), nullable=True),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(length=255), nullable=False),
        sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_policies")),
        sa.UniqueConstraint("server", "database", name="uq_retention_policies_of_database"),
    )
    with op.batch_alter_table("database_backups") as batch:
        batch.add_column(sa.Column("pinned_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(
            sa.Column("pinned_by", sa.String(length=255), server_default="", nullable=False)
        )
        batch.add_column(
            sa.Column("pin_reason", sa.String(length=200), server_default="", nullable=False)
        )
        batch.add_column(
            sa.Column("proven", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    op.execute(
        "UPDATE database_backups SET proven = true WHERE id IN"
        " (SELECT backup_id FROM proofs WHERE result = 'passed' AND level >= 2)"
    )
    op.create_index(
        "ix_database_backups_for_retention",
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
    )
    op.drop_index("ix_proofs_of_backup", "proofs")
    op.create_index("ix_proofs_of_backup", "proofs", ["backup_id", "result", "level"])
    op.create_index("ix_proofs_of_result", "proofs", ["result", "level", "backup_id"])


def downgrade() -> None:
    op.drop_index("ix_proofs_of_result", "proofs")
    op.drop_index("ix_proofs_of_backup", "proofs")
    op.create_index("ix_proofs_of_backup", "proofs", ["backup_id", "proved_at"])
    op.drop_index("ix_database_backups_for_retention", "database_backups")
    with op.batch_alter_table("database_backups") as batch:
        batch.drop_column("proven")
        batch.drop_column("pin_reason")
        batch.drop_column("pinned_by")
        batch.drop_column("pinned_at")
    op.drop_table("retention_policies")
