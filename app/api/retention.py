"""The retention policy, what it would do, and doing it, as JSON."""

from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.parsing import read_body, read_query
from app.api.schemas import PlanSchema, PruneSchema, RetentionSchema
from app.auth import signed_in_admin
from app.schemas.retention import pruned, retention_outlook, retention_plan
from app.services.retention import policies
from app.services.retention import prune as pruning
from app.services.retention.rules import Policy
from app.services.schedules.outlook import get_outlook

blueprint = Blueprint("retention", __name__)


@blueprint.get("/retention")
def show() -> ResponseReturnValue:
    """The policy of the configured database."""
    return jsonify(_told())


@blueprint.put("/retention")
def update() -> ResponseReturnValue:
    """Replace it; nothing goes before the next prune."""
    wanted = Policy(**read_body(RetentionSchema()))
    policies.set_policy(wanted, by=signed_in_admin().username)
    return {"success": True} | _told()


@blueprint.post("/retention/confirm")
def confirm() -> ResponseReturnValue:
    """Let scheduled backups remove what the policy does not keep."""
    policies.confirm_policy(policies.get_policy(), by=signed_in_admin().username)
    return {"success": True} | _told()


@blueprint.get("/retention/plan")
def plan() -> ResponseReturnValue:
    """What a prune would do now."""
    limit = read_query(PlanSchema())["limit"]
    return jsonify(retention_plan(pruning.preview(limit=limit)))


@blueprint.post("/backup/prune")
def prune() -> ResponseReturnValue:
    """Remove what the policy does not keep, or only say what that is."""
    if read_body(PruneSchema())["dry_run"]:
        return {"success": True, "dryRun": True, "plan": retention_plan(pruning.dry_run())}
    done = pruning.prune(by=signed_in_admin().username)
    return {"success": not done.failed, "dryRun": False, "pruned": pruned(done)}


def _told() -> dict[str, Any]:
    """The policy, and what it will do by itself."""
    return retention_outlook(get_outlook())
