"""Assertions as JSON."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call, success
from app.api.schemas import (
    AssertionChangeSchema,
    DatabaseQuerySchema,
    NewAssertionSchema,
    NothingSchema,
)
from app.auth import signed_in_admin
from app.schemas.jobs import AssertionSchema, assertion_row
from app.services.databases.lookup import choose_database
from app.services.proofs import assertions as service

blueprint = Blueprint("assertions", __name__, url_prefix="/assertions")


@blueprint.get("")
@call({200: {"assertions": [AssertionSchema]}}, query=DatabaseQuerySchema)
def index(query: Values) -> ResponseReturnValue:
    """All of a database, by name."""
    database = choose_database(query["database"])
    assertions = service.list_assertions(database)
    return jsonify({"assertions": [assertion_row(assertion) for assertion in assertions]})


@blueprint.post("")
@call(
    {201: success(assertion=AssertionSchema, message=str)}, body=NewAssertionSchema, refusals=[409]
)
def create(body: Values) -> ResponseReturnValue:
    """Add one."""
    by = signed_in_admin().username
    database = choose_database(body.pop("database"))
    added = service.add_assertion(**body, of=database, created_by=by)
    told = f"Assertion {added.name} added"
    return {"success": True, "assertion": assertion_row(added), "message": told}, 201


@blueprint.patch("/<assertion_id>")
@call({200: success(assertion=AssertionSchema)}, body=AssertionChangeSchema, refusals=[409])
def update(assertion_id: str, body: Values) -> ResponseReturnValue:
    """Change its name, its statement, or both."""
    edited = service.edit_assertion(assertion_id, **body, by=signed_in_admin().username)
    return {"success": True, "assertion": assertion_row(edited)}


@blueprint.delete("/<assertion_id>")
@call({200: success(message=str)}, body=NothingSchema)
def delete(assertion_id: str) -> ResponseReturnValue:
    """Delete it."""
    service.remove_assertion(assertion_id, by=signed_in_admin().username)
    return {"success": True, "message": "Assertion deleted"}
