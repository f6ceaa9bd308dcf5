"""Programs are run to an end in any case: real ones, mostly a shell."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.errors import ToolError
from app.programs import command
from app.programs.command import Bounds, Outcome, Watch
from tests.postgres.conftest import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")


class Told(Exception):
    """What a caller raises while a program runs."""


def run(
    argv: list[str], *, bound: bool = True, memory: int = 0, timeout: float, **options: Any
) -> Outcome:
    """Run a program; its callbacks are given by their names."""
    callbacks = {name: options.pop(name) for name in list(options) if name.startswith("on_")}
    bounds = Bounds(memory) if bound else None
    return command.run(argv, timeout=timeout, bounds=bounds, watch=Watch(**callbacks), **options)


def shell(script: str, **options: object) -> Outcome:
    """Run a shell script; `bound` or not is the same to most tests."""
    options = {"timeout": PATIENCE, "bound": False} | options
    return run(["/bin/sh", "-c", script], **options)


def runs(pid: int) -> bool:
    """Whether the process does something still; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def pids_told() -> Iterator[list[int]]:
    """Collects the numbers that a program writes as lines; ends those processes at last."""
    pids: list[int] = []
    try:
        yield pids
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# How a program ends


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_the_exit_status_is_told(status: int, bound: bool):
    assert shell(f"exit {status}", bound=bound).status == status


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_that_ended_the_program_is_told_as_a_negative_status(
    number: signal.Signals, bound: bool
):
    assert shell(f"kill -{number.name[3:]} $$", bound=bound).status == -number


@pytest.mark.parametrize("bound", [True, False])
def test_a_program_that_is_not_there_is_an_error_that_names_it(bound: bool):
    with pytest.raises(ToolError, match="/nowhere/pg_dump cannot be started") as refused:
        run(["/nowhere/pg_dump", "--version"], timeout=PATIENCE, bound=bound)
    assert "No such file or directory" in refused.value.detail


@pytest.mark.parametrize("bound", [True, False])
def test_a_program_that_may_not_be_run_is_an_error_that_names_it(bound: bool, tmp_path: Path):
    program = tmp_path / "pg_dump"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o600)
    with pytest.raises(ToolError, match="pg_dump cannot be started") as refused:
        run([program], timeout=PATIENCE, bound=bound)
    assert "Permission denied" in refused.value.detail


# What it says


def test_output_and_log_are_told_apart():
    lines: list[str] = []
    outcome = shell("echo out; echo one >&2; echo two >&2", on_line=lines.append)
    assert outcome == Outcome(0, "out\n", "one\ntwo")
    assert lines == ["one", "two"]


def test_a_last_line_without_an_end_is_told_too():
    lines: list[str] = []
    outcome = shell("printf 'whole\\npart' >&2", on_line=lines.append)
    assert lines == ["whole", "part"]
    assert outcome.log == "whole\npart"


def test_a_line_is_told_while_the_program_still_runs():
    def end_it(line: str) -> None:
        raise Told(line)

    with pytest.raises(Told, match="first"):
        shell("echo first >&2; exec sleep 60", on_line=end_it)


def test_a_line_that_comes_in_pieces_is_told_once_and_whole(tmp_path: Path):
    lines: list[str] = []
    second = tmp_path / "second half may come"
    script = f"printf 'one ' >&2; until [ -e '{second}' ]; do sleep 0.02; done; echo line >&2"
    ticks = iter(range(1_000))

    def tick() -> None:
        if next(ticks) == 1:  # so the first piece has been read
            second.touch()

    assert shell(script, on_line=lines.append, on_tick=tick).log == "one line"
    assert lines == ["one line"]


def test_bytes_that_are_no_text_do_not_stop_the_reading():
    outcome = shell(r"printf 'gr\303\274n \377\n' >&2; printf '\377'")
    assert outcome.log == "grün \N{REPLACEMENT CHARACTER}"
    assert outcome.output == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("bound", [True, False])
