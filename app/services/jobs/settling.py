"""Settle jobs of dead runners; each kind of job registers how."""

from collections.abc import Callable
from dataclasses import dataclass, field

from app.services.jobs import claims


@dataclass
class Reconciled:
    """What was repaired, by filename."""

    completed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)  # programs of dead runners
    removed: list[str] = field(default_factory=list)  # partials and lone manifests
    unknown: list[str] = field(default_factory=list)  # complete files without a row


Settle = Callable[[Reconciled], None]
_settlers: list[Settle] = []


def settles(settle: Settle) -> Settle:
    """Register a function that ends the dead jobs of one kind."""
    _settlers.append(settle)
    return settle


def settle_dead_jobs(report: Reconciled | None = None) -> None:
    """End the jobs of dead runners, and do nothing else; cheap enough to call often."""
    report = report or Reconciled()
    for settle in _settlers:
        settle(report)


def end_program(process: str | None, filename: str, report: Reconciled) -> None:
    """End the program that a dead runner has left running."""
    if process is not None and claims.end_process(process):
        report.ended.append(filename)
