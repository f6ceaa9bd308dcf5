"""The time zone and the language in which each admin sees the pages."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not as a batch: to make the table anew ends all sessions.
    for name, length, default in (("time_zone", 64, "UTC"), ("language", 8, "")):
        op.add_column(
            "admins", sa.Column(name, sa.String(length), server_default=default, nullable=False)
        )


def downgrade() -> None:
    op.drop_column("admins", "language")
    op.drop_column("admins", "time_zone")
