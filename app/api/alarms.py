"""Alarms as JSON."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.parsing import read_query
from app.api.schemas import AlarmListSchema
from app.schemas.alerts import alarm_row
from app.services.alerts import alarms as service

blueprint = Blueprint("alarms", __name__, url_prefix="/alarms")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """Open and past ones, newest first."""
    found = service.list_alarms(**read_query(AlarmListSchema()))
    return jsonify({"alarms": [alarm_row(alarm) for alarm in found]})
