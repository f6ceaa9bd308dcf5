"""What the doctor finds, as a page."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from app.services.health.doctor import State, examine

blueprint = Blueprint("doctor", __name__, url_prefix="/doctor")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """Examine everything now."""
    findings = examine()
    counts = {state.value: sum(f.state is state for f in findings) for state in State}
    return render_template("doctor/index.html", findings=findings, counts=counts)
