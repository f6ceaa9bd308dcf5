"""From where admins have signed in: a flood of strangers does not hold them up there."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_places",
        sa.Column("key_sha256", sa.String(length=64), nullable=False),
        sa.Column("signed_in_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key_sha256", name=op.f("pk_known_places")),
    )
    op.create_index(op.f("ix_known_places_signed_in_at"), "known_places", ["signed_in_at"])


def downgrade() -> None:
    op.drop_table("known_places")
