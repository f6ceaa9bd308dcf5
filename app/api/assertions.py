"""Assertions as JSON."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.parsing import read_body, read_query
from app.api.schemas import (
    AssertionChangeSchema,
    DatabaseQuerySchema,
    NewAssertionSchema,
    NothingSchema,
)
from app.auth import signed_in_admin
from app.schemas.jobs import assertion_row
from app.services.databases.lookup import choose_database
from app.services.proofs import assertions as service

blueprint = Blueprint("assertions", __name__, url_prefix="/assertions")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """All of a database, by name."""
    database = choose_database(read_query(DatabaseQuerySchema())["database"])
    assertions = service.list_assertions(database)
    return jsonify({"assertions": [assertion_row(assertion) for assertion in assertions]})


@blueprint.post("")
def create() -> ResponseReturnValue:
    """Add one."""
    body, by = read_body(NewAssertionSchema()), signed_in_admin().username
    database = choose_database(body.pop("database"))
    added = service.add_assertion(**body, of=database, created_by=by)
    told = f"Assertion {added.name} added"
    return {"success": True, "assertion": assertion_row(added), "message": told}, 201


@blueprint.patch("/<assertion_id>")
def update(assertion_id: str) -> ResponseReturnValue:
    """Change its name, its statement, or both."""
    edited = service.edit_assertion(
        assertion_id, **read_body(AssertionChangeSchema()), by=signed_in_admin().username
    )
    return {"success": True, "assertion": assertion_row(edited)}


@blueprint.delete("/<assertion_id>")
def delete(assertion_id: str) -> ResponseReturnValue:
    """Delete it."""
    read_body(NothingSchema())
    service.remove_assertion(assertion_id, by=signed_in_admin().username)
    return {"success": True, "message": "Assertion deleted"}
