"""Backstop: PostgreSQL backups, test-restored for you."""

from flask import Flask, redirect, url_for
from flask.typing import ResponseReturnValue
from werkzeug.middleware.proxy_fix import ProxyFix

from app import (
    admin,
    api,
    auditing,
    auth,
    cli,
    describing,
    formatting,
    handlers,
    logs,
    monitoring,
    viewer,
)
from app.api import openapi
from app.config import Settings, bind_settings, load_settings
from app.extensions import babel, bootstrap, csrf, db, migrate
from app.postgres.conninfo import parse_url
from app.queue import init_queues
from app.services.restores.drill_server import refuse_live_name


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application; without settings, from the environment.

    Raises ConfigurationError for a wrong setting.
    """
    settings = settings or load_settings()
    if settings.database_url:
        parse_url(settings.database_url)  # a wrong one fails now, not at the first backup
    refuse_live_name(settings)
    logs.configure(settings.log_format)
    app = Flask(__name__, instance_path=str(settings.instance_dir))
    app.url_map.merge_slashes = False  # a doubled slash is neither a page nor a redirect
    bind_settings(app, settings)
    _bind_extensions(app, settings)
    app.register_blueprint(admin.blueprint)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(openapi.blueprint)
    app.register_blueprint(monitoring.blueprint)
    app.add_url_rule("/", "index", _index)
    cli.init_app(app)
    auditing.init_app(app)  # before the handlers that refuse, to record refusals too
    handlers.init_app(app)
    formatting.init_app(app)
    describing.init_app(app)
    if settings.trusted_proxies:
        trusted = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, trusted, trusted, trusted)  # type: ignore[method-assign]
    return app


def _bind_extensions(app: Flask, settings: Settings) -> None:
    db.init_app(app)
    migrate.init_app(app, db, render_as_batch=True, compare_type=True)
    auth.init_app(app)
    csrf.init_app(app)
    bootstrap.init_app(app)
    babel.init_app(app, locale_selector=viewer.language)
    app.jinja_env.policies["ext.i18n.trimmed"] = True
    init_queues(app, settings.queue_url, settings.secret_key)


def _index() -> ResponseReturnValue:
    return redirect(url_for("admin.overview.index"))
