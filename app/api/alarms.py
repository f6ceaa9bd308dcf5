"""Alarms as JSON."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from app.api.calls import Values, call
from app.api.schemas import AlarmListSchema
from app.schemas.alerts import AlarmSchema, alarm_row
from app.services.alerts import alarms as service

blueprint = Blueprint("alarms", __name__, url_prefix="/alarms")


@blueprint.get("")
@call({200: {"alarms": [AlarmSchema]}}, query=AlarmListSchema)
def index(query: Values) -> ResponseReturnValue:
    """Open and past ones, newest first."""
    alarms = service.list_alarms(**query)
    return jsonify({"alarms": [alarm_row(alarm) for alarm in alarms]})
