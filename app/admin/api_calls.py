"""The calls of the API: to read, and with JavaScript to try, in Swagger UI."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, abort, current_app, render_template, send_from_directory
from flask.typing import ResponseReturnValue

blueprint = Blueprint("api_calls", __name__, url_prefix="/api")

# Swagger UI as its package brings it; its own page has inline scripts, which ours must not.
_ASSETS = Path(str(files("flask_swagger_ui"))) / "dist"
_SERVED = ("swagger-ui-bundle.js", "swagger-ui.css")


@dataclass(frozen=True)
class ApiCall:
    """A call in a line."""

    method: str
    path: str
    summary: str


@blueprint.get("")
def index() -> ResponseReturnValue:
    """All of them."""
    return render_template("api_calls/index.html", calls=_list_calls())


@blueprint.get("/assets/<name>")
def asset(name: str) -> Response:
    """A file of Swagger UI."""
    if name not in _SERVED:
        abort(404)
    return send_from_directory(_ASSETS, name)


def _list_calls() -> list[ApiCall]:
    """The calls by path; each view's docstring begins with what it does."""
    calls = []
    for rule in current_app.url_map.iter_rules():
        if rule.rule.startswith("/api/"):
            summary = (current_app.view_functions[rule.endpoint].__doc__ or "").partition("\n")[0]
            methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            calls += [ApiCall(method, rule.rule, summary) for method in methods]
    return sorted(calls, key=lambda call: (call.path, call.method))
