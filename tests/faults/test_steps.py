"""A signal before and after every step of publishing, deleting, renaming and mending."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.config import ROOT
from tests.faults.lab import USUAL_N, Lab, N, chance

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]


class Stepper:
    """Runs flask commands that get a signal at a step of ours (steps.py)."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._names = lab.folder / "steps.json"
        private = lab.settings.instance_dir / "private"
        with (lab.folder / "steps.log").open("w") as log:
            self.process = psutil.Popen(
                [sys.executable, str(Path(__file__).with_name("steps.py"))],
                cwd=ROOT,
                env=lab.environment(FOLDERS=f"{lab.backups}{os.pathsep}{private}"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run(
        self, *words: str, step: int = 0, when: str = "", number: int = 0, statements: bool = False
    ) -> int:
        order = {"words": words, "step": step, "when": when, "signal": number}
        order |= {"statements": statements, "names": str(self._names)}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def names(self, *words: str, statements: bool = False) -> list[str]:
        """The names of all steps of a command that is let to its end."""
        assert self.run(*words, statements=statements) == 0, (
            self.lab.folder / "steps.log"
        ).read_text()
        return json.loads(self._names.read_text())

    def run_to(
        self, name: str, prepare: Callable[[], list[str]], step: int, when: str, number: int
    ) -> int:
        """Signal a command at a step; again if a commit that time brings has moved that."""
        for _ in range(10):
            status = self.run(*prepare(), step=step, when=when, number=number)
            names = json.loads(self._names.read_text())
            if len(names) < step or _kind(names[step - 1]) == _kind(name):
                return status
            self.lab.check(self.process)
        raise AssertionError(f"step {step} is not {name}, but {names}")

    def at_each_step(
        self,
        prepare: Callable[[], list[str]],
        state: Callable[[], str],
        *,
        least: int,
        number: signal.Signals = signal.SIGKILL,
        moments: tuple[str, ...] = ("before", "after"),
        statements: bool = False,
        exact: bool = False,
    ) -> list[tuple[str, str]]:
        """Signal a command at each of its steps; the state that each came to, after the oracle.

        A command is made ready by `prepare`, which returns its words; it must
        have `least` steps; a usual run signals a third of them, the first and the last one
        among them. `statements`: those of the server alone. `exact`: all runs take
        the same steps, but for commits that time brings.
        """
        names = self.names(*prepare(), statements=statements)
        self.lab.check(self.process)
        for _ in range(2 if exact else 0):  # the shortest has none of those commits
            names = min(names, self.names(*prepare(), statements=statements), key=len)
            self.lab.check(self.process)
        assert len(names) >= least, names
        came_to: list[tuple[str, str]] = []
        for step, name in _sample(list(enumerate(names, 1))):
            for when in moments:
                told = f"{when} step {step} of {len(names)}: {name}"
                try:
                    if exact:
                        status = self.run_to(name, prepare, step, when, number)
                    else:
                        signalled = {"step": step, "when": when, "number": number}
                        status = self.run(*prepare(), **signalled, statements=statements)
                    # Asked to end when there was nothing left to be ended, it is done.
                    done = {0} if number == signal.SIGTERM else set()
                    assert status in {-number, 128 + number} | done
                    assert status != 0 or self.lab.rows()[self.lab.newest()].is_completed
                    self.lab.check(self.process)
                    came_to.append((state(), told))
                except BaseException as error:
                    error.add_note(f"{number.name} {told}")
                    raise
        return came_to


def _sample(steps: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """In a usual run a third of them, another one for each seed; otherwise all."""
    if N > USUAL_N:
        return steps
    first = chance("steps").randrange(1, 4)
    return [steps[0], *steps[first:-1:3], steps[-1]]


def _kind(name: str) -> str:
    """The name of a step without what differs from run to run."""
    return re.sub(r"[0-9a-f]{8,}|[0-9]", "", name)


@pytest.fixture
def stepper(make_lab: Callable[..., Lab]) -> Iterator[Stepper]:
    stepper = Stepper(make_lab())
    with stepper.process:
        yield stepper
        stepper.process.stdin.close()


def turns_once(came_to: list[tuple[str, str]], first: str, last: str) -> None:
    """From one step on, and from there always, the command counts as done."""
    states = [state for state, _ in came_to]
    done = states.index(last) if last in states else len(states)
    expected = [first] * done + [last] * (len(states) - done)
    assert states == expected, "\n".join(f"{state}: {told}" for state, told in came_to)
    assert (states[0], states[-1]) == (first, last), came_to


def tell(record_property: Callable[[str, object], None], verb: str, kills: int) -> None:
    record_property("faults", f"{verb}, at each step: {kills} signals")


def test_a_create_that_is_killed_at_any_step_is_whole_or_nothing(
    stepper: Stepper, record_property: Callable[[str, object], None]
):
    lab = stepper.lab
    before: set[str] = set()

    def prepare() -> list[str]:
        before.clear()
        before.update(lab.rows())
        return ["backup", "create", "--quiet", "--notes", "mine"]

    def state() -> str:
        made = [
            row.status.value
            for name, row in lab.rows().items()
            if row.notes == "mine" and name not in before | lab.waited
        ]
        return made[0] if made else "FAILED"  # not begun, or only asked for

    came_to = stepper.at_each_step(prepare, state, least=8, exact=True)
    turns_once(came_to, "FAILED", "COMPLETED")
    tell(record_property, "create", len(came_to))


def test_a_create_that_is_asked_to_end_at_any_step_is_whole_or_nothing(
    stepper: Stepper, record_property: Callable[[str, object], None]
):
    came_to = stepper.at_each_step(
        lambda: ["backup", "create", "--quiet"],
        str,
        least=8,
        number=signal.SIGTERM,
        moments=("after",),
    )
    tell(record_property, "create, asked to end", len(came_to))


def test_a_create_that_is_asked_to_end_leaves_nothing_for_a_worker_to_run(stepper: Stepper):
    step = {"step": 1, "when": "after", "number": signal.SIGTERM}
    assert stepper.run("backup", "create", "--quiet", **step) == 128 + signal.SIGTERM
    # Whoever presses Ctrl-C between the row and its claim does not want the backup any more.
    assert not [name for name, row in stepper.lab.rows().items() if row.is_pending]


def test_a_delete_that_is_killed_at_any_step_is_finished_or_was_never_begun(
    stepper: Stepper, record_property: Callable[[str, object], None]
):
    lab = stepper.lab
    lab.make_backup()
    names: list[str] = []

    def prepare() -> list[str]:
        names.append(lab.newest())
        lab.forget(names[-1])
        return ["backup", "delete", "--yes", names[-1]]

    def state() -> str:
        return "there" if names[-1] in lab.rows() else "gone"

    came_to = stepper.at_each_step(prepare, state, least=5)
    turns_once(came_to, "there", "gone")
    tell(record_property, "delete", len(came_to))


def test_notes_whose_edit_is_killed_at_any_step_are_the_old_or_the_new(
    stepper: Stepper, record_property: Callable[[str, object], None]
):
    lab = stepper.lab
    lab.make_backup()
    names: list[str] = []

    def prepare() -> list[str]:
        names.append(lab.newest())
        lab.forget(names[-1])
        return ["backup", "notes", names[-1], "edited"]

    def state() -> str:
        return "new" if lab.rows()[names[-1]].notes == "edited" else "old"

    came_to = stepper.at_each_step(prepare, state, least=5)
    turns_once(came_to, "old", "new")
    tell(record_property, "notes", len(came_to))


def test_a_reconcile_that_is_killed_at_any_step_is_finished_by_the_next(
    stepper: Stepper, record_property: Callable[[str, object], None]
):
    lab = stepper.lab
    published = doomed = ""

    def prepare() -> list[str]:
        nonlocal published, doomed
        published, doomed = lab.wreck()
        return ["backup", "reconcile"]

    def state() -> str:
        rows = lab.rows()
        return "mended" if rows[published].is_completed and doomed not in rows else "not mended"

    came_to = stepper.at_each_step(prepare, state, least=10)
    assert {state for state, _ in came_to} == {"mended"}, came_to
    tell(record_property, "reconcile", len(came_to))


def test_a_create_says_so_only_when_everything_is_durable(stepper: Stepper):
    # No kill shows what a power cut would: the order of the steps does.
    names = stepper.names("backup", "create", "--quiet")
    dump = stepper.lab.newest()
    manifest = f"{dump}.json"
    assert in_order(
        names,
        f"fsync {dump}",
        f"fsync {manifest}.",
        f"link {manifest}.",
        f"link {dump} {dump}",
        "fsync backups",
        "commit",
    )


def test_a_delete_forgets_the_row_only_when_the_files_are_gone_for_good(stepper: Stepper):
    name = stepper.lab.make_backup()
    names = stepper.names("backup", "delete", "--yes", name)
    steps = ("commit", f"unlink {name}", f"unlink {name}.json", "fsync backups", "commit")
    assert in_order(names, *steps)


def test_a_reconcile_makes_a_published_name_durable_before_it_says_so(stepper: Stepper):
    published = stepper.lab.make_backup()
    stepper.lab.lose_runner_of(published)
    names = stepper.names("backup", "reconcile")
    assert stepper.lab.rows()[published].is_completed
    # The runner may have died between the link and the fsync of the folder.
    assert in_order(names, "fsync backups", "commit"), names


def in_order(names: list[str], *beginnings: str) -> bool:
    """Whether steps that begin like these come one after another, others between them or not."""
    left = iter(names)
    return all(any(name.startswith(each) for name in left) for each in beginnings)
