"""Notifiers, alarms, and what was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_JOBS = ("database_backups", "restores")


def upgrade() -> None:
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=600), nullable=False),
        sa.Column("server", sa.String(length=255), nullable=False),
        sa.Column("database", sa.String(length=255), nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told", sa.String(length=255), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
    )
    op.create_index("ix_alarms_newest", "alarms", ["opened_at", "id"])
    op.create_index("ix_alarms_told", "alarms", ["kind", "subject", "told_at"])
    op.create_index(
        "uq_alarms_one_open",
        "alarms",
        ["kind", "subject"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "notifiers",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("target", sa.String(length=400), nullable=False),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifiers")),
        sa.UniqueConstraint("name", name=op.f("uq_notifiers_name")),
    )
    _create_deliveries()
    for table in _JOBS:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("told_at", sa.DateTime(timezone=True), nullable=True))
        # The past is not told; what is under way will be.
        op.execute(f"UPDATE {table} SET told_at = created_at WHERE status <> 'PENDING'")  # noqa: S608
        op.create_index(
            f"ix_{table}_untold",
            table,
            ["status"],
            sqlite_where=sa.text("told_at IS NULL"),
            postgresql_where=sa.text("told_at IS NULL"),
        )
    op.create_index(
        "ix_proofs_failed",
        "proofs",
        ["backup_id"],
        sqlite_where=sa.text("result = 'failed'"),
        postgresql_where=sa.text("result = 'failed'"),
    )


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("lane", sa.String(length=32), nullable=False),
        sa.Column("notifier_id", sa.String(length=32), nullable=True),
        sa.Column("heartbeat", sa.Text(), nullable=True),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fact", sa.String(length=32), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["notifier_id"],
            ["notifiers.id"],
            name=op.f("fk_deliveries_notifier_id_notifiers"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("lane", "key", name="uq_deliveries_once"),
    )
    op.create_index(
        "ix_deliveries_queued",
        "deliveries",
        ["next_attempt_at"],
        sqlite_where=sa.text("status = 'queued'"),
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index("ix_deliveries_newest", "deliveries", ["created_at", "id"])
    op.create_index("ix_deliveries_of_notifier", "deliveries", ["notifier_id", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_proofs_failed", "proofs")
    for table in _JOBS:
        op.drop_index(f"ix_{table}_untold", table)
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column("told_at")
    op.drop_table("deliveries")
    op.drop_table("notifiers")
    op.drop_table("alarms")
