"""How Alembic runs our migrations: one process at a time, all or nothing, no row lost."""

from typing import Any

from alembic import context
from flask import current_app

from app.extensions import Model, db
from app.models.types import Moment
from app.services.catalogue.upgrades import Upgrade

# Any number that all panels agree on; see pg_advisory_xact_lock.
MIGRATION_LOCK = 0x6D696772617465


def _plain_type(kind: str, item: Any, _context: Any) -> Any:
    """Write Moment as what the database has: migrations do not depend on our code."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Moment) else False


def _wanted() -> Any:
    """The revision to go to; None where a command only looks."""
    try:
        return context.get_revision_argument()
    except KeyError:
        return None


def run_migrations() -> None:
    """Bring the catalogue to the wanted revision."""
    attributes = context.config.attributes
    engine = attributes.get("engine")  # of another file than that of the panel
    with (engine or db.engine).connect() as plain:
        upgrade = Upgrade(plain, attributes.get("say"), keeps_copy=engine is None)
        connection = plain.execution_options(begin_with="BEGIN IMMEDIATE")
        context.configure(
            connection=connection,
            target_metadata=Model.metadata,
            render_item=_plain_type,
            transactional_ddl=True,  # SQLite's is, though Alembic does not count on it
            on_version_apply=upgrade.say_step,
            **current_app.extensions["migrate"].configure_args,
        )
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            with upgrade.run(context.get_context().get_current_revision(), _wanted()):
                context.run_migrations()


run_migrations()
