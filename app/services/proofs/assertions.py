"""Assertions: SQL that must return true in every database restored from a backup."""

import logging

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from app.errors import Conflict, InvalidInput, NotFound
from app.extensions import db, writing
from app.models import Assertion, Database
from app.services.audit.acting import acting, tell
from app.services.databases.lookup import default_database

logger = logging.getLogger(__name__)

MAX_ASSERTIONS = 100  # of one database
MAX_NAME = 100  # characters
MAX_STATEMENT = 10_000


def list_assertions(of: Database | None = None) -> list[Assertion]:
    """The assertions of a database, by default the default one, by name."""
    chosen = select(Assertion).filter_by(database_id=(of or default_database()).id)
    return list(db.session.scalars(chosen.order_by(Assertion.name)))


def get_assertion(assertion_id: str) -> Assertion:
    """The assertion with this id. Raises NotFound."""
    return _existing(db.session.get(Assertion, assertion_id))


def get_assertion_named(name: str, of: Database | None = None) -> Assertion:
    """The assertion of a database with this name. Raises NotFound."""
    chosen = select(Assertion).filter_by(name=name, database_id=(of or default_database()).id)
    return _existing(db.session.scalar(chosen))


@acting
def add_assertion(
    name: str, statement: str, *, of: Database | None = None, created_by: str
) -> Assertion:
    """Add an assertion about a database; its SQL is not tried.

    Raises InvalidInput, or Conflict if the name is taken or there are too many.
    """
    name, statement = _checked_name(name), _checked_statement(statement)
    database_id = (of or default_database()).id
    assertion = Assertion(
        database_id=database_id,
        name=name,
        statement=statement,
        created_by=created_by[:255],
    )
    try:
        with writing() as session:
            count = select(func.count()).select_from(Assertion)
            number = session.scalar(count.filter_by(database_id=database_id)) or 0
            if number >= MAX_ASSERTIONS:
                raise Conflict(
                    f"the limit of {MAX_ASSERTIONS} assertions is reached",
                    hint="Remove one, or join several with AND.",
                )
            session.add(assertion)
    except IntegrityError as error:
        raise _taken(name) from error
    tell(subject=name)
    logger.info("assertion added name=%r by=%r", name, created_by)
    return assertion


@acting
def edit_assertion(
    assertion_id: str, *, name: str | None = None, statement: str | None = None, by: str
) -> Assertion:
    """Change an assertion. Raises NotFound, InvalidInput, Conflict if the name is taken."""
    changes = {}
    if name is not None:
        changes["name"] = _checked_name(name)
    if statement is not None:
        changes["statement"] = _checked_statement(statement)
    try:
        with writing():
            assertion = get_assertion(assertion_id)
            for key, value in changes.items():
                setattr(assertion, key, value)
    except IntegrityError as error:
        raise _taken(changes["name"]) from error
    tell(subject=assertion.name, detail=", ".join(f"{key} changed" for key in changes))
    logger.info("assertion edited name=%r by=%r", assertion.name, by)
    return assertion


@acting
def remove_assertion(assertion_id: str, *, by: str) -> None:
    """Remove an assertion; its proofs stay. Raises NotFound."""
    with writing() as session:
        assertion = get_assertion(assertion_id)
        name = assertion.name
        session.delete(assertion)
    tell(subject=name)
    logger.info("assertion removed name=%r by=%r", name, by)


def _existing(assertion: Assertion | None) -> Assertion:
    if assertion is None:
        raise NotFound("no such assertion", hint="flask assertion list shows all.")
    return assertion


def _taken(name: str) -> Conflict:
    return Conflict(f'there is an assertion "{name}" already', hint="Choose another name.")


def _checked_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidInput(f"the name must have 1 to {MAX_NAME} printable characters")
    return name


def _checked_statement(statement: str) -> str:
    statement = statement.replace("\r\n", "\n").strip()
    if not statement:
        raise InvalidInput(
            "the statement is empty", hint="For example: SELECT count(*) > 0 FROM orders"
        )
    if len(statement) > MAX_STATEMENT:
        raise InvalidInput(f"the statement must not be longer than {MAX_STATEMENT} characters")
    if "\0" in statement or any("\ud800" <= character <= "\udfff" for character in statement):
        raise InvalidInput("the statement has a character that PostgreSQL does not accept")
    return statement
