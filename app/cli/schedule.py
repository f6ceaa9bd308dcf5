"""flask schedule: which tasks run automatically, and when."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from app.cli.groups import (
    Group,
    examples,
    for_one_database,
    json_option,
    json_text,
    of_database,
    read_secret,
)
from app.cli.tables import print_table
from app.formatting import in_zone, moment_short, printable
from app.host import own_user
from app.models import Database, Firing, Schedule, Task
from app.schemas.schedules import firing_row, schedule_details, schedule_preview, schedule_rows
from app.services.access.sign_in import at_the_terminal
from app.services.jobs.workers import find_trouble
from app.services.schedules import service, times
from app.services.schedules.listing import list_next_times
from app.services.schedules.targets import Consent

group = Group("schedule", help="Run backups, drills, scrubs and restores automatically.")

_task = click.Choice([task.value for task in Task])
_cron_help = "Minute, hour, day of the month, month, weekday: '0 3 * * *'."
_zone_help = "Time zone, such as Europe/Berlin."
_notes = click.option("--notes", help="Notes for its backups; {schedule} and {due} are filled in.")
_heartbeat = click.option(
    "--heartbeat-url-file",
    "heartbeat_file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="The file with the URL of a monitor that receives each run; - for standard input.",
)
_target = click.option(
    "--target", metavar="DATABASE", help="The database that --task restore makes anew."
)
_sql = click.option(
    "--sql-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="The file with SQL to run in it before it is used; - for standard input.",
)
_keep_last = click.option(
    "--keep-last", type=int, metavar="NUMBER", help="How many databases it replaced are kept."
)
_replace = click.option(
    "--replace",
    metavar="DATABASE",
    default="",
    help="The target's name again, if it exists and something else made it.",
)


@group.command("list", epilog=examples("flask schedule list --database crm"))
@json_option
@of_database
def list_(as_json: bool, database: Database) -> None:
    """List the schedules of a database."""
    schedules = service.list_schedules(database)
    last = service.last_firings(schedules)
    if as_json:
        click.echo(json_text({"schedules": schedule_rows(schedules, last)}))
        return
    print_table(
        ("Schedule", "Task", "When", "Next", "Last"),
        [_cells(schedule, last.get(schedule.id)) for schedule in schedules],
        nothing=f"{database.name} has no schedules.",
    )


@group.command("show")
@click.argument("name")
@json_option
@of_database
def show(name: str, as_json: bool, database: Database) -> None:
    """Show a schedule, its next times and its last runs."""
    schedule = service.get_schedule_named(name, database)
    firings = service.list_firings(schedule.id)
    if as_json:
        details = schedule_details(schedule, firings[0] if firings else None)
        click.echo(json_text(details | {"firings": [firing_row(firing) for firing in firings]}))
        return
    click.echo(f"name: {schedule.name}")
    click.echo(f"task: {schedule.task.value}")
    click.echo(f"cron: {schedule.cron} ({times.in_words(schedule.cron)})")
    click.echo(f"time zone: {schedule.timezone}")
    if schedule.notes:
        click.echo(f"notes: {printable(schedule.notes)}")
    if schedule.heartbeat:
        click.echo("heartbeat: sent to a monitor")
    if schedule.target:
        click.echo(f"target: {schedule.target}, keep last {schedule.keep_last}")
    if schedule.sql:
        click.echo("SQL:")
        click.echo("\n".join(f"  {printable(line)}" for line in schedule.sql.splitlines()))
    click.echo("next:" if schedule.enabled else "paused")
    _print_times(list_next_times(schedule), schedule.timezone)
    for firing in firings:
        click.echo(f"due {_line(firing)}")


@group.command(
    "create",
    epilog=examples(
        "flask schedule create nightly --task backup --cron '0 3 * * *'",
        "flask schedule create weekly --task drill --cron '0 5 * * 0' --timezone Europe/Berlin",
        "flask schedule create staging --task restore --cron '0 4 * * *' --target shop_staging",
    ),
)
@click.argument("name")
@click.option("--task", type=_task, required=True, help="The task.")
@click.option("--cron", required=True, help=_cron_help)
@click.option("--timezone", default="UTC", show_default=True, help=_zone_help)
@_notes
@_heartbeat
@_target
@_sql
@_keep_last
@_replace
@click.option("--paused", is_flag=True, help="Do not start it yet.")
@json_option
@for_one_database
def create(
    name: str,
    *,
    task: str,
    heartbeat_file: Path | None,
    sql_file: Path | None,
    as_json: bool,
    database: Database,
    **given: Any,
) -> None:
    """Create a schedule, which a running worker follows."""
    consent = Consent(given.pop("replace"), at_the_terminal)
    new = service.NewSchedule(
        name,
        Task(task),
        enabled=not given.pop("paused"),
        heartbeat_url=_url_in(heartbeat_file) or "",
        sql=_sql_in(sql_file) or "",
        **{key: value for key, value in given.items() if value is not None},
    )
    created = service.add_schedule(new, of=database, created_by=own_user(), consent=consent)
    if as_json:
        click.echo(json_text(schedule_details(created, None)))
        return
    click.echo(f"{created.name} has been created: {times.in_words(created.cron)}.")
    _print_times(list_next_times(created), created.timezone)


@group.command("edit")
@click.argument("name")
@click.option("--rename", metavar="NAME", help="The new name.")
@click.option("--task", type=_task, help="The task.")
@click.option("--cron", help=_cron_help)
@click.option("--timezone", help=_zone_help)
@_notes
@_heartbeat
@click.option("--no-heartbeat", is_flag=True, help="Remove the monitor.")
@_target
@_sql
@_keep_last
@_replace
@of_database
def edit(
    name: str,
    *,
    task: str | None,
    heartbeat_file: Path | None,
    no_heartbeat: bool,
    sql_file: Path | None,
    database: Database,
    **changes: Any,
) -> None:
    """Change a schedule; options that are not given stay as they are."""
    if no_heartbeat and heartbeat_file:
        raise click.UsageError("--no-heartbeat and --heartbeat-url-file exclude each other.")
    consent = Consent(changes.pop("replace"), at_the_terminal)
    edited = service.edit_schedule(
        service.get_schedule_named(name, database).id,
        service.ScheduleChanges(
            name=changes.pop("rename"),
            task=Task(task) if task else None,
            heartbeat_url="" if no_heartbeat else _url_in(heartbeat_file),
            sql=_sql_in(sql_file),
            **changes,
        ),
        by=own_user(),
        consent=consent,
    )
    click.echo(f"{edited.name} has been saved.")


@group.command("pause")
@click.argument("name")
@of_database
def pause(name: str, database: Database) -> None:
    """Pause a schedule; runs due in the meantime are skipped."""
    _enable(name, database, enabled=False)
    click.echo(f"{name} has been paused.")


@group.command("resume")
@click.argument("name")
@of_database
def resume(name: str, database: Database) -> None:
    """Resume a paused schedule."""
    _enable(name, database, enabled=True)
    click.echo(f"{name} has been resumed.")


@group.command("run")
@click.argument("name")
@of_database
def run(name: str, database: Database) -> None:
    """Let a worker run it now, as if it were due."""
    service.run_now(service.get_schedule_named(name, database).id, by=own_user())
    click.echo(f"{name} will run within 10 seconds.")
    if trouble := find_trouble():
        click.echo(f"{trouble}: it waits for one.", err=True)


@group.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@of_database
def delete(name: str, yes: bool, database: Database) -> None:
    """Delete a schedule; its backups stay."""
    schedule = service.get_schedule_named(name, database)
    if not yes:
        click.confirm(f"Delete the schedule {schedule.name}?", abort=True)
    service.remove_schedule(schedule.id, by=own_user())
    click.echo(f"{name} has been deleted.")


@group.command("next")
@click.option("--cron", required=True, help=_cron_help)
@click.option("--timezone", default="UTC", show_default=True, help=_zone_help)
@json_option
def next_(cron: str, timezone: str, as_json: bool) -> None:
    """Show when a schedule would be due; nothing is saved."""
    words, moments = times.preview_times(cron, timezone)
    if as_json:
        click.echo(json_text(schedule_preview(words, moments)))
        return
    click.echo(words)
    _print_times(moments, timezone)


def _url_in(file: Path | None) -> str | None:
    return read_secret(file, "--heartbeat-url-file") if file else None


def _sql_in(file: Path | None) -> str | None:
    return read_secret(file, "--sql-file", is_whole=True) if file else None


def _enable(name: str, database: Database, *, enabled: bool) -> None:
    service.edit_schedule(
        service.get_schedule_named(name, database).id,
        service.ScheduleChanges(enabled=enabled),
        by=own_user(),
    )


def _print_times(moments: list[datetime], timezone: str) -> None:
    for moment in moments:
        click.echo(f"  {moment_short(moment)} UTC  {in_zone(moment, timezone)}")


def _cells(schedule: Schedule, last: Firing | None) -> tuple[str, ...]:
    due = f"next {moment_short(schedule.next_due_at)} UTC" if schedule.next_due_at else "paused"
    when = f"{times.in_words(schedule.cron)}, {schedule.timezone}"
    return schedule.name, schedule.task.value, when, due, f"last {_line(last)}" if last else ""


def _line(firing: Firing) -> str:
    """2026-11-23 03:00:00 UTC: failed, attempts: 5, missed runs before it: 2; no connection"""
    line = f"{moment_short(firing.due_at)} UTC: {firing.outcome.value}, attempts: {firing.attempts}"
    if firing.missed_since:
        since = moment_short(firing.missed_since)
        line += f", missed runs before it: {firing.missed} since {since} UTC"
    return f"{line}; {printable(firing.told)}" if firing.told else line
