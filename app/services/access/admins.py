"""Admins: who may sign in to the panel."""

import logging
import secrets
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from app.config import settings
from app.errors import ConfigurationError, Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.models import Admin, AdminSession
from app.services.access import passwords
from app.services.audit.acting import acting
from app.zones import get_zone

logger = logging.getLogger(__name__)

MAX_USERNAME = 64  # characters


@dataclass(frozen=True)
class NewAdmin:
    """An admin just made, with the password if it was generated."""

    username: str
    generated_password: str | None


@acting
def create_admin(username: str, password: str, *, is_generated: bool = False) -> None:
    """Make an admin. Raises InvalidInput, or Conflict if the name is taken."""
    _check_username(username)
    passwords.refuse_weak(password, username)
    row = Admin(username=username, password_hash=passwords.hash_of(password))
    row.password_generated = is_generated
    try:
        with writing() as session:
            session.add(row)
    except IntegrityError as error:
        raise Conflict(f'there is an admin "{username}" already') from error
    logger.info("admin created username=%s", username)


def create_first_admin() -> NewAdmin | None:
    """Make the first admin from the settings; None if there is one already.

    Raises ConfigurationError where the settings make none.
    """
    if list_admins():
        return None
    given = settings().admin_password
    password = given or secrets.token_urlsafe(12)
    try:
        create_admin(settings().admin_username, password, is_generated=not given)
    except InvalidInput as error:
        raise ConfigurationError(
            f"BACKSTOP_ADMIN_USERNAME and BACKSTOP_ADMIN_PASSWORD make no admin: {error.message}",
            detail=error.detail,
            hint=error.hint,
        ) from error
    return NewAdmin(settings().admin_username, None if given else password)


@acting
def change_password(username: str, password: str, *, but: str = "") -> None:
    """Give an admin another password and end their sessions, `but` one (the hash of its token).

    Raises NotFound, InvalidInput.
    """
    passwords.refuse_weak(password, username)
    with writing() as session:
        admin = get_admin(username)
        admin.password_hash, admin.password_generated = passwords.hash_of(password), False
        theirs = delete(AdminSession).where(AdminSession.admin_id == admin.id)
        session.execute(theirs.where(AdminSession.token_sha256 != but))
    logger.info("password changed username=%s", username)


@acting
def edit_admin(
    username: str, *, time_zone: str | None = None, language: str | None = None
) -> Admin:
    """Change how an admin sees the pages; None: as it is. Raises NotFound, InvalidInput."""
    with writing():
        admin = get_admin(username)
        if time_zone is not None:
            admin.time_zone = str(get_zone(time_zone.strip()))
        if language is not None:
            admin.language = language
    logger.info("admin changed username=%s", username)
    return admin


def list_admins() -> list[Admin]:
    """All admins by name."""
    return list(db.session.scalars(select(Admin).order_by(Admin.username)))


@acting
def remove_admin(username: str) -> None:
    """Remove an admin and their sessions. Raises NotFound, Conflict for the last one."""
    with writing() as session:
        # Lock all rows: two removals at once must not both see another admin left.
        everyone = session.scalars(select(Admin).with_for_update()).all()
        admin = get_admin(username)
        if len(everyone) == 1:
            raise Conflict(
                f'"{username}" is the only admin', hint="Create another one before you remove it."
            )
        session.delete(admin)
    logger.info("admin removed username=%s", username)


def get_admin(username: str) -> Admin:
    """The admin of this name. Raises NotFound."""
    admin = find_admin(username)
    if admin is None:
        raise NotFound(f'no such admin: "{username}"', hint="flask admin list shows them.")
    return admin


def find_admin(username: str) -> Admin | None:
    """The admin of this name, or None."""
    return db.session.scalar(select(Admin).where(Admin.username == username))


def has_password(admin: Admin | None, password: str) -> bool:
    """Whether this is the admin's password; the same work without an admin."""
    return passwords.is_password(password, admin.password_hash if admin else None)


def renew_hash(admin: Admin, password: str) -> None:
    """Rehash a password that was just given, if its hash is outdated."""
    if passwords.is_outdated(admin.password_hash):
        with writing() as session:
            session.get_one(Admin, admin.id).password_hash = passwords.hash_of(password)


def _check_username(username: str) -> None:
    if not username or len(username) > MAX_USERNAME or not username.isprintable():
        raise InvalidInput(f"a username has 1 to {MAX_USERNAME} printable characters")
    if username != username.strip():
        raise InvalidInput("a username must not begin or end with a space")
