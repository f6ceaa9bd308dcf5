"""Ask a restored database for the last level of proof: assertions, and pg_amcheck."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from app.config import settings
from app.errors import ConnectError, NotPossible, PostgresError
from app.extensions import db
from app.models import DatabaseBackup, Kind, Restore
from app.postgres import amcheck
from app.postgres.assertions import Doubt, why_not
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.databases import serving
from app.postgres.selection import Name
from app.postgres.supervision import Supervision
from app.postgres.tools import Toolchain
from app.services.databases.configured import private_dir
from app.services.databases.lookup import find_database
from app.services.jobs import claims
from app.services.jobs.session_names import restore_session
from app.services.proofs.assertions import list_assertions
from app.services.proofs.records import is_untrue

logger = logging.getLogger(__name__)

_JOBS = 2  # relations that pg_amcheck checks at once
_MOST = 20  # findings that are kept

OnWait = Callable[[], None]


class Order(Protocol):
    """The facts of a restore."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def backup_id(self) -> str: ...
    @property
    def contents(self) -> dict[str, Any]: ...
    @property
    def tables(self) -> tuple[Name, ...]: ...


@dataclass(frozen=True)
class Asserted:
    """The answers of a restored database."""

    assertions: list[dict[str, Any]] = field(default_factory=list)
    amcheck: str = ""  # its result in words; empty if it was not wanted
    found: list[str] | None = None  # by pg_amcheck; None if it did not run
    seconds: float = 0.0

    @property
    def untrue(self) -> list[str]:
        """The assertions that are false, in words."""
        return _in_words(answer for answer in self.assertions if is_untrue(answer))

    @property
    def unanswered(self) -> list[str]:
        """The assertions without an answer, in words."""
        return _in_words(answer for answer in self.assertions if answer.get("unanswered"))

    @property
    def failures(self) -> list[str]:
        """Everything that is wrong with the database, in words."""
        return [*self.untrue, *(f"pg_amcheck: {finding}" for finding in self.found or [])]

    @property
    def is_satisfied(self) -> bool:
        """Whether everything that was asked is true."""
        return not (self.failures or self.unanswered)

    @property
    def proves(self) -> bool:
        """Whether anything was asked."""
        return bool(self.assertions) or self.found is not None

    @property
    def in_result(self) -> dict[str, Any]:
        """As the row of the restore stores it."""
        result = {"assertions": self.assertions} if self.assertions else {}
        return result | ({"amcheck": self.amcheck} if self.amcheck else {})

    @property
    def evidence(self) -> dict[str, Any]:
        """As the row of the proof stores it."""
        result = self.in_result | {"found": self.found or [], "seconds": round(self.seconds, 3)}
        return result | {"differences": self.failures or self.unanswered}


def ask(
    order: Order, toolchain: Toolchain, role: Conninfo, admin: Conninfo, *, on_wait: OnWait
) -> Asserted:
    """Ask all assertions and, in a drill, pg_amcheck; the result has what is false.

    `role`, which has no rights and still owns the database, does all of it; `admin` only
    lends it amcheck. Raises PostgresError if the server fails, and what `on_wait` raises.
    """
    began = time.monotonic()
    answers = [
        {"id": key, "name": name}
        | _answer(
            why_not(
                role,
                statement,
                search_path=_search_path(order.contents),
                timeout=settings().stall_timeout,
                application_name=restore_session(order.id),
                on_wait=on_wait,
            )
        )
        for key, name, statement in _assertions_for(order)
    ]
    words, findings = "", None
    if order.kind is Kind.DRILL and settings().drill_amcheck:
        words, findings = _run_amcheck(order.id, toolchain, role, admin, on_wait)
    return Asserted(answers, words, findings, time.monotonic() - began)


def refusal(asserted: Asserted, kind: Kind) -> PostgresError:
    """The error for what is false."""
    if kind is Kind.REPLACE:
        message = "an assertion does not hold in the restored database; the live one stays"
    elif kind is Kind.REFRESH:
        message = "an assertion does not hold in the restored database; the one made before stays"
    elif asserted.untrue:
        message = "the drill found assertions that do not hold"
    else:
        message = "the drill found damage in the restored database"
    return PostgresError(
        message,
        detail="; ".join(asserted.failures),
        hint="Look at the named objects; flask assertion list shows the assertions."
        if asserted.untrue
        else "The whole dump was loaded: check the server that it was restored on, its disks and"
        " memory, and functions in indexes that do not always return the same.",
    )


def no_answer(asserted: Asserted, kind: Kind) -> NotPossible:
    """The error for what remains unknown; it says nothing about the backup."""
    message = "assertions were not answered"
    if kind is Kind.REPLACE:
        message = "assertions were not answered; the live database stays"
    elif kind is Kind.REFRESH:
        message = "assertions were not answered; the one made before stays"
    return NotPossible(
        message,
        detail="; ".join(asserted.unanswered),
        hint="Raise BACKSTOP_STALL_TIMEOUT if they need longer, or ask for less in each.",
    )


def _in_words(answers: Iterable[dict[str, Any]]) -> list[str]:
    return [f"assertion {answer['name']}: {answer['told']}" for answer in answers]


def _assertions_for(order: Order) -> list[tuple[str, str, str]]:
    """Id, name and statement of the assertions about the database that was backed up.

    None if only some of its tables were restored.
    """
    if order.tables:
        return []
    backup = db.session.get(DatabaseBackup, order.backup_id)
    database = find_database(backup.database_id) if backup else None
    kept = list_assertions(database) if database else []
    asked = [(assertion.id, assertion.name, assertion.statement) for assertion in kept]
    db.session.commit()
    return asked


def _answer(doubt: Doubt) -> dict[str, Any]:
    answer = {"passed": not doubt.reason, "told": doubt.reason or "it is true"}
    return answer | ({"unanswered": True} if doubt.is_unanswered else {})


def _search_path(contents: dict[str, Any]) -> str | None:
    """The search path of the database that was backed up; None for the default."""
    of_database = [setting for role, setting in contents.get("settings", []) if not role]
    split = (setting.partition("=") for setting in of_database)
    return next((value for name, _, value in split if name == "search_path"), None)


def _run_amcheck(
    row_id: str, toolchain: Toolchain, role: Conninfo, admin: Conninfo, on_wait: OnWait
) -> tuple[str, list[str] | None]:
    """Its result in words, and its findings; None if it could not run."""
    name = restore_session(row_id)
    with serving(admin, application_name=name, on_wait=on_wait) as server:
        missing = amcheck.why_missing(server, toolchain)
        if missing:
            return f"not available here: {missing}", None
        try:
            undo = amcheck.lend(server, role.parameters["user"], schema=admin.database)
        except ConnectError:
            raise
        except PostgresError as error:
            return f"not available here: {error.detail}", None
        try:
            with client_environment(role, private_dir()) as environment:
                supervision = Supervision(
                    environment | {"PGAPPNAME": name},
                    settings().dump_timeout,
                    on_wait,
                    partial(claims.note_process, row_id, job=Restore),
                )
                findings = amcheck.check(toolchain, role, supervision, jobs=_JOBS)
        except PostgresError as error:
            return f"not whole: {error.message}: {error.detail}", None
        finally:
            server.run_all(undo)
    logger.info("checked by pg_amcheck restore=%s found=%d", row_id, len(findings))
    number = {0: "nothing found", 1: "1 finding"}.get(len(findings), f"{len(findings)} findings")
    return number, findings[:_MOST]
