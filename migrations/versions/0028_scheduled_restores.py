"""Schedules that restore the newest good backup beside its database."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("schedules") as batch:
        batch.add_column(sa.Column("target", sa.String(63), server_default="", nullable=False))
        batch.add_column(sa.Column("sql", sa.Text(), server_default="", nullable=False))
        batch.add_column(sa.Column("keep_last", sa.Integer(), server_default="1", nullable=False))
        batch.add_column(sa.Column("replaceable", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("restores") as batch:
        batch.add_column(sa.Column("schedule_id", sa.String(32), nullable=True))
        batch.create_index("ix_restores_of_schedule", ["schedule_id"])


def downgrade() -> None:
    # What this version does not know would make its rows unreadable.
    op.execute(
        "DELETE FROM schedule_firings WHERE schedule_id IN"
        " (SELECT id FROM schedules WHERE task = 'restore')"
    )
    op.execute("DELETE FROM schedules WHERE task = 'restore'")
    op.execute("UPDATE restores SET kind = 'beside' WHERE kind = 'refresh'")
    with op.batch_alter_table("restores") as batch:
        batch.drop_index("ix_restores_of_schedule")
        batch.drop_column("schedule_id")
    with op.batch_alter_table("schedules") as batch:
        for name in ("replaceable", "keep_last", "sql", "target"):
            batch.drop_column(name)
