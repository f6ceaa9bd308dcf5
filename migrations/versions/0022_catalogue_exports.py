"""Exports of the panel's own catalogue to its stores."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("stores") as stores:
        stores.add_column(
            sa.Column(
                "takes_catalogue", sa.String(length=16), server_default="encrypted", nullable=False
            )
        )
        stores.add_column(sa.Column("exported_at", sa.DateTime(timezone=True), nullable=True))
        stores.add_column(sa.Column("export_due_at", sa.DateTime(timezone=True), nullable=True))
        stores.add_column(sa.Column("export_error", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("stores") as stores:
        stores.drop_column("export_error")
        stores.drop_column("export_due_at")
        stores.drop_column("exported_at")
        stores.drop_column("takes_catalogue")