def test_both_pipes_may_be_full_at_once(bound: bool):
    lines: list[str] = []
    outcome = shell(
        "yes out 2> /dev/null | head -c 2000000 &"
        " yes errors 2> /dev/null | head -c 2100000 >&2; wait",
        bound=bound,
        on_line=lines.append,
    )
    assert outcome.status == 0
    assert len(outcome.output) == 2_000_000
    assert len(lines) == 300_000
    assert set(lines) == {"errors"}


def test_a_long_log_keeps_both_ends_and_counts_the_gap():
    outcome = shell("seq 1 10000 >&2")
    lines = outcome.log.split("\n")
    assert lines[:3] == ["1", "2", "3"]
    assert lines[1999:2002] == ["2000", "[… 6000 lines left out …]", "8001"]
    assert lines[-1] == "10000"
    assert len(lines) == 4001


@pytest.mark.parametrize("count", [0, 1, 2000, 2001, 4000])
def test_a_log_that_is_not_too_long_is_kept_whole(count: int):
    log = command.Log()
    for number in range(count):
        log.add(str(number))
    assert log.text() == "\n".join(map(str, range(count)))


def test_secrets_are_starred_in_lines_and_log():
    lines: list[str] = []
    outcome = shell(
        "echo 'password=s3cr;t, again s3cr;t; as a URL s3cr%3Bt' >&2; printf 's3cr;t' >&2",
        secrets=["s3cr;t", "s3cr%3Bt"],
        on_line=lines.append,
    )
    assert lines == ["password=*****, again *****; as a URL *****", "*****"]
    assert outcome.log == "\n".join(lines)


# What it is given


def test_our_own_settings_are_not_handed_on(monkeypatch: pytest.MonkeyPatch):
    ours = ["DATABASE_URL", "DATABASE_URL_FILE", "SECRET_KEY", "SECRET_KEY_FILE"]
    ours += ["BACKSTOP_ADMIN_PASSWORD", "BACKSTOP_QUEUE_URL"]
    for name in ours:
        monkeypatch.setenv(name, "canary")
    for bound in (True, False):
        assert "canary" not in run(["/usr/bin/env"], timeout=PATIENCE, bound=bound).output


def test_the_rest_of_the_environment_is_handed_on_in_plain_c(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGSSLROOTCERT", "/some/root.crt")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    given = run(
        ["/usr/bin/env"], environment={"PGAPPNAME": "backstop: ü"}, timeout=PATIENCE
    ).output.split("\n")
    assert "PGSSLROOTCERT=/some/root.crt" in given
    assert "PGAPPNAME=backstop: ü" in given
    assert "LC_ALL=C" in given
    assert "LANGUAGE=C" in given


@pytest.mark.parametrize("bound", [True, False])
def test_arguments_arrive_as_they_are(bound: bool):
    words = ["a b", "$HOME", "it's", '"', "*", "", "größe", "-x", "\n"]
    outcome = run(
        [PYTHON, "-S", "-X", "utf8", "-c", "import sys; print(sys.argv[1:])", *words],
        timeout=PATIENCE,
        bound=bound,
    )
    assert outcome.output == f"{words}\n"


@pytest.mark.parametrize("bound", [True, False])
def test_files_of_a_program_are_private(bound: bool, tmp_path: Path):
    assert shell(f"echo secret > '{tmp_path}/file'", bound=bound).status == 0
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("bound", [True, False])
def test_a_program_that_asks_gets_no_answer(bound: bool):
    assert shell("read answer", bound=bound).status == 1


@only_linux
@pytest.mark.parametrize("bound", [True, False])
def test_a_program_gets_no_descriptor_of_ours(bound: bool, tmp_path: Path):
    with (tmp_path / "ours").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        outcome = run(["/bin/ls", "-l", "/proc/self/fd"], timeout=PATIENCE, bound=bound)
    assert str(tmp_path) not in outcome.output


