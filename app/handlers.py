"""Errors as HTTP answers, and the headers of every answer: the one table of statuses."""

import logging
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import DatabaseError, OperationalError
from werkzeug.exceptions import HTTPException

from app import errors, viewer
from app.admin.appearance import chosen_theme
from app.config import settings
from app.problems import problem, status_of
from app.services.audit.acting import refuse
from app.services.catalogue.errors import explain

logger = logging.getLogger(__name__)

_SIGN_OUTS = ("admin.sessions.delete", "admin.sessions.delete_all", "api.sessions.delete")

# Bootstrap's CSS carries its own small images as data.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; object-src 'none';"
    " frame-ancestors 'none'"
)


class PanelResponse(Response):
    """Flask's response; lone surrogates, which names in a dump may contain, break no page."""

    def set_data(self, value: bytes | str) -> None:
        """Text as UTF-8, with a question mark for each character that cannot be encoded."""
        super().set_data(value.encode("utf-8", "replace") if isinstance(value, str) else value)


def init_app(app: Flask) -> None:
    """Bind the handlers to the application."""
    app.response_class = PanelResponse
    app.before_request(refuse_other_hosts)
    app.before_request(refuse_other_sites)
    app.after_request(_add_headers)
    app.register_error_handler(errors.AppError, _tell_app_error)
    app.register_error_handler(DatabaseError, _tell_catalogue_error)
    app.register_error_handler(HTTPException, _tell_http_error)


def refuse_other_hosts() -> None:
    """Refuse requests under a name that is not the panel's. Raises Forbidden.

    The owner of another name could point it here, and send requests as if from our pages.
    Those who only look whether the panel lives may ask by its address.
    """
    ours = settings().hosts
    if ours and request.blueprint != "monitoring":
        name = urlsplit(request.host_url).hostname
        if name not in ours:
            raise errors.Forbidden(
                "the panel has no such name",
                hint="BACKSTOP_HOSTS lists the names of the panel.",
            )


def refuse_other_sites() -> None:
    """Refuse requests that another site made a browser send. Raises Forbidden.

    Sec-Fetch-Site is set by the browser and cannot be changed by a script;
    browsers that lack it send Origin. Programs such as curl send neither.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or origin == request.host_url.rstrip("/")
    if not ours:
        raise errors.Forbidden(
            "the request comes from another site",
            hint="Behind a reverse proxy, pass the Host header on and set"
            " BACKSTOP_TRUSTED_PROXIES.",
        )


def _tell_app_error(error: errors.AppError) -> ResponseReturnValue:
    status = status_of(error)
    if status == HTTPStatus.UNAUTHORIZED and not _is_api():
        refuse(error.message)
        return redirect(url_for("admin.sessions.new", next=_wanted_page()))
    headers = {}
    if isinstance(error, errors.TooManyAttempts | errors.Busy):
        headers["Retry-After"] = str(error.retry_after)
    return _answer(error, status, headers)


def _tell_catalogue_error(error: DatabaseError) -> ResponseReturnValue:
    is_told_enough = isinstance(error, OperationalError)
    logger.error("catalogue not usable error=%r", str(error.orig), exc_info=not is_told_enough)
    shown = explain(error)
    shown.detail = ""  # it may name hosts and roles, and anybody can send a request
    return _answer(shown, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "5"})


def _tell_http_error(error: HTTPException) -> ResponseReturnValue:
    response = error.get_response()
    headers = {
        name: value
        for name, value in response.headers.items()
        if name in ("Allow", "Content-Range", "Location", "Retry-After")
    }
    shown = errors.AppError((error.name or "error").lower(), detail=error.description or "")
    refuse(error.description or shown.message)
    return _answer(shown, error.code or 500, headers)


def _answer(error: errors.AppError, status: int, headers: dict[str, Any]) -> ResponseReturnValue:
    response = problem(error, status) if _is_api() else Response(_page(error, status), status)
    response.headers.extend(headers)
    return response


def _page(error: errors.AppError, status: int) -> str:
    """The error as a page, without asking who is signed in: the catalogue may be unreachable."""
    refuse(error.message, is_broken=status >= HTTPStatus.INTERNAL_SERVER_ERROR)
    if not viewer.is_known():
        viewer.show_to_visitor()
    template = current_app.jinja_env.get_template("errors/error.html")
    return template.render(error=error, status=status, theme=chosen_theme())


def _is_api() -> bool:
    return request.path.startswith("/api/") or request.path == "/api"


def _wanted_page() -> str | None:
    return request.full_path.rstrip("?") if request.method == "GET" else None


def _add_headers(response: Response) -> Response:
    headers = response.headers
    headers["Content-Security-Policy"] = _CSP
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if request.endpoint in _SIGN_OUTS and response.status_code < HTTPStatus.BAD_REQUEST:
        headers["Clear-Site-Data"] = '"storage"'  # not cookies: those of other ports would go too
    if request.is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    if request.endpoint not in ("static", "bootstrap.static"):
        headers["Cache-Control"] = "no-store"
    return response
