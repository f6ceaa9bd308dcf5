"""Retention policies that an admin has confirmed, and what they removed last."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_TABLE = "retention_policies"
_REMOVED = ("removed_number", "removed_size")


def upgrade() -> None:
    op.add_column(_TABLE, sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(_TABLE, sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    for name in _REMOVED:
        op.add_column(
            _TABLE, sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)
        )
    # What has pruned since it was changed last goes on.
    op.execute(f"UPDATE {_TABLE} SET confirmed_at = pruned_at WHERE pruned_at >= updated_at")  # noqa: S608


def downgrade() -> None:
    for name in ("confirmed_at", "removed_at", *_REMOVED):
        op.drop_column(_TABLE, name)
