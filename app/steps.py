"""The steps of a test of something outside: a server, or a store."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.errors import AppError


@dataclass(frozen=True)
class Step:
    """One step of a test."""

    name: str
    passed: bool | None  # None: not tried, advice, or not to be told
    detail: str
    hint: str = ""


def is_passed(steps: Sequence[Step]) -> bool:
    """Whether no step has failed."""
    return all(step.passed is not False for step in steps)


def failed_step(name: str, error: AppError) -> Step:
    """The step that an error has ended."""
    detail = f"{error.message}: {error.detail}" if error.detail else error.message
    return Step(name, False, detail, error.hint)


def untried(names: Iterable[str]) -> Iterator[Step]:
    """The steps after one that has failed."""
    return (Step(name, None, "not tried") for name in names)
