"""What every program that works on a restored database is given while it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.programs import command


@dataclass(frozen=True)
class Supervision:
    """The program's environment and time limit, and the callbacks that watch it."""

    environment: Mapping[str, str]
    timeout: float  # seconds
    on_tick: Callable[[], None]  # called several times a second; an error ends the program
    on_start: command.Start = None  # receives the process id
