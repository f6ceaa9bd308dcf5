"""Keys of the panel that read encrypted copies, their recipients, and removals under way."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("stores") as batch:
        batch.add_column(sa.Column("drill_key", sa.Text(), server_default="", nullable=False))
    with op.batch_alter_table("copies") as batch:
        batch.add_column(sa.Column("recipients", sa.JSON(), nullable=True))
        batch.add_column(sa.Column("replacement", sa.JSON(), nullable=True))
        batch.add_column(sa.Column("removing_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("copies") as batch:
        batch.drop_column("removing_since")
        batch.drop_column("replacement")
        batch.drop_column("recipients")
    with op.batch_alter_table("stores") as batch:
        batch.drop_column("drill_key")
