"""Whether an admin still has the password that was generated."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    generated = sa.Column(
        "password_generated", sa.Boolean(), server_default=sa.false(), nullable=False
    )
    op.add_column("admins", generated)  # not as a batch: to make the table anew ends all sessions


def downgrade() -> None:
    op.drop_column("admins", "password_generated")
