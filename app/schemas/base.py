"""Common parts of the schemas: camelCase keys, and times in UTC."""

from typing import Any

from marshmallow import Schema, fields

from app.models.types import camel_case, moment_text


class Moment(fields.DateTime):
    def _serialize(self, value: Any, *_: Any, **__: Any) -> str | None:
        return moment_text(value)


class CamelCase(Schema):
    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.data_key = camel_case(field_name)


def row_of(schema: Schema, value: Any) -> dict[str, Any]:
    """The JSON of one row."""
    row: dict[str, Any] = schema.dump(value)
    return row
