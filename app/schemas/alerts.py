"""Alarms, notifiers and deliveries as JSON."""

from typing import Any

from marshmallow import fields

from app.models import Alarm, Delivery, DeliveryStatus, Fact, Notifier
from app.schemas.base import CamelCase, Moment, row_of


class AlarmSchema(CamelCase):
    """An alarm as the API shows it."""

    id = fields.String()
    kind = fields.Enum(Fact, by_value=True)
    server = fields.String()
    database = fields.String()
    title = fields.String()
    body = fields.String()
    opened_at = Moment()
    told_at = Moment(allow_none=True)
    closed_at = Moment(allow_none=True)


class NotifierSchema(CamelCase):
    """A notifier as the API shows it: never its URL."""

    id = fields.String()
    name = fields.String()
    target = fields.String()
    facts = fields.List(fields.String(), allow_none=True)
    title = fields.String()
    body = fields.String()
    enabled = fields.Boolean()
    created_at = Moment()
    created_by = fields.String()


class DeliverySchema(CamelCase):
    """A message as the API shows it."""

    id = fields.String()
    fact = fields.String()
    title = fields.String()
    body = fields.String()
    status = fields.Enum(DeliveryStatus, by_value=True)
    attempts = fields.Integer()
    created_at = Moment()
    next_attempt_at = Moment(allow_none=True)
    ended_at = Moment(allow_none=True)
    last_error = fields.String()


def alarm_row(alarm: Alarm) -> dict[str, Any]:
    """An alarm."""
    return row_of(AlarmSchema(), alarm)


def notifier_row(notifier: Notifier) -> dict[str, Any]:
    """A notifier, without secrets."""
    return row_of(NotifierSchema(), notifier)


def delivery_row(delivery: Delivery, notifier: str) -> dict[str, Any]:
    """A message to a notifier, and its delivery."""
    return row_of(DeliverySchema(), delivery) | {"notifier": notifier}
