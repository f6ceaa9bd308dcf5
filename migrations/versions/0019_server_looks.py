"""Which databases a server has, and alarms of a kind with a longer name."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_SHORT, _LONG = sa.String(length=16), sa.String(length=32)


def upgrade() -> None:
    op.create_table(
        "server_looks",
        sa.Column("server", sa.String(length=255), nullable=False),
        sa.Column("ssh_url", sa.String(length=400), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_by", sa.String(length=32), nullable=False),
        sa.Column("dbnames", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("server", "ssh_url", name=op.f("pk_server_looks")),
    )
    with op.batch_alter_table("alarms") as batch:
        batch.alter_column("kind", existing_type=_SHORT, type_=_LONG, existing_nullable=False)


def downgrade() -> None:
    op.execute("DELETE FROM alarms WHERE length(kind) > 16")
    with op.batch_alter_table("alarms") as batch:
        batch.alter_column("kind", existing_type=_LONG, type_=_SHORT, existing_nullable=False)
    op.drop_table("server_looks")
