"""The last level of proof: the server's own check of a restored database, and the assertions."""

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
from app.postgres.tools import Toolchain
from app.services.databases.configured import DatabaseName, private_dir
from app.services.jobs import claims
from app.services.jobs.session_names import restore_session
from app.services.proofs.assertions import list_assertions
from app.services.proofs.records import is_untrue

logger = logging.getLogger(__name__)

_JOBS = 2  # what pg_amcheck checks at once
_TOLD = 20  # findings that are kept


OnWait = Callable[[], None]


class Order(Protocol):
    """What must be known of a restore."""

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
    """What was asked of a restored database beyond the comparison, and the answers."""

    assertions: list[dict[str, Any]] = field(default_factory=list)
    amcheck: str = ""  # in words; empty where it was not wanted
    found: list[str] | None = None  # by pg_amcheck; None where it did not look
    seconds: float = 0.0

    @property
    def untrue(self) -> list[str]:
        """The assertions that do not hold, in words."""
        return _told(each for each in self.assertions if is_untrue(each))

    @property
    def unanswered(self) -> list[str]:
        """Those of which it is not known, in words."""
        return _told(each for each in self.assertions if each.get("unanswered"))

    @property
    def failures(self) -> list[str]:
        """Everything that speaks against the database, in words."""
        return [*self.untrue, *(f"pg_amcheck: {each}" for each in self.found or [])]

    @property
    def proves(self) -> bool:
        """Whether anything was asked at all."""
        return bool(self.assertions) or self.found is not None

    @property
    def in_result(self) -> dict[str, Any]:
        """As it stands on the row of the restore."""
        told = {"assertions": self.assertions} if self.assertions else {}
        return told | ({"amcheck": self.amcheck} if self.amcheck else {})

    @property
    def evidence(self) -> dict[str, Any]:
        """As it stands on the row of the proof."""
        asked = self.in_result | {"found": self.found or [], "seconds": round(self.seconds, 3)}
        return asked | {"differences": self.failures or self.unanswered}


def ask(
    order: Order, toolchain: Toolchain, role: Conninfo, admin: Conninfo, *, on_wait: OnWait
) -> Asserted:
    """Ask all assertions and, in a drill, pg_amcheck; what is false is told, not raised.

    While the database still belongs to `role`, who has no rights and does all
    of it; `admin` only lends it amcheck. Raises PostgresError where the server
    gave way, and what `on_wait` raises.
    """
    began = time.monotonic()
    asked = [
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
    words, found = "", None
    if order.kind is Kind.DRILL and settings().drill_amcheck:
        words, found = _run_amcheck(order.id, toolchain, role, admin, on_wait)
    return Asserted(asked, words, found, time.monotonic() - began)


def refusal(asserted: Asserted, kind: Kind) -> PostgresError:
    """The error that tells what does not hold."""
    if kind is Kind.REPLACE:
        message = "an assertion does not hold in the restored database; the living one stays"
    elif asserted.untrue:
        message = "the drill found assertions that do not hold"
    else:
        message = "the drill found damage in the restored database"
    return PostgresError(
        message,
        detail="; ".join(asserted.failures),
        hint="Look at what it names; flask assertion list shows what is asked."
        if asserted.untrue
        else "The dump was loaded whole: look at the server that was restored on, its disks"
        " and memory, and at functions in indexes that do not always answer the same.",
    )


def no_answer(asserted: Asserted, kind: Kind) -> NotPossible:
    """The error that tells what is not known to hold; it says nothing of the backup."""
    stays = "; the living database stays" if kind is Kind.REPLACE else ""
    return NotPossible(
        f"assertions were not answered{stays}",
        detail="; ".join(asserted.unanswered),
        hint="Raise BACKSTOP_STALL_TIMEOUT if they need longer, or ask for less in each.",
    )


def _told(answers: Iterable[dict[str, Any]]) -> list[str]:
    return [f"assertion {each['name']}: {each['told']}" for each in answers]


def _assertions_for(order: Order) -> list[tuple[str, str, str]]:
    """Those of the database that was backed up; no transaction stays open meanwhile.

    None where only some tables are there: they speak of the whole.
    """
    if order.tables:
        return []
    backup = db.session.get(DatabaseBackup, order.backup_id)
    kept = list_assertions(DatabaseName(backup.server, backup.database)) if backup else []
    found = [(each.id, each.name, each.statement) for each in kept]
    db.session.commit()
    return found


def _answer(doubt: Doubt) -> dict[str, Any]:
    answer = {"passed": not doubt.told, "told": doubt.told or "it is true"}
    return answer | ({"unanswered": True} if doubt.is_unanswered else {})


def _search_path(contents: dict[str, Any]) -> str | None:
    """Where the database that was backed up looks for names; None for the default."""
    of_database = [setting for role, setting in contents.get("settings", []) if not role]
    split = (setting.partition("=") for setting in of_database)
    return next((value for name, _, value in split if name == "search_path"), None)


def _run_amcheck(
    row_id: str, toolchain: Toolchain, role: Conninfo, admin: Conninfo, on_wait: OnWait
) -> tuple[str, list[str] | None]:
    """What it says, and what it has found; that is None where it could not be run."""
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
                found = amcheck.check(
                    toolchain,
                    role,
                    jobs=_JOBS,
                    timeout=settings().dump_timeout,
                    environment=environment | {"PGAPPNAME": name},
                    on_tick=on_wait,
                    on_start=partial(claims.note_process, row_id, job=Restore),
                )
        except PostgresError as error:
            return f"not whole: {error.message}: {error.detail}", None
        finally:
            server.run_all(undo)
    logger.info("checked by pg_amcheck restore=%s found=%d", row_id, len(found))
    number = {0: "nothing found", 1: "1 finding"}.get(len(found), f"{len(found)} findings")
    return number, found[:_TOLD]
