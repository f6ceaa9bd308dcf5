"""The retention policy, what it would do, and doing it, as JSON."""

from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.parsing import read_body, read_query
from app.api.schemas import DatabaseQuerySchema, PlanSchema, PruneSchema, RetentionSchema
from app.auth import signed_in_admin
from app.models import Database
from app.schemas.retention import pruned, retention_outlook, retention_plan
from app.services.databases.lookup import choose_database
from app.services.retention import policies
from app.services.retention import prune as pruning
from app.services.retention.rules import Policy
from app.services.schedules.outlook import get_outlook

blueprint = Blueprint("retention", __name__)


@blueprint.get("/retention")
def show() -> ResponseReturnValue:
    """The policy of a database."""
    return jsonify(_outlook_of(_database_in_query()))


@blueprint.put("/retention")
def update() -> ResponseReturnValue:
    """Replace it; nothing goes before the next prune."""
    body = read_body(RetentionSchema())
    database = choose_database(body.pop("database"))
    policies.set_policy(Policy(**body), database, by=signed_in_admin().username)
    return {"success": True} | _outlook_of(database)


@blueprint.post("/retention/confirm")
def confirm() -> ResponseReturnValue:
    """Let scheduled backups remove what the policy does not keep."""
    database = _database_in_query()
    policy, by = policies.get_policy(database), signed_in_admin().username
    policies.confirm_policy(policy, database, by=by)
    return {"success": True} | _outlook_of(database)


@blueprint.get("/retention/plan")
def plan() -> ResponseReturnValue:
    """What a prune would do now."""
    query = read_query(PlanSchema())
    preview = pruning.preview(choose_database(query["database"]), limit=query["limit"])
    return jsonify(retention_plan(preview))


@blueprint.post("/backup/prune")
def prune() -> ResponseReturnValue:
    """Remove what the policy does not keep, or only say what that is."""
    body = read_body(PruneSchema())
    database = choose_database(body["database"])
    if body["dry_run"]:
        return {"success": True, "dryRun": True, "plan": retention_plan(pruning.dry_run(database))}
    done = pruning.prune(database, by=signed_in_admin().username)
    return {"success": not done.failed, "dryRun": False, "pruned": pruned(done)}


def _database_in_query() -> Database:
    return choose_database(read_query(DatabaseQuerySchema())["database"])


def _outlook_of(database: Database) -> dict[str, Any]:
    """The policy, and what it will remove automatically."""
    return retention_outlook(get_outlook(database))
