"""flask doctor: is everything ready for backups?"""

import click

from app.cli.groups import TellingCommand, json_option, json_text
from app.schemas.reports import doctor_report
from app.services.health.doctor import Finding, State, examine, is_healthy

_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "red"}


@click.command("doctor", cls=TellingCommand)
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Examine server, rights, programs, disk, clock, queue, worker and catalogue.

    Each line is ok, a warning or a problem, with what to do about it. Nothing
    is changed or started. Exits with 1 if there is a problem.
    """
    findings = examine()
    if as_json:
        click.echo(json_text(doctor_report(findings)))
    else:
        _print(findings)
    context.exit(0 if is_healthy(findings) else 1)


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        state = click.style(f"{finding.state.value:<7}", fg=_COLOURS[finding.state])
        click.echo(f"{state}  {finding.subject:<{width}}  {finding.told}")
        if finding.hint:
            click.echo(f"{'':{width + 11}}{finding.hint}")
