"""The current act, for the audit.

A face begins an act, with the facts that only a face knows. The service function that
performs it (`acting`) sets its outcome: by returning, by its error, or explicitly (`tell`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import g, has_app_context

from app import errors
from app.models import ActOutcome, Trigger
from app.steps import Step

P = ParamSpec("P")
R = TypeVar("R")

#: Errors after which nothing was done.
_REFUSALS = (
    errors.NotFound,
    errors.Conflict,
    errors.InvalidInput,
    errors.NotSignedIn,
    errors.Forbidden,
    errors.TooManyAttempts,
    errors.ObjectMissing,
    errors.NotPossible,
    errors.Busy,
)

_BROKEN = {False: ActOutcome.REFUSED, True: ActOutcome.FAILED}


@dataclass
class Act:
    """What somebody does, as the audit records it."""

    action: str  # the resource and what is done with it: backup.delete
    face: Trigger
    actor: str = ""  # empty: nobody is signed in
    origin: str = ""  # an address, or a host
    subject: str = ""
    outcome: ActOutcome | None = None  # None: not set by a service yet
    detail: str = ""
    #: A refusal or failure is not recorded again if the same happened since then.
    quiet_since: datetime | None = None
    is_served: bool = False  # a service function performs it


def begin_act(act: Act) -> None:
    """Make this the current act, until `end_act`."""
    g.act = act


def end_act() -> Act | None:
    """End the current act and return it, if there is one."""
    act: Act | None = g.pop("act", None)
    return act


def tell(**known: Any) -> None:
    """Add facts to the current act, if there is one."""
    act = _act()
    for name, value in known.items() if act else ():
        setattr(act, name, value)


def tell_steps(subject: str, steps: Sequence[Step]) -> None:
    """Add what a test was about, and which of its steps have failed."""
    failed = [step.name for step in steps if step.passed is False]
    tell(
        subject=subject,
        outcome=ActOutcome.FAILED if failed else ActOutcome.DONE,
        detail=f"failed: {', '.join(failed)}" if failed else "",
    )


def refuse(detail: str, *, is_broken: bool = False) -> None:
    """Record why a face does not do what was requested.

    The outcome of a service takes precedence, unless something `is_broken` afterwards.
    """
    act = _act()
    if act is not None and (is_broken or act.outcome is None):
        act.outcome, act.detail = _BROKEN[is_broken], detail


def outcome_of(error: BaseException) -> ActOutcome:
    """The outcome that an error stands for."""
    return ActOutcome.REFUSED if isinstance(error, _REFUSALS) else ActOutcome.FAILED


def acting(service: Callable[P, R]) -> Callable[P, R]:
    """Mark a service function that performs acts: how it ends is the outcome."""

    @wraps(service)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        act = _act()
        if act is None or act.is_served:  # another function performs the act
            return service(*args, **kwargs)
        act.is_served, act.outcome = True, None
        try:
            result = service(*args, **kwargs)
        except errors.AppError as error:
            act.outcome, act.detail = outcome_of(error), error.message
            raise
        finally:
            act.is_served = False
        act.outcome = act.outcome or ActOutcome.DONE
        return result

    return recorded


def _act() -> Act | None:
    return g.get("act") if has_app_context() else None
