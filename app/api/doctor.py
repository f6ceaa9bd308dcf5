"""What the doctor finds, as JSON."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.schemas.reports import doctor_report
from app.services.health.doctor import examine

blueprint = Blueprint("doctor", __name__, url_prefix="/doctor")


@blueprint.get("")
def show() -> ResponseReturnValue:
    """Examine everything now."""
    return doctor_report(examine())
