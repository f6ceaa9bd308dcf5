"""Restores of some tables only, and in place."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("restores", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("as_superuser", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(sa.Column("marker", sa.JSON(none_as_null=True), nullable=True))
        batch_op.add_column(sa.Column("tables", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("restores", schema=None) as batch_op:
        batch_op.drop_column("tables")
        batch_op.drop_column("marker")
        batch_op.drop_column("as_superuser")
