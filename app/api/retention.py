"""The retention policy, what it would do, and doing it, as JSON."""

from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call, success
from app.api.schemas import PlanSchema, PruneSchema, RetentionQuerySchema, RetentionSchema
from app.api.shapes import OUTLOOK, PLAN, PRUNED
from app.auth import signed_in_admin
from app.models import Database, Store
from app.schemas.retention import pruned, retention_outlook, retention_plan
from app.services.databases.lookup import choose_database
from app.services.retention import policies
from app.services.retention import prune as pruning
from app.services.retention.rules import Policy
from app.services.schedules.outlook import get_outlook
from app.services.stores.lookup import choose_store

blueprint = Blueprint("retention", __name__)


@blueprint.get("/retention")
@call({200: OUTLOOK}, query=RetentionQuerySchema)
def show(query: Values) -> ResponseReturnValue:
    """The policy of a database, here or in a store."""
    return jsonify(_outlook_of(*_chosen(query)))


@blueprint.put("/retention")
@call({200: success(**OUTLOOK)}, body=RetentionSchema)
def update(body: Values) -> ResponseReturnValue:
    """Replace it; nothing goes before the next prune."""
    database, store = _chosen(body)
    policies.set_policy(Policy(**body), database, store, by=signed_in_admin().username)
    return {"success": True} | _outlook_of(database, store)


@blueprint.post("/retention/confirm")
@call({200: success(**OUTLOOK)}, query=RetentionQuerySchema, refusals=[409])
def confirm(query: Values) -> ResponseReturnValue:
    """Let scheduled backups, or their copies, remove what the policy does not keep."""
    database, store = _chosen(query)
    policy, by = policies.get_policy(database, store), signed_in_admin().username
    policies.confirm_policy(policy, database, store, by=by)
    return {"success": True} | _outlook_of(database, store)


@blueprint.get("/retention/plan")
@call({200: PLAN}, query=PlanSchema)
def plan(query: Values) -> ResponseReturnValue:
    """What a prune would do now."""
    return jsonify(retention_plan(pruning.preview(*_chosen(query), limit=query["limit"])))


@blueprint.post("/backup/prune")
@call(
    {200: (success(dryRun=bool, plan=PLAN), success(dryRun=bool, pruned=PRUNED))},
    body=PruneSchema,
    refusals=[409],
)
def prune(body: Values) -> ResponseReturnValue:
    """Remove what the policy does not keep, or only say what that is."""
    database, store = _chosen(body)
    if body["dry_run"]:
        plan = retention_plan(pruning.dry_run(database, store))
        return {"success": True, "dryRun": True, "plan": plan}
    done = pruning.prune(database, store, by=signed_in_admin().username)
    return {"success": not done.failed, "dryRun": False, "pruned": pruned(done)}


def _chosen(values: Values) -> tuple[Database, Store | None]:
    """The database and the store that are named, taken out of the values."""
    return choose_database(values.pop("database")), choose_store(values.pop("store"))


def _outlook_of(database: Database, store: Store | None) -> dict[str, Any]:
    """The policy, and what it will remove automatically."""
    return retention_outlook(get_outlook(database, store))
