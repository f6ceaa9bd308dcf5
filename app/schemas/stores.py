"""Stores as JSON."""

from typing import Any

from marshmallow import fields

from app.schemas.base import CamelCase, Moment, row_of
from app.services.stores.lookup import Row


class StoreSchema(CamelCase):
    """A store as the API shows it: never its credentials."""

    name = fields.String()
    address = fields.String()
    state = fields.Function(
        lambda store: "paused" if store.is_paused else "active", metadata={"type": "string"}
    )
    has_credentials = fields.Function(
        lambda store: bool(store.credentials), metadata={"type": "boolean"}
    )
    recipients = fields.List(fields.String())
    has_drill_key = fields.Function(
        lambda store: bool(store.drill_key), metadata={"type": "boolean"}
    )
    databases = fields.Function(
        lambda store: sorted(row.name for row in store.databases),
        metadata={"type": "array", "items": {"type": "string"}},
    )
    takes_all = fields.Boolean()
    read_back = fields.Function(lambda store: store.read_back.value, metadata={"type": "string"})
    bytes_per_second = fields.Integer(allow_none=True)
    takes_catalogue = fields.Function(
        lambda store: store.takes_catalogue.value, metadata={"type": "string"}
    )
    exported_at = Moment(allow_none=True)
    export_error = fields.String()
    created_at = Moment()
    created_by = fields.String()


def store_row(row: Row) -> dict[str, Any]:
    """A store, without secrets, and what lies there."""
    return row_of(StoreSchema(), row.store) | {"copies": row.copies, "size": row.size}
