"""Databases as entries of the settings' document."""

from app.errors import InvalidInput
from app.models import State
from app.services.databases import lookup, service
from app.services.schedules.service import make_first_schedules
from app.services.settings_file.entries import Fields, Key, default_name, opened

_MAX_AGE = 2**31 - 1  # seconds


def database_entries() -> dict[Key, Fields]:
    """All databases, also retired ones."""
    default_name()  # gives the one of DATABASE_URL its row
    return {
        Key("", database.name): {
            "url": opened(database.url),
            "compression": database.compression,
            "without_rows_of": database.without_rows_of,
            "skips_counting": database.skips_counting,
            "dump_jobs": database.dump_jobs or 0,
            "max_age": database.max_age or 0,
            "state": lookup.state_of(database).value,
        }
        for database in lookup.list_databases(with_retired=True)
    }


def database_as_kept(fields: Fields) -> Fields:
    """Fields of a database as they are kept. Raises InvalidInput."""
    tables = fields.get("without_rows_of", [])
    if not all(isinstance(table, str) for table in tables):
        raise InvalidInput("without_rows_of must be a list of names")
    if fields.get("max_age", 0) > _MAX_AGE:
        raise InvalidInput(f"max_age must be at most {_MAX_AGE} seconds")
    kept = {key: value for key, value in fields.items() if key != "url" or value}
    if "without_rows_of" in fields:
        kept["without_rows_of"] = service.checked_tables(tables)
    if "state" in fields:
        kept["state"] = _state(fields["state"]).value
    return kept


def _state(word: str) -> State:
    try:
        return State(word)
    except ValueError as error:
        raise InvalidInput(
            f"not a state of a database: {word[:64]!r}",
            hint=f"States are {', '.join(state.value for state in State)}.",
        ) from error


def _changes(fields: Fields, url: str | None = None) -> service.Changes:
    options = {
        key: fields.get(key) for key in ("compression", "skips_counting", "dump_jobs", "max_age")
    }
    tables = fields.get("without_rows_of")
    return service.Changes(
        url=url, without_rows_of=None if tables is None else tuple(tables), **options
    )


def add_database(key: Key, fields: Fields, by: str) -> None:
    """Guard another database, in the state that is given. Raises InvalidInput, Conflict."""
    service.add_database(key.name, fields["url"], _changes(fields), by=by)
    make_first_schedules()
    _set_state(key.name, State(fields.get("state", State.ACTIVE)), by)


def edit_database(key: Key, fields: Fields, by: str) -> None:
    """Change a database; a state that is not given stays. Raises InvalidInput, Conflict."""
    state = State(fields.get("state", lookup.state_of(lookup.get_database(key.name))))
    if fields.keys() - {"state"}:
        service.edit_database(key.name, _changes(fields, fields.get("url")), by=by)
    _set_state(key.name, state, by)


def remove_database(key: Key, by: str) -> None:
    """Retire a database: its backups stay. Raises Conflict."""
    service.retire_database(key.name, by=by)


def _set_state(name: str, state: State, by: str) -> None:
    previous = lookup.state_of(lookup.get_database(name))
    if state is previous:
        return
    if previous is State.RETIRED:
        service.resume_database(name, by=by)  # may be refused
    if state is State.RETIRED:
        service.retire_database(name, by=by)
    elif state is State.PAUSED:
        service.pause_database(name, by=by)
    elif previous is State.PAUSED:
        service.resume_database(name, by=by)
