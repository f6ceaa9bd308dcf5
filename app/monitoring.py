"""Face: monitoring by other machines. Health for all, figures for clients with the token."""

import hmac

from flask import Blueprint, Response, abort, jsonify, request
from flask.typing import ResponseReturnValue

from app.config import settings
from app.metrics import exposition
from app.services.health.readiness import check_health

blueprint = Blueprint("monitoring", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """This process answers; nothing else is checked."""
    return Response("ok\n", content_type="text/plain; charset=utf-8")


@blueprint.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Whether a backup requested now would be made."""
    wrong = check_health()
    checks = {name: {"ok": not reason, "reason": reason} for name, reason in wrong.items()}
    is_ready = not any(wrong.values())
    return jsonify({"ready": is_ready, "checks": checks}), 200 if is_ready else 503


@blueprint.get("/metrics")
def metrics() -> ResponseReturnValue:
    """The figures for Prometheus; 404 without a token in the settings."""
    token = settings().metrics_token
    if token is None:
        abort(404)
    given = request.authorization
    is_bearer = given is not None and given.type == "bearer"
    sent = (given.token or "") if given is not None and is_bearer else ""
    if not hmac.compare_digest(sent.encode(), token.encode()):
        return Response("the token is missing or wrong\n", 401, {"WWW-Authenticate": "Bearer"})
    body, content_type = exposition(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)
