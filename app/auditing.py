"""The audit's one entrance: it records what is done by page, API or terminal.

It records every change, download and export. Routes and commands need no mark: a new
one is recorded under its own name, unless it is listed here with a reason why not.
"""

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from flask import Flask, Response, request
from flask_login import current_user
from sqlalchemy.exc import SQLAlchemyError

from app import errors
from app.extensions import db
from app.host import own_user
from app.models import ActOutcome, Trigger
from app.models.types import now
from app.services.access.sign_in import BLOCK, place_of
from app.services.audit import log as audit
from app.services.audit.acting import Act, begin_act, end_act, outcome_of

logger = logging.getLogger(__name__)

#: Routes that are not recorded although their method could change something, and why.
UNRECORDED_ROUTES = {
    "admin.appearance.update": "the colours of one browser, kept in its cookie",
    "admin.schedules.check": "shows when a schedule would be due, and saves nothing",
    "api.uploads.append": "thousands of parts; an upload's beginning and end are recorded",
}

#: Routes that are recorded although their method only reads. Those that are named
#: download or export, or answer with an attachment, need not be listed.
RECORDED_READS = {"api.settings.show": "settings.export"}

#: Commands that are not recorded, and why. `list`, `show` and `status` only read.
UNRECORDED_COMMANDS = {
    "audit.verify": "reads",
    "backup.check": "reads",
    "backup.contents": "reads",
    "backup.roles": "reads",
    "database.grants": "reads",
    "doctor": "reads, also where there is no catalogue",
    "panel": "runs until it is ended; who signs in to it is recorded",
    "schedule.next": "reads",
    "server.start": "the sample shop's own server, which needs no catalogue",
    "server.stop": "the same",
    "web": "runs until it is ended; who signs in to it is recorded",
    "worker": "runs until it is ended; its unattended work is recorded there",
}
_READING = ("list", "show", "status")
_HANDING_OUT = ("download", "export")

# One act has one name in all faces.
_VERBS = {
    "add": "create",
    "drop": "drop_kept",
    "make": "create",
    "edit": "update",
    "notes": "update",
    "remove": "delete",
    "set": "update",
}
_SINGULAR = {"copies": "copy", "settings": "settings"}
_NAMES = {
    "account.update": "admin.password",
    "backup.drill": "drill.create",
    "backup.import": "upload.finish",
    "backup.prune": "retention.prune",
    "backup.restore": "restore.create",
    "database.add_neighbours": "database.discover",
    "database.test_new": "database.test",
    "preference.update": "admin.update",
    "restore.create_drill": "drill.create",
    "settings.import": "settings.update",
    "store.export-catalogue": "store.export_catalogue",
    "store.recovery-key": "store.recovery_key",
    "store.drill-key": "store.drill_key",
    "store.test_new": "store.test",
}

# Arguments of commands that name the subject; others are not recorded.
_SUBJECTS = ("name", "filename", "username", "file")


def init_app(app: Flask) -> None:
    """Bind the audit to all HTTP requests."""
    app.before_request(_begin)
    app.after_request(_end)


def action_of_route(endpoint: str, method: str) -> str | None:
    """The action of a request; None if it is not recorded, unless it answers with a file."""
    if endpoint in RECORDED_READS and method == "GET":
        return RECORDED_READS[endpoint]
    *_, resource, verb = ["", *endpoint.split(".")]
    is_reading = method in ("HEAD", "OPTIONS") or (method == "GET" and verb not in _HANDING_OUT)
    if is_reading or endpoint in UNRECORDED_ROUTES:
        return None
    return _action(resource, verb)


def action_of_command(words: Sequence[str]) -> str | None:
    """The action of a command, from its words without `flask`; None if it is not recorded."""
    if ".".join(words) in UNRECORDED_COMMANDS or words[-1] in _READING:
        return None
    return _action(*["", *words][-2:])