@only_linux
@pytest.mark.parametrize("bound", [True, False])
def test_a_program_dies_of_a_broken_pipe_as_usual(bound: bool):
    # Python ignores both; to hand that on would let a bound program go on for long
    # after whoever listened to it is gone.
    told = run(["/bin/grep", "SigIgn", "/proc/self/status"], timeout=PATIENCE, bound=bound)
    ignored = int(told.output.split()[1], 16)
    assert not ignored & 1 << signal.SIGPIPE - 1
    assert not ignored & 1 << signal.SIGXFSZ - 1


@only_linux
def test_memory_is_limited():
    program = [PYTHON, "-S", "-c", "import mmap; mmap.mmap(-1, 1 << 30)"]
    assert run(program, timeout=PATIENCE).status == 0
    outcome = run(program, timeout=PATIENCE, memory=512 << 20)
    assert outcome.status == 1
    assert "Cannot allocate memory" in outcome.log


# How it is ended


@pytest.mark.parametrize("bound", [True, False])
def test_a_program_that_takes_too_long_is_ended_with_its_children(bound: bool):
    with pids_told() as pids:
        with pytest.raises(TimeoutError):
            shell(
                "echo $$ >&2; sleep 60 & echo $! >&2; wait",
                bound=bound,
                timeout=0.4,
                on_line=lambda line: pids.append(int(line)),
            )
        assert len(pids) == 2
        for pid in pids:
            wait_until(lambda pid=pid: not runs(pid), "the group ends")


def test_a_program_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "_GRACE", 0.1)
    with pids_told() as pids:
        with pytest.raises(TimeoutError):
            shell(
                "trap '' TERM; echo $$ >&2; while :; do sleep 60; done",
                timeout=0.4,
                on_line=lambda line: pids.append(int(line)),
            )
        assert not runs(pids[0])


def test_a_program_that_tidies_up_on_sigterm_is_given_the_time(tmp_path: Path):
    with pytest.raises(Told):
        shell(
            f"trap 'touch \"{tmp_path}/tidy\"; exit' TERM; echo ready >&2; exec 2> /dev/null;"
            " while :; do sleep 0.05; done",
            on_line=raising(Told),
        )
    assert (tmp_path / "tidy").exists()


