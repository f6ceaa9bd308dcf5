"""Who is asking: sign in, stay signed in, sign out."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, Request, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_login import UserMixin, current_user, login_user, logout_user
from itsdangerous import BadSignature
from werkzeug.sansio.http import parse_cookie

from app.errors import AppError, NotSignedIn, TooManyAttempts
from app.extensions import login_manager
from app.models import Admin, AdminSession
from app.models.types import now
from app.services.access import sign_in as sign_in_service
from app.services.access.sign_in import BLOCK, Confirm, place_of, without_port
from app.services.audit.acting import tell

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class SignedIn(UserMixin):  # type: ignore[misc]  # flask_login has no types
    """An admin in one session; what Flask-Login calls the user."""

    def __init__(self, token: str, row: AdminSession) -> None:
        self.token = token
        self.admin: Admin = row.admin

    def get_id(self) -> str:
        return self.token


class PanelRequest(Request):
    """Flask's request; the client's address is without the port that some proxies add."""

    def __init__(self, environ: "WSGIEnvironment", **more: Any) -> None:
        super().__init__(environ, **more)
        self.remote_addr = without_port(self.remote_addr or "")


class CookieSessions(SecureCookieSessionInterface):
    """Flask's sessions, with cookies for this panel alone, Secure wherever the request was."""

    digest_method = staticmethod(hashlib.sha256)

    def get_cookie_name(self, app: Flask) -> str:
        """A name that no other host can set over HTTPS, and no other port shares.

        Browsers send a cookie to all ports of its host: panels side by side would sign
        each other's admins out.
        """
        port = urlsplit(request.host_url).port
        name = super().get_cookie_name(app) + (f"-{port}" if port else "")
        return f"__Host-{name}" if request.is_secure else name

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


def is_signed_cookie(app: Flask, header: str) -> bool:
    """Whether a Cookie header has one that this panel gave to an admin, signed in still or not.

    For what must not wait for the catalogue.
    """
    serializer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    for name, value in parse_cookie(header).items():
        if app.config["SESSION_COOKIE_NAME"] in name:
            with suppress(BadSignature):
                if "_user_id" in serializer.loads(value):
                    return True
    return False


def init_app(app: Flask) -> None:
    """Set up how Flask and Flask-Login turn a cookie into an admin."""
    app.request_class = PanelRequest
    app.session_interface = CookieSessions()
    login_manager.init_app(app)
    login_manager.session_protection = None  # sessions live and end in the catalogue
    login_manager.user_loader(_load)


def require_admin() -> None:
    """Require a signed-in admin. Raises NotSignedIn."""
    if not current_user.is_authenticated:
        raise NotSignedIn("nobody is signed in", hint="Sign in first; sessions expire.")


def signed_in_admin() -> Admin:
    """The admin who is asking."""
    require_admin()
    admin: Admin = current_user.admin
    return admin


def sign_in(username: str, password: str) -> None:
    """Start a new session in this browser; an old one of its ends.

    Raises NotSignedIn, TooManyAttempts.
    """
    address = request.remote_addr or ""
    tell(actor=username, origin=address)
    with _refusals_told(address):
        token = sign_in_service.sign_in(username, password, address=address)
    row = sign_in_service.find_session(token)
    if row is None:
        raise NotSignedIn("the session ended at once", hint="Is the clock being changed?")
    sign_out()
    session.permanent = True
    login_user(SignedIn(token, row))


def change_password(old: str, new: str) -> None:
    """Change the admin's own password; other sessions of theirs end.

    Raises WrongPassword, TooManyAttempts, InvalidInput.
    """
    require_admin()
    address = request.remote_addr or ""
    with _refusals_told(address):
        sign_in_service.change_password(current_user.token, old, new, address=address)


def confirming(password: str) -> Confirm:
    """Returns a check that the signed-in admin is still there.

    It raises WrongPassword, TooManyAttempts.
    """
    username, address = signed_in_admin().username, request.remote_addr or ""

    def confirm() -> None:
        with _refusals_told(address):
            sign_in_service.confirm_password(username, password, address=address)

    return confirm


def sign_out() -> None:
    """End this browser's session."""
    if current_user.is_authenticated:
        sign_in_service.sign_out(current_user.token)
    logout_user()
    session.clear()


def sign_out_everywhere() -> None:
    """End all sessions of the admin who is asking."""
    sign_in_service.sign_out_everywhere(signed_in_admin().id)
    logout_user()
    session.clear()


def own_path(target: str | None) -> str | None:
    """The target if it is a path of our own pages, else None.

    Browsers read `//host`, `/\\host` and control characters as other sites.
    """
    if not target or not target.startswith("/admin") or not target.isprintable():
        return None
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or "\\" in target:
        return None
    return target


@contextmanager
def _refusals_told(address: str) -> Iterator[None]:
    """For the audit: each wrong password; of throttled attempts one per waiting period."""
    try:
        yield
    except TooManyAttempts as error:
        # A crowd comes from ever new addresses: one entry for all of them.
        origin = place_of(address) if error.since else "many addresses"
        since = error.since or now() - BLOCK
        tell(detail=error.message, origin=origin, quiet_since=since)
        raise
    except AppError as error:
        tell(detail=error.message, quiet_since=None)
        raise


def _load(token: str) -> SignedIn | None:
    row = sign_in_service.find_session(token)
    return SignedIn(token, row) if row is not None else None
