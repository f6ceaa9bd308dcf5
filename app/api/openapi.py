"""The OpenAPI document of the API, made from its routes and what they declare."""

import re
from dataclasses import is_dataclass
from http import HTTPStatus
from types import UnionType
from typing import Any, get_args, get_type_hints

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint, current_app, jsonify
from flask.typing import ResponseReturnValue
from marshmallow import Schema
from marshmallow.fields import Field
from werkzeug.routing import Rule

from app.api import sessions
from app.api.calls import CALLS, Medium, Shape, View, call
from app.api.schemas import NothingSchema
from app.auth import require_admin
from app.models.types import camel_case
from app.schemas.base import CamelCase

blueprint = Blueprint("openapi", __name__, url_prefix="/api")
blueprint.before_request(require_admin)

Json = dict[str, Any]

_TYPES: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    **dict.fromkeys((None, type(None)), "null"),
}
_ANY_CALL = (400, 401, 403, 404, 413, 415, 422, 500, 503)
_PROBLEM = {"success": bool, "title": str, "status": int, "detail": str, "hint": str}


@blueprint.get("/openapi.json")
@call({200: dict})
def show() -> ResponseReturnValue:
    """This document."""
    return jsonify(build_document())


def build_document() -> Json:
    """The OpenAPI document of the application."""
    return _Document().build()


class _Document:
    """The document while it is made."""

    def __init__(self) -> None:
        plugin = MarshmallowPlugin()
        self._spec = APISpec("Backstop", "1", "3.1.0", plugins=[plugin])
        self._converter: Any = plugin.converter  # made with the spec
        self._schemas: set[type[Schema]] = set()  # those that are components

    def build(self) -> Json:
        """All of it."""
        cookie = {
            "type": "apiKey",
            "in": "cookie",
            "name": current_app.config["SESSION_COOKIE_NAME"],
        }
        self._spec.components.security_scheme("session", cookie)
        problem = self._object(_PROBLEM) | {"additionalProperties": True}
        self._spec.components.schema("Problem", problem)
        content = {"application/problem+json": {"schema": "Problem"}}
        self._spec.components.response("Problem", {"description": "Refused", "content": content})
        for rule in current_app.url_map.iter_rules():
            view = current_app.view_functions[rule.endpoint]
            if view in CALLS:
                self._add(rule, view)
        for component in self._spec.components.schemas.values():
            component.setdefault("additionalProperties", False)
        return self._spec.to_dict()

    def _add(self, rule: Rule, view: View) -> None:
        declared = CALLS[view]
        parameters: list[Any] = [
            {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
            for name in sorted(rule.arguments)
        ]
        if declared.query:
            parameters.append({"in": "query", "schema": declared.query})
        name = rule.endpoint.removeprefix("api.")
        operation: Json = {
            "operationId": name,
            "tags": [name.partition(".")[0]],
            "summary": (view.__doc__ or "").partition("\n")[0],
            "parameters": parameters,
            "security": [] if view is sessions.create else [{"session": []}],
            "responses": {
                str(status): {"description": HTTPStatus(status).phrase, **self._content(shape)}
                for status, shape in declared.answers.items()
            }
            | {str(status): "Problem" for status in sorted({*_ANY_CALL, *declared.refusals})},
        }
        if declared.body and declared.body is not NothingSchema:
            is_needed = isinstance(declared.body, Medium) or any(
                field.required for field in declared.body().fields.values()
            )
            operation["requestBody"] = {"required": is_needed, **self._content(declared.body)}
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        methods = {method.lower() for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
        self._spec.path(path, operations={method: dict(operation) for method in methods})

    def _content(self, shape: Shape) -> Json:
        if shape is None:
            return {}
        if isinstance(shape, Medium):
            return {"content": {shape.mimetype: {}}}
        return {"content": {"application/json": {"schema": self._schema(shape)}}}

    def _schema(self, shape: Shape) -> Json:
        if isinstance(shape, dict):
            return self._object(shape)
        if isinstance(shape, list):
            return {"type": "array", "items": self._schema(shape[0])}
        if isinstance(shape, tuple | UnionType):
            kinds = shape if isinstance(shape, tuple) else get_args(shape)
            return {"anyOf": [self._schema(kind) for kind in kinds]}
        if isinstance(shape, Field):
            return dict(self._converter.field2property(shape))
        return self._of_type(shape)

    def _of_type(self, kind: Any) -> Json:
        if kind in _TYPES:
            return {"type": _TYPES[kind]}
        if is_dataclass(kind):
            hints = get_type_hints(kind)
            return self._object({camel_case(name): hint for name, hint in hints.items()})
        return self._component(kind)

    def _component(self, schema: type[Schema]) -> Json:
        name = schema.__name__.removesuffix("Schema")
        components = self._spec.components
        if schema not in self._schemas:
            self._schemas.add(schema)
            components.schema(name, schema=schema)  # refuses a name that two have
            if issubclass(schema, CamelCase):  # an answer has all its keys
                component = components.schemas[name]
                component["required"] = list(component["properties"])
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, keys: dict[Any, Shape]) -> Json:
        if str in keys:
            return {"type": "object", "additionalProperties": self._schema(keys[str])}
        return {
            "type": "object",
            "properties": {key: self._schema(shape) for key, shape in keys.items()},
            "required": list(keys),
            "additionalProperties": False,
        }
