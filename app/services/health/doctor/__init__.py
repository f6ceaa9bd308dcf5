"""The doctor: is everything ready for backups? It checks everything and changes nothing."""

from app.services.health.doctor import catalogue, drills, dumps, machine, server, work
from app.services.health.doctor.findings import Finding, State, examined, unexamined

__all__ = ["Finding", "State", "examine", "is_healthy"]

# These need a readable catalogue.
_RECORDED = [
    ("clock", catalogue.find_rows_of_the_future),
    ("schedule", work.look_for_schedule),
    ("worker", work.look_for_workers),
    ("leftovers", work.look_for_leftovers),
    ("newest backup", dumps.find_newest),
    ("dumps", dumps.compare_with_rows),
    ("drills", drills.look_at_drills),
]


def examine() -> list[Finding]:
    """Examine everything. What cannot be examined is a finding too: nothing is raised.

    Each check waits for a few seconds at most; all take about 20 with a server that does
    not answer.
    """
    of_catalogue = catalogue.examine_catalogue()
    is_readable = all(finding.state is not State.PROBLEM for finding in of_catalogue)
    return [
        *server.examine_server(has_catalogue=is_readable),
        *machine.examine_machine(),
        *of_catalogue,
        examined("queue", work.look_at_queue),
        *(
            examined(subject, look)
            if is_readable
            else unexamined(subject, "the catalogue cannot be read")
            for subject, look in _RECORDED
        ),
        examined("free space", dumps.foresee_space if is_readable else dumps.tell_space),
    ]


def is_healthy(findings: list[Finding]) -> bool:
    """Whether there is no problem; warnings do not count."""
    return all(finding.state is not State.PROBLEM for finding in findings)
