"""Sign in, stay signed in, sign out; and the limits on attempts."""

import hashlib
import ipaddress
import logging
import math
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from app.errors import NotSignedIn, TooManyAttempts, WrongPassword
from app.extensions import db, writing
from app.models import Admin, AdminSession, KnownPlace, SignInThrottle
from app.models.types import now
from app.services.access import admins, passwords
from app.services.access.admins import (
    MAX_USERNAME,
    find_admin,
    has_password,
    renew_hash,
)
from app.services.audit.acting import acting

logger = logging.getLogger(__name__)

#: Makes sure that the admin is still there, or raises; called before risky actions.
Confirm = Callable[[], None]

IDLE = timedelta(hours=12)  # a session ends when it is not used for so long
ABSOLUTE = timedelta(days=7)  # and in any case after this

BLOCK = timedelta(minutes=15)  # the longest wait after failures

_WITH_PORT = re.compile(r"\[(?P<six>[^\[\]]+)\](:\d{1,5})?|(?P<four>[^:]+):\d{1,5}")
_KNOWN_FOR = timedelta(days=30)  # how long an address is known from which an admin signed in

_SEEN_EVERY = timedelta(minutes=1)  # how exactly "last seen" is kept

# More than the web server has threads: as many right sign-ins may be under way.
_FREE_ATTEMPTS = 10
_FREE_ATTEMPTS_OF_AN_ADDRESS = 60
_FIRST_WAIT = 15  # seconds; doubled with each further failure
_FORGOTTEN_AFTER = timedelta(hours=24)


@acting
def sign_in(username: str, password: str, *, address: str) -> str:
    """Start a session and return its token, which only the browser keeps.

    Raises NotSignedIn, the same for a wrong name and a wrong password, and
    TooManyAttempts for this pair of account and address.
    """
    # PostgreSQL has no NUL; longer ones belong to nobody.
    username = username.replace("\0", "\ufffd")[: MAX_USERNAME + 1]
    admin = _checked(username, password, address, known=_is_known(username, address))
    if admin is None:
        raise NotSignedIn("the username or the password is wrong")
    token = secrets.token_urlsafe(32)
    _remember(username, address)
    with writing() as session:
        session.execute(delete(AdminSession).where(AdminSession.created_at < now() - ABSOLUTE))
        session.add(AdminSession(token_sha256=_hashed(token), admin_id=admin.id))
    logger.info("signed in username=%s address=%s", username, address)
    return token


def at_the_terminal() -> None:
    """Nothing to confirm: a user with a shell here may do everything already."""


@acting
def confirm_password(username: str, password: str, *, address: str) -> None:
    """Make sure, before a risky action, that the signed-in admin is still there.

    Throttled together with sign-in. Raises WrongPassword, TooManyAttempts.
    """
    if not password:
        raise WrongPassword("your password is required")
    if _checked(username, password, address, known=True) is None:
        raise WrongPassword("the password is wrong")


@acting
def change_password(token: str, old: str, new: str, *, address: str) -> None:
    """Change the password of this session's admin; all their other sessions end.

    Raises NotSignedIn, WrongPassword, TooManyAttempts, InvalidInput.
    """
    session = find_session(token)
    if session is None:
        raise NotSignedIn("the session has ended")
    username = session.admin.username
    confirm_password(username, old, address=address)
    admins.change_password(username, new, but=_hashed(token))


def find_session(token: str) -> AdminSession | None:
    """The session of this token, marked as used; None if it has ended."""
    row = db.session.get(AdminSession, _hashed(token))
    moment = now()
    if row is None or row.created_at + ABSOLUTE < moment or row.last_seen_at + IDLE < moment:
        return None
    if row.last_seen_at + _SEEN_EVERY < moment:
        # Not through the row: it may be deleted meanwhile, by a sign-out elsewhere.
        seen = update(AdminSession).where(AdminSession.token_sha256 == _hashed(token))
        with writing() as session:
            session.execute(seen.values(last_seen_at=moment))
        return db.session.get(AdminSession, _hashed(token))
    return row


@acting
def sign_out(token: str) -> None:
    """End this session; copies of its cookie become worthless."""
    with writing() as session:
        session.execute(delete(AdminSession).where(AdminSession.token_sha256 == _hashed(token)))


@acting
def sign_out_everywhere(admin_id: str) -> None:
    """End all sessions of an admin."""
    with writing() as session:
        session.execute(delete(AdminSession).where(AdminSession.admin_id == admin_id))
    logger.info("signed out everywhere admin=%s", admin_id)


