"""flask alarm: what is wrong."""

import click

from app.cli.groups import Group, examples, json_option, json_text
from app.cli.tables import print_table
from app.formatting import ago_text, printable
from app.models import Alarm
from app.models.types import now
from app.schemas.alerts import alarm_row
from app.services.alerts import alarms as service
from app.services.alerts import deliveries

group = Group("alarm", help="See what is wrong.")


@group.command("list", epilog=examples("flask alarm list --open"))
@click.option("--open", "only_open", is_flag=True, help="Only open ones.")
@click.option("--limit", type=click.IntRange(1, service.MAX_LIMIT), default=50, show_default=True)
@json_option
def list_(only_open: bool, limit: int, as_json: bool) -> None:
    """List alarms, the newest first."""
    alarms = service.list_alarms(limit=limit, is_open=True if only_open else None)
    if as_json:
        content = {"alarms": [alarm_row(alarm) for alarm in alarms]}
        click.echo(json_text(content))
        return
    print_table(
        ("Alarm", "State", "Opened", "Trouble"),
        list(map(_cells, alarms)),
        nothing="There are no alarms.",
    )


@group.command("look")
def look() -> None:
    """Look once, send what is due, and exit with 1 if an alarm is open.

    Worker and web do this all the time. For cron, if neither runs.
    """
    service.look(now())
    while claimed := deliveries.claim_due(now(), limit=1):
        deliveries.attempt(claimed[0], now())
    alarms = service.list_alarms(limit=service.MAX_LIMIT, is_open=True)
    for alarm in alarms:
        click.echo(f"{alarm.kind.value}: {printable(alarm.title)}")
    if alarms:
        click.get_current_context().exit(1)


def _cells(alarm: Alarm) -> tuple[str, ...]:
    state = f"resolved {ago_text(alarm.closed_at)}" if alarm.closed_at else "open"
    return alarm.kind.value, state, ago_text(alarm.opened_at), alarm.title
