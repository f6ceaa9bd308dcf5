"""What the doctor finds, as JSON."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.api.calls import call
from app.api.shapes import DOCTOR_REPORT
from app.schemas.reports import doctor_report
from app.services.health.doctor import examine

blueprint = Blueprint("doctor", __name__, url_prefix="/doctor")


@blueprint.get("")
@call({200: DOCTOR_REPORT})
def show() -> ResponseReturnValue:
    """Examine everything now."""
    return doctor_report(examine())