@contextmanager
def recorded(ctx: click.Context) -> Iterator[None]:
    """Record a command when it has ended, however it ends."""
    action = action_of_command(_words(ctx))
    if action is None:
        yield
        return
    act = Act(
        action=action,
        face=Trigger.CLI,
        actor=own_user(),
        origin=socket.gethostname(),
        subject=_subject(ctx.params),
    )
    begin_act(act)
    try:
        yield
    except BaseException as error:
        _ended(act, error)
        raise
    finally:
        end_act()
        _record(act)


def _action(resource: str, verb: str) -> str:
    singular = _SINGULAR.get(resource, resource.removesuffix("s"))
    name = f"{singular}.{_VERBS.get(verb, verb)}".strip(".")
    return _NAMES.get(name, name)


def _begin() -> None:
    end_act()
    if request.endpoint is None:
        return
    action = action_of_route(request.endpoint, request.method)
    if action is not None:
        begin_act(_act(action))


def _act(action: str) -> Act:
    """The act of a request; the same refusal of an anonymous client is recorded once a while."""
    is_known = current_user.is_authenticated
    address = request.remote_addr or ""
    return Act(
        action=action,
        face=Trigger.API if request.path.startswith("/api/") else Trigger.ADMIN,
        actor=current_user.admin.username if is_known else "",
        origin=address if is_known else place_of(address),
        subject=str(next(iter((request.view_args or {}).values()), "")),
        quiet_since=None if is_known else now() - BLOCK,
    )


def _end(response: Response) -> Response:
    act = end_act()
    if act is None and request.method == "GET" and request.blueprint and _is_file(response):
        act = _act(_action(*request.endpoint.split(".")[-2:]))  # type: ignore[union-attr]
    if act is None or response.status_code == 304:  # noqa: PLR2004 - nothing was handed out
        return response
    if response.status_code >= 500:  # noqa: PLR2004 - whatever happened before
        act.outcome = ActOutcome.FAILED
    elif response.status_code >= 400 and act.outcome is None:  # noqa: PLR2004
        act.outcome = ActOutcome.REFUSED
    _record(act)
    return response


def _is_file(response: Response) -> bool:
    return response.headers.get("Content-Disposition", "").startswith("attachment")


def _ended(act: Act, error: BaseException) -> None:
    """Set the outcome of a command if no service has, or if its process broke down."""
    is_ours = isinstance(error, errors.AppError | click.ClickException | click.Abort)
    if act.outcome is not None and (
        is_ours or isinstance(error, SystemExit | click.exceptions.Exit)
    ):
        return  # its service has set it
    if isinstance(error, SystemExit | click.exceptions.Exit):
        code = error.code if isinstance(error, SystemExit) else error.exit_code
        if code not in (None, 0):
            act.outcome, act.detail = ActOutcome.FAILED, f"ended with status {code}"
    elif isinstance(error, click.Abort):
        act.outcome, act.detail = ActOutcome.REFUSED, "not confirmed"
    elif isinstance(error, click.ClickException):
        act.outcome, act.detail = ActOutcome.REFUSED, error.message
    elif isinstance(error, errors.AppError):
        act.outcome, act.detail = outcome_of(error), error.message
    else:
        act.outcome, act.detail = ActOutcome.FAILED, type(error).__name__


def _record(act: Act) -> None:
    """Record an act; if that fails, the log says so, because the act is already done."""
    try:
        db.session.rollback()  # whatever the act has left behind
        audit.record(act)
    except SQLAlchemyError as error:
        db.session.rollback()
        logger.error(  # noqa: TRY400 - which act it was tells more than where we stood
            "AUDIT ENTRY NOT WRITTEN action=%s actor=%r origin=%r subject=%r outcome=%s error=%r",
            act.action,
            act.actor[:255],
            act.origin,
            act.subject[:255],
            (act.outcome or ActOutcome.DONE).value,
            str(getattr(error, "orig", error)),
        )


def _words(ctx: click.Context) -> list[str]:
    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return words


def _subject(params: Mapping[str, Any]) -> str:
    for name, value in params.items():
        if isinstance(value, str) and (name in _SUBJECTS or name.endswith("_id")):
            return value
    return ""
