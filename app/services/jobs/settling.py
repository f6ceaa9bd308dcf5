"""Jobs whose runner is gone: each kind of job ends its own, whoever asks."""

from collections.abc import Callable
from dataclasses import dataclass, field

from app.services.jobs import claims


@dataclass
class Reconciled:
    """What was found and mended; all by filename."""

    completed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)  # whose program still ran
    removed: list[str] = field(default_factory=list)  # partials and lone manifests
    unknown: list[str] = field(default_factory=list)  # complete files without a row


Settle = Callable[[Reconciled], None]
_settlers: list[Settle] = []


def settles(settle: Settle) -> Settle:
    """Register what ends the dead jobs of one kind."""
    _settlers.append(settle)
    return settle


def settle_dead_jobs(report: Reconciled | None = None) -> None:
    """End what has lost its runner, and look at nothing else: it may be asked often."""
    report = report or Reconciled()
    for settle in _settlers:
        settle(report)


def end_program(process: str | None, filename: str, report: Reconciled) -> None:
    """End what a runner that is gone has left running."""
    if process is not None and claims.end_process(process):
        report.ended.append(filename)
