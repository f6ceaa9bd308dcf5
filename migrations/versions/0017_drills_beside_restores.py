"""A drill runs beside a restore: one of each at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_TABLE = "restores"
_ONE = "uq_restores_one_pending"
_DRILL = "uq_restores_one_drill_pending"


def upgrade() -> None:
    op.drop_index(_ONE, table_name=_TABLE)
    _one_pending(_DRILL, "status = 'PENDING' AND kind = 'drill'")
    _one_pending(_ONE, "status = 'PENDING' AND kind <> 'drill'")


def downgrade() -> None:
    op.drop_index(_DRILL, table_name=_TABLE)
    op.drop_index(_ONE, table_name=_TABLE)
    _one_pending(_ONE, "status = 'PENDING'")


def _one_pending(name: str, where: str) -> None:
    op.create_index(
        name,
        _TABLE,
        ["status"],
        unique=True,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
