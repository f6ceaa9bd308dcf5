"""Stores as JSON."""

from flask import Blueprint, jsonify, url_for
from flask.typing import ResponseReturnValue
from marshmallow import Schema, fields

from app.api.calls import Values, call, success
from app.api.schemas import Flag, NothingSchema
from app.api.shapes import STEPS_REPORT, STORE
from app.auth import signed_in_admin
from app.models import ReadBack, TakesCatalogue
from app.schemas.reports import steps_report
from app.schemas.stores import store_row
from app.services.stores import service, store_test
from app.services.stores.keys import forget_drill_key, make_drill_key
from app.services.stores.lookup import get_row, list_rows


class StoreTestSchema(Schema):
    """The body of a test of a store that is not saved."""

    url = fields.String(required=True)
    credentials = fields.Dict(keys=fields.String(), values=fields.String())


class StoreChangeSchema(Schema):
    """The body of a change to a store; absent values stay."""

    name = fields.String()
    url = fields.String()
    credentials = fields.Dict(keys=fields.String(), values=fields.String())
    recipients = fields.List(fields.String())
    databases = fields.List(fields.String())
    read_back = fields.Enum(ReadBack, by_value=True, data_key="readBack")
    bytes_per_second = fields.Integer(strict=True, data_key="bytesPerSecond")
    takes_catalogue = fields.Enum(TakesCatalogue, by_value=True, data_key="takesCatalogue")
    take_over = Flag(load_default=False, data_key="takeOver")
    untested = Flag(load_default=False)


class NewStoreSchema(StoreChangeSchema):
    """The body of a request for a store."""

    name = fields.String(required=True)
    url = fields.String(required=True)


blueprint = Blueprint("stores", __name__, url_prefix="/stores")


@blueprint.get("")
@call({200: {"stores": [STORE]}})
def index() -> ResponseReturnValue:
    """All stores by name, each with its copies."""
    return jsonify({"stores": [store_row(row) for row in list_rows()]})


@blueprint.post("")
@call({201: success(store=STORE)}, body=NewStoreSchema, refusals=[409, 502, 507])
def create(body: Values) -> ResponseReturnValue:
    """Copy to another store."""
    name, url, asking = body.pop("name"), body.pop("url"), _asking(body)
    changes, by = service.Changes(**body), signed_in_admin().username
    service.add_store(name, url, changes, asking=asking, by=by)
    answer = {"success": True, "store": store_row(get_row(name))}
    return answer, 201, {"Location": url_for(".show", name=name)}


@blueprint.post("/test")
@call({200: STEPS_REPORT}, body=StoreTestSchema)
def test_new(body: Values) -> ResponseReturnValue:
    """Test a store that is not saved."""
    url = body.pop("url")
    return steps_report(store_test.check_url(url, service.Changes(**body)))


@blueprint.get("/<name>")
@call({200: STORE})
def show(name: str) -> ResponseReturnValue:
    """One store."""
    return jsonify(store_row(get_row(name)))


@blueprint.patch("/<name>")
@call({200: success(store=STORE)}, body=StoreChangeSchema, refusals=[409, 502, 507])
def update(name: str, body: Values) -> ResponseReturnValue:
    """Change what is given."""
    asking, by = _asking(body), signed_in_admin().username
    edited = service.edit_store(name, service.Changes(**body), asking=asking, by=by)
    return {"success": True, "store": store_row(get_row(edited.name))}


@blueprint.delete("/<name>")
@call({200: success(copiesLeft=int, message=str)}, body=NothingSchema, refusals=[409])
def delete(name: str) -> ResponseReturnValue:
    """Forget it; its objects stay."""
    left = service.remove_store(name, by=signed_in_admin().username)
    return {"success": True, "copiesLeft": left, "message": f"{name} has been removed"}


@blueprint.post("/<name>/pause")
@call({200: success(store=STORE)}, body=NothingSchema)
def pause(name: str) -> ResponseReturnValue:
    """Copy nothing more to it."""
    service.pause_store(name, by=signed_in_admin().username)
    return {"success": True, "store": store_row(get_row(name))}


@blueprint.post("/<name>/resume")
@call({200: success(store=STORE)}, body=NothingSchema)
def resume(name: str) -> ResponseReturnValue:
    """Copy to it again."""
    service.resume_store(name, by=signed_in_admin().username)
    return {"success": True, "store": store_row(get_row(name))}


@blueprint.post("/<name>/drill-key")
@call({200: success(store=STORE)}, body=NothingSchema, refusals=[409])
def make_key(name: str) -> ResponseReturnValue:
    """Make a key with which the panel itself reads later copies."""
    make_drill_key(name, by=signed_in_admin().username)
    return {"success": True, "store": store_row(get_row(name))}


@blueprint.delete("/<name>/drill-key")
@call({200: success(store=STORE)}, body=NothingSchema, refusals=[409])
def forget_key(name: str) -> ResponseReturnValue:
    """Forget it, and encrypt to it no longer."""
    forget_drill_key(name, by=signed_in_admin().username)
    return {"success": True, "store": store_row(get_row(name))}


@blueprint.post("/<name>/test")
@call({200: STEPS_REPORT}, body=NothingSchema)
def test(name: str) -> ResponseReturnValue:
    """Test it, step by step."""
    return steps_report(store_test.check_saved(name))


def _asking(body: Values) -> service.Asking:
    """How the store is asked whose it is; taken out of the body."""
    return service.Asking(is_asked=not body.pop("untested"), take_over=bool(body.pop("take_over")))
