"""The retention policy, what it would do, and doing it, as JSON."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.schemas import PlanSchema, PruneSchema, RetentionSchema, read_body, read_query
from app.auth import signed_in_admin
from app.schemas import pruned, retention_plan, retention_policy
from app.services import policies, pruning
from app.services.retention import Policy

blueprint = Blueprint("retention", __name__)


@blueprint.get("/retention")
def show() -> ResponseReturnValue:
    """The policy of the configured database."""
    return jsonify({"policy": retention_policy(policies.get_policy())})


@blueprint.put("/retention")
def update() -> ResponseReturnValue:
    """Replace it; nothing goes before the next prune."""
    wanted = Policy(**read_body(RetentionSchema()))
    policy = policies.set_policy(wanted, by=signed_in_admin().username)
    return {"success": True, "policy": retention_policy(policy)}


@blueprint.get("/retention/plan")
def plan() -> ResponseReturnValue:
    """What a prune would do now."""
    limit = read_query(PlanSchema())["limit"]
    return jsonify(retention_plan(pruning.preview(limit=limit)))


@blueprint.post("/backup/prune")
def prune() -> ResponseReturnValue:
    """Remove what the policy does not keep, or only say what that is."""
    if read_body(PruneSchema())["dry_run"]:
        return {"success": True, "dryRun": True, "plan": retention_plan(pruning.preview())}
    done = pruning.prune(by=signed_in_admin().username)
    return {"success": not done.failed, "dryRun": False, "pruned": pruned(done)}