def _is_known(username: str, address: str) -> bool:
    """Whether this account was signed in to from this address lately."""
    place = db.session.get(KnownPlace, _pair(username, address))
    return place is not None and place.signed_in_at > now() - _KNOWN_FOR


def _remember(username: str, address: str) -> None:
    with suppress(IntegrityError), writing() as session:  # two at once: one is enough
        session.execute(delete(KnownPlace).where(KnownPlace.signed_in_at < now() - _KNOWN_FOR))
        session.merge(KnownPlace(key_sha256=_pair(username, address), signed_in_at=now()))


def _checked(username: str, password: str, address: str, *, known: bool) -> Admin | None:
    """The admin, if it is their password; each failure is counted. Raises TooManyAttempts."""
    keys = _throttle_keys(username, address, known=known)
    _refuse_if_throttled(keys)  # before it takes a place among those who wait
    with passwords.turn(known=known):
        _admit(keys)
        admin = find_admin(username)
        is_right = has_password(admin, password[: passwords.MAX_LENGTH + 1])
    if admin is None or not is_right:
        logger.warning("sign-in failed username=%r address=%s", username, address)
        return None
    with writing() as session:
        session.execute(delete(SignInThrottle).where(SignInThrottle.key_sha256.in_(keys)))
    renew_hash(admin, password)
    return admin


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _pair(username: str, address: str) -> str:
    return _hashed(f"{username.casefold()}\n{place_of(address)}")


def _throttle_keys(username: str, address: str, *, known: bool) -> dict[str, int]:
    """What is throttled, with how many attempts are free.

    The pair of account and address; and, much later, the address alone, but for a
    known pair: else ever new names would keep everybody else waiting. Never the
    account alone.
    """
    pair = {_pair(username, address): _FREE_ATTEMPTS}
    if known:
        return pair
    return pair | {_hashed(place_of(address)): _FREE_ATTEMPTS_OF_AN_ADDRESS}


def without_port(address: str) -> str:
    """The address of `192.0.2.1:5555` and of `[2001:db8::1]:443`; any other text as it is."""
    found = _WITH_PORT.fullmatch(address)
    return (found["six"] or found["four"]) if found else address


def place_of(address: str) -> str:
    """The address; an IPv6 user owns a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _refuse_if_throttled(keys: dict[str, int]) -> None:
    chosen = select(SignInThrottle).where(SignInThrottle.key_sha256.in_(keys))
    throttles = db.session.scalars(chosen.execution_options(populate_existing=True)).all()
    failed = [
        (throttle.last_failure_at + _wait_after(throttle, keys), throttle.last_failure_at)
        for throttle in throttles
    ]
    db.session.commit()
    until, since = max(failed, default=(now(), now()))
    left = _seconds_until(until)
    if left > 0:
        raise TooManyAttempts(
            "too many failed sign-ins",
            retry_after=left,
            since=since,
            hint=f"Try again in {left} seconds.",
        )


def _admit(keys: dict[str, int]) -> None:
    """Let one more attempt through, counted before its outcome is known.

    Counted afterwards, many attempts at once would all be the first.
    """
    _refuse_if_throttled(keys)
    moment = now()
    forgotten = SignInThrottle.last_failure_at < moment - _FORGOTTEN_AFTER
    for key in sorted(keys):  # always in this order: two at once cannot block each other
        count = (
            update(SignInThrottle)
            .where(SignInThrottle.key_sha256 == key)
            .values(failures=SignInThrottle.failures + 1, last_failure_at=moment)
        )
        for _ in range(2):
            with writing() as session:
                session.execute(delete(SignInThrottle).where(forgotten))
                if session.scalar(count.returning(SignInThrottle.failures)) is not None:
                    break
            with suppress(IntegrityError), writing() as session:
                session.add(SignInThrottle(key_sha256=key, failures=1, last_failure_at=moment))
                session.flush()
                break


def _wait_after(throttle: SignInThrottle, keys: dict[str, int]) -> timedelta:
    too_many = throttle.failures - keys[throttle.key_sha256]
    if too_many < 0:
        return timedelta(0)
    return min(timedelta(seconds=_FIRST_WAIT * 2 ** min(too_many, 10)), BLOCK)


def _seconds_until(moment: datetime) -> int:
    return max(0, math.ceil((moment - now()).total_seconds()))
