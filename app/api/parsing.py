"""The bodies and queries of requests, checked by a schema."""

import json
from collections.abc import Iterator
from typing import Any

from flask import request
from marshmallow import RAISE, Schema, ValidationError
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from app.errors import InvalidInput


def read_body(schema: Schema) -> dict[str, Any]:
    """The request's JSON body, checked; an absent body is an empty object.

    Raises UnsupportedMediaType, BadRequest, InvalidInput.
    """
    raw = request.get_data()
    if not raw:
        return _checked(schema, {})
    if not request.is_json:
        raise UnsupportedMediaType("Send the body as JSON: Content-Type: application/json.")
    try:
        content = request.get_json()
    except (BadRequest, RecursionError) as error:
        raise BadRequest("The body is not valid JSON.") from error
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except ValueError as error:
        raise InvalidInput("the body contains half of a character") from error
    if not isinstance(content, dict):
        raise InvalidInput("the body must be a JSON object")
    return _checked(schema, content)


def read_query(schema: Schema) -> dict[str, Any]:
    """The request's query, checked. Raises InvalidInput."""
    return _checked(schema, request.args.to_dict())


def _checked(schema: Schema, content: dict[str, Any]) -> dict[str, Any]:
    try:
        values: dict[str, Any] = schema.load(content, unknown=RAISE)
    except ValidationError as error:
        problems = [
            f"{name}: {' '.join(_texts(found))}" for name, found in error.messages_dict.items()
        ]
        raise InvalidInput("invalid request", detail=" ".join(problems)) from error
    return values


def _texts(messages: Any) -> Iterator[str]:
    """What is wrong with a value, or with the values within it."""
    if isinstance(messages, dict):
        for inner in messages.values():
            yield from _texts(inner)
    else:
        yield from messages