def test_a_child_that_ignores_sigterm_does_not_outlive_its_parent(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(command, "_GRACE", 0.1)
    with pids_told() as pids:
        with pytest.raises(TimeoutError):
            shell(
                "(trap '' TERM; exec sleep 60) & echo $! >&2; wait",
                timeout=0.4,
                on_line=lambda line: pids.append(int(line)),
            )
        wait_until(lambda: not runs(pids[0]), "the child ends", patience=3)


def test_a_child_that_holds_the_pipes_does_not_outlive_the_timeout():
    with pids_told() as pids:
        with pytest.raises(TimeoutError):
            shell(
                "sleep 60 & echo $! >&2",
                timeout=0.4,
                on_line=lambda line: pids.append(int(line)),
            )
        wait_until(lambda: not runs(pids[0]), "the child ends", patience=3)


def test_a_program_that_closes_its_pipes_can_take_too_long_too():
    with pytest.raises(TimeoutError):
        shell("exec >&- 2>&-; exec sleep 60", timeout=0.2)


def test_a_program_that_closes_its_pipes_is_still_looked_after():
    start = time.monotonic()

    def tick() -> None:
        if time.monotonic() > start + 0.5:
            raise Told

    with pytest.raises(Told):
        shell("exec >&- 2>&-; exec sleep 60", timeout=3, on_tick=tick)


def raising(what: type[BaseException]) -> Callable[..., None]:
    def callback(*_: object) -> None:
        raise what

    return callback


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("error", [Told, KeyboardInterrupt, SystemExit])
def test_what_on_tick_raises_ends_the_program_and_comes_out(
    bound: bool, error: type[BaseException]
):
    with pids_told() as pids:

        def tick() -> None:
            if pids:
                raise error

        with pytest.raises(error):
            shell(
                "echo $$ >&2; exec sleep 60",
                bound=bound,
                on_line=lambda line: pids.append(int(line)),
                on_tick=tick,
            )
        assert not psutil.pid_exists(pids[0])


def test_what_on_line_raises_ends_the_program_and_comes_out():
    with pids_told() as pids:

        def hear(line: str) -> None:
            pids.append(int(line))
            raise Told

        with pytest.raises(Told):
            shell("echo $$ >&2; exec sleep 60", on_line=hear)
        assert not psutil.pid_exists(pids[0])


def test_what_on_line_raises_at_the_last_line_comes_out():
    with pytest.raises(Told):
        shell("printf last >&2", on_line=raising(Told))


def test_a_silent_program_is_looked_at_several_times_a_second():
    moments: list[float] = []
    shell("sleep 1", on_tick=lambda: moments.append(time.monotonic()))
    assert len(moments) >= 3


def test_the_caller_s_own_group_is_left_alone():
    group = shell("ps -o pgid= -p $$ >&2").log
    assert int(group) != os.getpgrp()


def test_nothing_stays_open_afterwards():
    def count() -> int:
        return psutil.Process().num_fds()

    before = count()
    shell("echo x")
    with suppress(TimeoutError):
        shell("sleep 60", timeout=0.1)
    assert count() == before


# A bound program ends with the one who runs it

RUN_SLEEP = """
import sys, threading
from app.programs.command import Watch, run

def attend():
    run(["/bin/sh", "-c", "echo $$ >&2; exec sleep 60"], timeout=60,
        watch=Watch(on_line=lambda line: print(line, flush=True)))

if sys.argv[1] == "thread":
    thread = threading.Thread(target=attend)
    thread.start()
    thread.join()
else:
    attend()
"""


@only_linux
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_bound_program_ends_when_its_process_is_killed(where: str):
    runner = subprocess.Popen(
        [PYTHON, "-c", RUN_SLEEP, where], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
    )  # fmt: skip
    with runner, pids_told() as pids:
        pids.append(int(runner.stdout.readline()))
        assert runs(pids[0])
        runner.kill()
        wait_until(lambda: not runs(pids[0]), "the bound program ends")


def test_a_bound_program_lives_on_when_another_thread_ends():
    started, may_end = threading.Event(), threading.Event()

    def attend() -> None:
        outcomes.append(
            shell(
                "echo $$ >&2; read answer < /dev/null; exec sleep 1",
                bound=True,
                on_line=lambda _: started.set(),
            )
        )

    outcomes: list[Outcome] = []
    runner = threading.Thread(target=attend)
    other = threading.Thread(target=may_end.wait)
    other.start()
    runner.start()
    assert started.wait(PATIENCE)
    may_end.set()
    other.join()
    runner.join()
    assert [each.status for each in outcomes] == [0]


LAUNCH = [PYTHON, str(ROOT / "app/programs/launch.py")]


def test_a_program_is_not_started_when_its_parent_is_gone_already():
    told = subprocess.run(
        [*LAUNCH, "1", "0", "/bin/echo", "started"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 1
    assert told.stdout == ""
    assert "is gone" in told.stderr


@only_linux
def test_limits_hold_before_the_program_is_started():
    told = subprocess.run(
        [*LAUNCH, str(os.getpid()), str(1 << 30), "/bin/sh", "-c", "ulimit -v"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(told.stdout) == 1 << 20  # KiB


def test_the_launcher_says_which_program_it_cannot_start():
    told = subprocess.run(
        [*LAUNCH, str(os.getpid()), str(1 << 30), "/nowhere/pg_dump"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode != 0
    assert "No such file or directory" in told.stderr


def test_a_clock_that_is_set_meanwhile_ends_nothing(monkeypatch: pytest.MonkeyPatch):
    """time.sleep fails then: it waits for a point in time."""

    def fail(_seconds: float) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(time, "sleep", fail)
    assert shell("exec >&- 2>&-; sleep 0.2; exit 3").status == 3
    with pytest.raises(TimeoutError):
        command.run(["/bin/sh", "-c", "trap '' TERM; sleep 60"], timeout=0.2)
