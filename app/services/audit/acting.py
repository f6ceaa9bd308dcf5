"""The act that is under way, and what came of it: said by the service that does it.

A face begins an act, and says what of it only a face can know. Whether it was
done, refused or failed says the service function that does it (`acting`): by
returning, by its error, or in its own words (`tell`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import g, has_app_context

from app import errors
from app.models import ActOutcome, Trigger

P = ParamSpec("P")
R = TypeVar("R")

#: Errors that say: nothing was done.
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
    """What somebody does, and what is to be recorded of it."""

    action: str  # the resource and what is done with it: backup.delete
    face: Trigger
    actor: str = ""  # nobody is signed in
    origin: str = ""  # an address, or a host
    subject: str = ""
    outcome: ActOutcome | None = None  # None: no service has said it
    detail: str = ""
    #: Not recorded again if the same was refused, or has failed, since then.
    quiet_since: datetime | None = None
    is_served: bool = False  # a service function is at it


def begin_act(act: Act) -> None:
    """From now on until `end_act`, this is what is done."""
    g.act = act


def end_act() -> Act | None:
    """What was done, if it is to be recorded."""
    act: Act | None = g.pop("act", None)
    return act


def tell(**known: Any) -> None:
    """Add what is known to the act that is under way; nothing where none is."""
    act = _act()
    for name, value in known.items() if act else ():
        setattr(act, name, value)


def refuse(detail: str, *, is_broken: bool = False) -> None:
    """Say of a face why it does not do what was asked.

    The word of a service stands, but where something `is_broken` afterwards.
    """
    act = _act()
    if act is not None and (is_broken or act.outcome is None):
        act.outcome, act.detail = _BROKEN[is_broken], detail


def outcome_of(error: BaseException) -> ActOutcome:
    """Whether an error says that nothing was done, or that something broke on the way."""
    return ActOutcome.REFUSED if isinstance(error, _REFUSALS) else ActOutcome.FAILED


def acting(service: Callable[P, R]) -> Callable[P, R]:
    """A service function that does what an act is about: how it ends is what came of that."""

    @wraps(service)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        act = _act()
        if act is None or act.is_served:  # of another one that does the whole
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
