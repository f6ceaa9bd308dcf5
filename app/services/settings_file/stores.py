"""Stores as entries of the settings' document. An import asks none of them anything."""

from app.errors import InvalidInput
from app.services.settings_file.entries import Fields, Key, opened
from app.services.stores import lookup, service
from app.services.stores.credentials import as_text, parse_credentials

PAUSED, ACTIVE = "paused", "active"
_LISTS = ("recipients", "databases")
_UNASKED = service.Asking(is_asked=False)  # the catalogue is locked meanwhile


def store_entries() -> dict[Key, Fields]:
    """All stores."""
    return {
        Key("", store.name): {
            "url": store.address,
            "credentials": opened(store.credentials),
            "recipients": store.recipients,
            "databases": sorted(database.name for database in store.databases),
            "read_back": store.read_back.value,
            "takes_catalogue": store.takes_catalogue.value,
            "bytes_per_second": store.bytes_per_second or 0,
            "state": PAUSED if store.is_paused else ACTIVE,
        }
        for store in lookup.list_stores()
    }


def store_as_kept(fields: Fields) -> Fields:
    """Fields of a store as they are kept. Raises InvalidInput."""
    kept = {key: value for key, value in fields.items() if key != "credentials" or value}
    for key in _LISTS:
        if not all(isinstance(value, str) for value in fields.get(key, ())):
            raise InvalidInput(f"{key} must be a list of texts")
    if "credentials" in kept:
        kept["credentials"] = as_text(parse_credentials(kept["credentials"]))
    if "url" in fields:
        kept["url"] = service.checked_address(fields["url"])
    if "recipients" in fields:
        kept["recipients"] = service.checked_recipients(fields["recipients"])
    if "databases" in fields:
        kept["databases"] = sorted(set(fields["databases"]))
    if "read_back" in fields:
        service.read_back_named(fields["read_back"])
    if "takes_catalogue" in fields:
        service.takes_catalogue_named(fields["takes_catalogue"])
    if fields.get("state", ACTIVE) not in (ACTIVE, PAUSED):
        raise InvalidInput(f"not a state of a store: {fields['state'][:64]!r}")
    return kept


def add_store(key: Key, fields: Fields, by: str) -> None:
    """Add a store, in the state that is given. Raises InvalidInput, Conflict, NotFound."""
    service.add_store(key.name, fields["url"], _changes(fields), asking=_UNASKED, by=by)
    _set_state(key.name, fields, by)


def edit_store(key: Key, fields: Fields, by: str) -> None:
    """Change a store; what is not given stays. Raises InvalidInput, Conflict, NotFound."""
    if fields.keys() - {"state"}:
        service.edit_store(key.name, _changes(fields), asking=_UNASKED, by=by)
    _set_state(key.name, fields, by)


def pause_store(key: Key, by: str) -> None:
    """Copy nothing more to a store; its copies stay known."""
    service.pause_store(key.name, by=by)


def _changes(fields: Fields) -> service.Changes:
    credentials, read_back = fields.get("credentials"), fields.get("read_back")
    catalogue = fields.get("takes_catalogue")
    recipients, databases = (fields.get(key) for key in _LISTS)
    return service.Changes(
        url=fields.get("url"),
        credentials=parse_credentials(credentials) if credentials else None,
        recipients=None if recipients is None else tuple(recipients),
        databases=None if databases is None else tuple(databases),
        read_back=service.read_back_named(read_back) if read_back else None,
        bytes_per_second=fields.get("bytes_per_second"),
        takes_catalogue=service.takes_catalogue_named(catalogue) if catalogue else None,
    )


def _set_state(name: str, fields: Fields, by: str) -> None:
    is_paused = lookup.get_store(name).is_paused
    if fields.get("state") == PAUSED and not is_paused:
        service.pause_store(name, by=by)
    elif fields.get("state") == ACTIVE and is_paused:
        service.resume_store(name, by=by)
