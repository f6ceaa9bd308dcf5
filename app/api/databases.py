"""Databases as JSON."""

from flask import Blueprint, jsonify, url_for
from flask.typing import ResponseReturnValue
from marshmallow import Schema, fields, validate

from app.api.calls import Values, call, success
from app.api.schemas import Flag, NothingSchema
from app.api.shapes import DATABASE_OVERVIEW, NEIGHBOUR, STEPS_REPORT
from app.auth import signed_in_admin
from app.readers import MOST_DUMP_JOBS
from app.schemas.databases import DatabaseSchema, database_row, neighbour_row, overview_row
from app.schemas.reports import steps_report
from app.services.databases import connection_test, discovery, service
from app.services.databases.grants import DEFAULT_ROLE, grants_for
from app.services.health.overview import read_overview, read_row
from app.services.schedules.service import make_first_schedules


class DatabaseChangeSchema(Schema):
    """The body of a change to a database; absent values stay."""

    name = fields.String()
    url = fields.String()
    ssh_url = fields.String(data_key="sshUrl")
    ssh_identity_file = fields.String(data_key="sshIdentityFile")
    ssh_host_key = fields.String(data_key="sshHostKey")
    compression = fields.String()
    without_rows_of = fields.List(fields.String(), data_key="withoutRowsOf")
    skips_counting = Flag(data_key="skipsCounting")
    dump_jobs = fields.Integer(
        strict=True, data_key="dumpJobs", validate=validate.Range(0, MOST_DUMP_JOBS)
    )
    max_age = fields.Integer(strict=True, data_key="maxAge", validate=validate.Range(0, 2**31 - 1))


class NewDatabaseSchema(DatabaseChangeSchema):
    """The body of a request to guard a database."""

    name = fields.String(required=True)
    url = fields.String(required=True)


class GrantsSchema(Schema):
    """The query of the SQL of a role."""

    role = fields.String(load_default=DEFAULT_ROLE)


class ChoiceSchema(Schema):
    """A database on a server, and our name for it."""

    dbname = fields.String(required=True)
    name = fields.String(required=True)


class ChoicesSchema(Schema):
    """The body of a request to guard databases of a server."""

    databases = fields.List(fields.Nested(ChoiceSchema), required=True)


blueprint = Blueprint("databases", __name__, url_prefix="/databases")


@blueprint.get("")
@call({200: {"databases": [DATABASE_OVERVIEW]}})
def index() -> ResponseReturnValue:
    """All databases by name, each with its newest good backup and its next one."""
    return jsonify({"databases": [overview_row(row) for row in read_overview()]})


@blueprint.post("")
@call({201: success(database=DatabaseSchema)}, body=NewDatabaseSchema, refusals=[409])
def create(body: Values) -> ResponseReturnValue:
    """Guard another database."""
    name, url = body.pop("name"), body.pop("url")
    changes, by = service.Changes(**body), signed_in_admin().username
    database = service.add_database(name, url, changes, by=by)
    make_first_schedules()
    answer = {"success": True, "database": database_row(database)}
    return answer, 201, {"Location": url_for(".show", name=database.name)}


@blueprint.get("/<name>")
@call({200: DATABASE_OVERVIEW})
def show(name: str) -> ResponseReturnValue:
    """One database, and how protected it is."""
    return jsonify(overview_row(read_row(name)))


@blueprint.patch("/<name>")
@call({200: success(database=DatabaseSchema)}, body=DatabaseChangeSchema, refusals=[409])
def update(name: str, body: Values) -> ResponseReturnValue:
    """Change what is given."""
    changes = service.Changes(**body)
    database = service.edit_database(name, changes, by=signed_in_admin().username)
    return {"success": True, "database": database_row(database)}


@blueprint.post("/<name>/pause")
@call({200: success(database=DatabaseSchema)}, body=NothingSchema, refusals=[409])
def pause(name: str) -> ResponseReturnValue:
    """Stop its schedules."""
    database = service.pause_database(name, by=signed_in_admin().username)
    return {"success": True, "database": database_row(database)}


@blueprint.post("/<name>/resume")
@call({200: success(database=DatabaseSchema)}, body=NothingSchema, refusals=[409])
def resume(name: str) -> ResponseReturnValue:
    """Back it up again."""
    database = service.resume_database(name, by=signed_in_admin().username)
    return {"success": True, "database": database_row(database)}


@blueprint.post("/<name>/retire")
@call({200: success(database=DatabaseSchema)}, body=NothingSchema, refusals=[409])
def retire(name: str) -> ResponseReturnValue:
    """Never back it up again."""
    database = service.retire_database(name, by=signed_in_admin().username)
    return {"success": True, "database": database_row(database)}


@blueprint.post("/<name>/test")
@call({200: STEPS_REPORT}, body=NothingSchema, refusals=[409])
def test(name: str) -> ResponseReturnValue:
    """Test the connection to it, step by step."""
    return steps_report(connection_test.check_database(name))


@blueprint.get("/<name>/grants")
@call({200: {"role": str, "sql": str}}, query=GrantsSchema, refusals=[409, 502])
def grants(name: str, query: Values) -> ResponseReturnValue:
    """The SQL of a role with least rights."""
    role = query["role"]
    return {"role": role, "sql": grants_for(name, role)}


@blueprint.get("/<name>/discovery")
@call({200: {"databases": [NEIGHBOUR]}}, refusals=[409, 502])
def discover(name: str) -> ResponseReturnValue:
    """The databases on its server."""
    return {"databases": [neighbour_row(neighbour) for neighbour in discovery.discover(name)]}


@blueprint.post("/<name>/discovery")
@call({201: success(databases=[DatabaseSchema])}, body=ChoicesSchema, refusals=[409, 502])
def add_neighbours(name: str, body: Values) -> ResponseReturnValue:
    """Guard others on its server."""
    choices = [discovery.Choice(**chosen) for chosen in body["databases"]]
    added = discovery.add_neighbours(name, choices, by=signed_in_admin().username)
    make_first_schedules()
    return {"success": True, "databases": [database_row(database) for database in added]}, 201
