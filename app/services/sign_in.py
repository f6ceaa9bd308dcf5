"""Sign in, stay signed in, sign out; and how often one may try."""

import hashlib
import ipaddress
import logging
import math
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete

from app.errors import NotSignedIn, TooManyAttempts
from app.extensions import db, writing
from app.models import AdminSession, SignInThrottle
from app.models.types import now
from app.services.admins import MAX_PASSWORD, MAX_USERNAME, find_admin, has_password

logger = logging.getLogger(__name__)

IDLE = timedelta(hours=12)  # a session ends when it is not used for so long
ABSOLUTE = timedelta(days=7)  # and in any case after this

_SEEN_EVERY = timedelta(minutes=1)  # how exactly "last seen" is kept

# More than the web server has threads: as many right sign-ins may be under way.
_FREE_FAILURES = 10
_FIRST_WAIT = 15  # seconds; doubled with each further failure
_LONGEST_WAIT = 900
_FORGOTTEN_AFTER = timedelta(hours=24)


def sign_in(username: str, password: str, *, address: str) -> str:
    """Start a session and return its token, which only the browser keeps.

    Raises NotSignedIn, the same for a wrong name and a wrong password, and
    TooManyAttempts for this pair of account and address.
    """
    # PostgreSQL has no NUL; longer ones belong to nobody.
    username = username.replace("\0", "\ufffd")[: MAX_USERNAME + 1]
    password = password[: MAX_PASSWORD + 1]
    pair = _pair(username, address)
    _admit(pair)
    admin = find_admin(username)
    if not has_password(admin, password) or admin is None:
        logger.warning("sign-in failed username=%r address=%s", username, address)
        raise NotSignedIn("the username or the password is wrong")
    token = secrets.token_urlsafe(32)
    with writing() as session:
        session.execute(delete(SignInThrottle).where(SignInThrottle.pair_sha256 == pair))
        session.execute(delete(AdminSession).where(AdminSession.created_at < now() - ABSOLUTE))
        session.add(AdminSession(token_sha256=_hashed(token), admin_id=admin.id))
    logger.info("signed in username=%s address=%s", username, address)
    return token


def find_session(token: str) -> AdminSession | None:
    """The living session of this token, marked as used; None if it has ended."""
    found = db.session.get(AdminSession, _hashed(token))
    moment = now()
    if found is None or found.created_at + ABSOLUTE < moment or found.last_seen_at + IDLE < moment:
        return None
    if found.last_seen_at + _SEEN_EVERY < moment:
        with writing():
            found.last_seen_at = moment
    return found


def sign_out(token: str) -> None:
    """End this session; a copy of its cookie is worth nothing from now on."""
    with writing() as session:
        session.execute(delete(AdminSession).where(AdminSession.token_sha256 == _hashed(token)))


def sign_out_everywhere(admin_id: str) -> None:
    """End all sessions of an admin."""
    with writing() as session:
        session.execute(delete(AdminSession).where(AdminSession.admin_id == admin_id))
    logger.info("signed out everywhere admin=%s", admin_id)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _pair(username: str, address: str) -> str:
    """The pair that is throttled; an IPv6 user owns a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        place = address
    else:
        prefix = 64 if parsed.version == 6 else 32  # noqa: PLR2004
        place = str(ipaddress.ip_network((parsed, prefix), strict=False))
    return _hashed(f"{username.casefold()}\n{place}")


def _admit(pair: str) -> None:
    """Let one more attempt through, counted before its outcome is known.

    Counted afterwards, many attempts at once would all be the first.
    """
    moment = now()
    with writing() as session:
        session.execute(
            delete(SignInThrottle).where(SignInThrottle.last_failure_at < moment - _FORGOTTEN_AFTER)
        )
        throttle = session.get(SignInThrottle, pair, with_for_update=True)
        if throttle is None:
            session.add(SignInThrottle(pair_sha256=pair, failures=1, last_failure_at=moment))
            return
        left = _seconds_until(throttle.last_failure_at + _wait_after(throttle.failures))
        if left > 0:
            raise TooManyAttempts(
                "too many failed sign-ins", retry_after=left, hint=f"Try again in {left} seconds."
            )
        throttle.failures += 1
        throttle.last_failure_at = moment


def _wait_after(failures: int) -> timedelta:
    if failures < _FREE_FAILURES:
        return timedelta(0)
    doubled = min(failures - _FREE_FAILURES, 10)
    return timedelta(seconds=min(_FIRST_WAIT * 2**doubled, _LONGEST_WAIT))


def _seconds_until(moment: datetime) -> int:
    return max(0, math.ceil((moment - now()).total_seconds()))
