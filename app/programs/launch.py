"""Exec a program that ends with its parent and keeps to limits.

A script, never imported: `python -I -S launch.py PARENT MEMORY PROGRAM…`. It sets
PR_SET_PDEATHSIG, because a preexec_fn is unsafe with threads; the check of getppid covers
a parent that died before. See prctl(2): the signal comes when the *thread* that started
us ends.
"""

# The module signal itself, without its enums: their import would take a third of our time.
import _signal as signal  # type: ignore[import-not-found]
import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, memory, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the process that asked for this program is gone")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, which a program inherits
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would contain rows in plain text
    if memory:
        _limit_memory(memory)
    os.execv(program[0], program)  # noqa: S606 - a list, no shell


def _limit_memory(most: int) -> None:
    """Limit the address space; macOS rejects any such limit."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ValueError, OSError):
        if sys.platform == "linux":
            raise


if __name__ == "__main__":
    main()
