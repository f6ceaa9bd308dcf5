"""Retention policies of stores, and copies that were removed or are locked."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "store_retention_policies",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("store_id", sa.String(length=32), nullable=False),
        sa.Column("database_id", sa.String(length=32), nullable=False),
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
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_number", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("removed_size", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["database_id"],
            ["databases.id"],
            name=op.f("fk_store_retention_policies_database_id_databases"),
        ),
        sa.ForeignKeyConstraint(
            ["store_id"],
            ["stores.id"],
            name=op.f("fk_store_retention_policies_store_id_stores"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store_retention_policies")),
        sa.UniqueConstraint("store_id", "database_id", name="uq_store_retention_policies_of_both"),
    )
    op.add_column(
        "copies",
        sa.Column("is_partial", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("copies", sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("copies", sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE copies SET is_partial = true"
        " WHERE backup_id IN (SELECT id FROM database_backups WHERE is_partial)"
    )


def downgrade() -> None:
    op.execute("DELETE FROM copies WHERE removed_at IS NOT NULL")
    for name in ("locked_until", "removed_at", "is_partial"):
        op.drop_column("copies", name)
    op.drop_table("store_retention_policies")
