"""What a run tells while it lasts, what a dump holds, and which workers live."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("database_backups", schema=None) as batch_op:
        batch_op.add_column(sa.Column("process", sa.String(length=255), nullable=True))
        batch_op.add_column(sa.Column("progress", sa.JSON(none_as_null=True), nullable=True))
        batch_op.add_column(sa.Column("cancelled_by", sa.String(length=255), nullable=True))
        batch_op.add_column(sa.Column("database_size", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("contents", sa.JSON(none_as_null=True), nullable=True))
        batch_op.add_column(
            sa.Column("manifest_stale", sa.Boolean(), server_default=sa.false(), nullable=False)
        )

    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    op.drop_table("workers")
    with op.batch_alter_table("database_backups", schema=None) as batch_op:
        batch_op.drop_column("manifest_stale")
        batch_op.drop_column("contents")
        batch_op.drop_column("database_size")
        batch_op.drop_column("cancelled_by")
        batch_op.drop_column("progress")
        batch_op.drop_column("process")
