"""The act that is under way: what a face and the services know of it until it has ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import g

from app.models import ActOutcome, Trigger


@dataclass
class Act:
    """What somebody does, and what is to be recorded of it."""

    action: str  # the resource and what is done with it: backup.delete
    face: Trigger
    actor: str = ""  # nobody is signed in
    origin: str = ""  # an address, or a host
    subject: str = ""
    outcome: ActOutcome = ActOutcome.DONE
    detail: str = ""
    #: Not recorded as refused if the same refusal has been since then.
    quiet_since: datetime | None = None


def begin_act(act: Act) -> None:
    """From now on until `end_act`, this is what is done."""
    g.act = act


def end_act() -> Act | None:
    """What was done, if it is to be recorded."""
    act: Act | None = g.pop("act", None)
    return act


def tell(**known: Any) -> None:
    """Add what is known to the act that is under way; nothing where none is."""
    act = g.get("act")
    for name, value in known.items() if act else ():
        setattr(act, name, value)
