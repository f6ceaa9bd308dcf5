"""Face: JSON. Parses, calls one service function, presents."""

from flask import Blueprint, current_app, request

from app.api import (
    account,
    alarms,
    assertions,
    audit,
    backups,
    contents,
    copies,
    databases,
    doctor,
    notifiers,
    preferences,
    restores,
    retention,
    schedules,
    sessions,
    settings,
    stores,
    uploads,
)
from app.auth import require_admin

blueprint = Blueprint("api", __name__, url_prefix="/api/admin")
blueprint.register_blueprint(account.blueprint)
blueprint.register_blueprint(alarms.blueprint)
blueprint.register_blueprint(assertions.blueprint)
blueprint.register_blueprint(audit.blueprint)
blueprint.register_blueprint(backups.blueprint)
blueprint.register_blueprint(contents.blueprint)
blueprint.register_blueprint(copies.blueprint)
blueprint.register_blueprint(databases.blueprint)
blueprint.register_blueprint(doctor.blueprint)
blueprint.register_blueprint(notifiers.blueprint)
blueprint.register_blueprint(preferences.blueprint)
blueprint.register_blueprint(restores.blueprint)
blueprint.register_blueprint(retention.blueprint)
blueprint.register_blueprint(schedules.blueprint)
blueprint.register_blueprint(sessions.blueprint)
blueprint.register_blueprint(settings.blueprint)
blueprint.register_blueprint(stores.blueprint)
blueprint.register_blueprint(uploads.blueprint)


@blueprint.before_request
def _guard() -> None:
    """Every route needs an admin, but for the one by which one becomes known."""
    view = current_app.view_functions[request.endpoint or ""]
    if view is not sessions.create:
        require_admin()
