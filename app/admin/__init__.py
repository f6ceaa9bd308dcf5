"""Face: HTML. Parses, calls one service function, renders or redirects."""

from flask import Blueprint, current_app, g, request
from werkzeug.exceptions import UnsupportedMediaType

from app import viewer
from app.admin import (
    account,
    alarms,
    api_calls,
    appearance,
    assertions,
    audit,
    backups,
    chosen,
    contents,
    copies,
    databases,
    doctor,
    notifiers,
    overview,
    preferences,
    restores,
    retention,
    schedules,
    sessions,
    settings,
    stores,
    uploads,
)
from app.admin.choice import keep_choice
from app.auth import signed_in_admin
from app.extensions import csrf
from app.services.alerts.alarms import list_open
from app.services.backups.listing import has_dump
from app.services.databases.lookup import list_databases
from app.services.jobs.progress import progress_of
from app.services.jobs.workers import find_trouble

blueprint = Blueprint("admin", __name__, url_prefix="/admin")
blueprint.register_blueprint(account.blueprint)
blueprint.register_blueprint(alarms.blueprint)
blueprint.register_blueprint(api_calls.blueprint)
blueprint.register_blueprint(appearance.blueprint)
blueprint.register_blueprint(assertions.blueprint)
blueprint.register_blueprint(audit.blueprint)
blueprint.register_blueprint(backups.blueprint)
blueprint.register_blueprint(chosen.blueprint)
blueprint.register_blueprint(contents.blueprint)
blueprint.register_blueprint(copies.blueprint)
blueprint.register_blueprint(databases.blueprint)
blueprint.register_blueprint(doctor.blueprint)
blueprint.register_blueprint(notifiers.blueprint)
blueprint.register_blueprint(overview.blueprint)
blueprint.register_blueprint(preferences.blueprint)
blueprint.register_blueprint(restores.blueprint)
blueprint.register_blueprint(retention.blueprint)
blueprint.register_blueprint(schedules.blueprint)
blueprint.register_blueprint(sessions.blueprint)
blueprint.register_blueprint(settings.blueprint)
blueprint.register_blueprint(stores.blueprint)
blueprint.register_blueprint(uploads.blueprint)

blueprint.url_defaults(keep_choice)

_PUBLIC = (sessions.new, sessions.create)


@blueprint.before_request
def _guard() -> None:
    """Every page but sign-in needs an admin; every form needs its token, and none has files."""
    if request.mimetype.startswith("multipart/"):
        raise UnsupportedMediaType("No form of the panel takes a file: send it URL-encoded.")
    viewer.show_to_visitor()
    if current_app.view_functions[request.endpoint or ""] not in _PUBLIC:
        viewer.show_to(signed_in_admin())
        g.worker_trouble = find_trouble()
    csrf.protect()


@blueprint.context_processor
def _band() -> dict[str, object]:
    """What the band over each page tells of."""
    return {
        "list_open_alarms": list_open,
        "list_databases": list_databases,
        "progress_of": progress_of,
        "has_dump": has_dump,
    }
