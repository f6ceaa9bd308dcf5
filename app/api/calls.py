"""What each call of the API takes and answers, for the call itself and for the OpenAPI document."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask.typing import ResponseReturnValue
from marshmallow import Schema

from app.api.parsing import read_body, read_query
from app.api.schemas import NothingSchema

View = Callable[..., ResponseReturnValue]
#: A schema, a type, a field, keys with their shapes, or a medium; None: no content.
Shape = Any
Values = dict[str, Any]


@dataclass(frozen=True)
class Medium:
    """Content that is not JSON."""

    mimetype: str


@dataclass(frozen=True)
class Call:
    """What a view takes and answers; errors that any call can have are not listed."""

    answers: Mapping[int, Shape]
    refusals: Collection[int]
    query: type[Schema] | None
    body: type[Schema] | Medium | None


CALLS: dict[View, Call] = {}


def call(
    answers: Mapping[int, Shape],
    *,
    query: type[Schema] | None = None,
    body: type[Schema] | Medium | None = None,
    refusals: Collection[int] = (),
) -> Callable[[View], View]:
    """Give a view the `query` and `body` that it declares, checked. Raises as `read_body`."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(**values: Any) -> ResponseReturnValue:
            if body is NothingSchema:
                read_body(body())
            elif isinstance(body, type):
                values["body"] = read_body(body())
            if query is not None:
                values["query"] = read_query(query())
            return view(**values)

        CALLS[checked] = Call(answers, refusals, query, body)
        return checked

    return decorate


def success(**shapes: Shape) -> Shape:
    """The shape of the answer of a call that has changed something."""
    return {"success": bool} | shapes
