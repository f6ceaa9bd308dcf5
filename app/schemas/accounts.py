"""An admin's own account as JSON."""

from marshmallow import fields

from app.schemas.base import CamelCase, Moment


class AccountSchema(CamelCase):
    """An admin, and how they see the pages."""

    username = fields.String()
    created_at = Moment()
    time_zone = fields.String()
    language = fields.String()
