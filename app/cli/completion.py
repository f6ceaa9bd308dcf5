"""Names that a shell completes: those of the catalogue, or none where it cannot be read."""

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from flask.cli import ScriptInfo
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from app.config import settings
from app.errors import AppError
from app.services.alerts.notifiers import list_notifiers
from app.services.backups.filters import Filters
from app.services.backups.listing import list_backups
from app.services.databases.lookup import list_databases
from app.services.restores.service import list_restores
from app.services.stores.lookup import list_stores

Completion = Callable[[click.Context, click.Parameter, str], list[str]]

_MOST = 100  # names of backups, the newest


def _completion(list_names: Callable[[str], Iterable[str]]) -> Completion:
    """Complete by the names that start with what was typed; the catalogue is only read."""

    def complete(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
        try:
            with context.ensure_object(ScriptInfo).load_app().app_context():
                names = list_names(typed) if _is_made() else ()
                return [name for name in names if name.startswith(typed)]
        except (AppError, SQLAlchemyError):
            return []  # a message would stand in the midst of what is typed

    return complete


def _is_made() -> bool:
    """Whether there is a catalogue; SQLite would make one to read it."""
    url = make_url(settings().catalogue_url)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()


backup_names = _completion(
    lambda typed: [
        backup.filename for backup in list_backups(Filters(query=typed), limit=_MOST).backups
    ]
)
database_names = _completion(
    lambda _: [database.name for database in list_databases(with_retired=True)]
)
notifier_names = _completion(lambda _: [notifier.name for notifier in list_notifiers()])
restore_ids = _completion(lambda _: [restore.id for restore in list_restores(limit=_MOST)])
store_names = _completion(lambda _: [store.name for store in list_stores()])
