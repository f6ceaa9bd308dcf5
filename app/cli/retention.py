"""flask retention: which backups are kept; also pruning and pinning."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import click

from app.cli.completion import backup_names
from app.cli.groups import (
    CatalogueCommand,
    Group,
    examples,
    for_one_database,
    json_option,
    json_text,
    of_database,
    of_store,
)
from app.describing import policy_text
from app.errors import AppError
from app.formatting import bytes_text, moment_short, printable
from app.host import own_user
from app.models import Database, Store
from app.schemas.jobs import backup_row
from app.schemas.retention import pruned, retention_outlook, retention_plan
from app.services.backups import pins
from app.services.retention import policies
from app.services.retention import prune as pruning
from app.services.retention.periods import length_of
from app.services.retention.rules import Verdict
from app.services.schedules.outlook import get_outlook

group = Group("retention", help="Set which backups are kept, and which are removed.")

_NAMED = 20  # backups
_COUNTS = {
    "last": "the newest N",
    "hourly": "the newest of each of the last N hours that have a backup",
    "daily": "the same for days",
    "weekly": "the same for weeks",
    "monthly": "the same for months",
    "yearly": "the same for years",
}


class _Read(click.ParamType["int | timedelta"]):
    """A text that a service reads."""

    def __init__(self, name: str, read: Callable[[str], int | timedelta]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: Any, ctx: Any) -> int | timedelta:
        try:
            return self._read(value)
        except AppError as error:
            self.fail(f"{error.message}. {error.hint}", param, ctx)


def _rules(command: Callable[..., None]) -> Callable[..., None]:
    zone = click.option("--time-zone", metavar="ZONE", help="Time zone of hours, days and so on.")
    size = _Read("SIZE", policies.size_of)
    within = _Read("TIME", length_of)
    command = zone(command)
    command = click.option(
        "--max-total-size",
        type=size,
        help="Then remove the oldest until the rest fits, such as 500GiB.",
    )(command)
    help_ = "Keep every backup that is at most this much older than the newest, such as 30d."
    command = click.option("--keep-within", type=within, help=help_)(command)
    for word, which in reversed(_COUNTS.items()):
        command = click.option(f"--keep-{word}", type=int, metavar="N", help=f"Keep {which}.")(
            command
        )
    return command


@group.command("show")
@json_option
@of_store
@of_database
def show(as_json: bool, database: Database, store: Store | None) -> None:
    """Show the policy of a database, and when it applies."""
    _tell_outlook(database, store, as_json=as_json)


@group.command(
    "set", epilog=examples("flask retention set --keep-daily 7 --keep-weekly 4 --keep-monthly 12")
)
@_rules
@json_option
@of_store
@for_one_database
def set_(as_json: bool, database: Database, store: Store | None, **rules: Any) -> None:
    """Change the policy; rules that are not given stay, and 0 turns one off.

    Nothing is removed at once. A policy that may remove more than the previous one
    waits until it is confirmed: by flask retention confirm, or by a prune.
    """
    named = {name: value for name, value in rules.items() if value is not None}
    policy = replace(policies.get_policy(database, store), **named)
    policies.set_policy(policy, database, store, by=own_user())
    _tell_outlook(database, store, as_json=as_json)


@group.command("confirm")
@click.option("--yes", is_flag=True, help="Do not ask.")
@of_store
@for_one_database
def confirm(yes: bool, database: Database, store: Store | None) -> None:
    """Let scheduled backups, or their copies, remove what the policy does not keep."""
    outlook = get_outlook(database, store, limit=_NAMED)
    if not yes:
        _name_removals(outlook.preview, store)
        each = f"copy to {store.name} of a scheduled backup" if store else "scheduled backup"
        click.confirm(f"Let each {each} remove what the policy does not keep?", abort=True)
    policies.confirm_policy(outlook.preview.policy, database, store, by=own_user())
    click.echo(get_outlook(database, store, limit=0).in_words())


def _tell_outlook(database: Database, store: Store | None, *, as_json: bool) -> None:
    outlook = get_outlook(database, store, limit=None if as_json else _NAMED)
    if as_json:
        content = retention_outlook(outlook)
        click.echo(json_text(content.pop("policy") | content))
        return
    click.echo(policy_text(outlook.preview.policy))
    if not outlook.standing.is_empty:
        click.echo(outlook.in_words())
        _name_removals(outlook.preview, store)
        if outlook.standing.waits:
            click.echo(f"Confirm it: flask retention confirm{_option(store)}")


def _option(store: Store | None) -> str:
    return f" --store {store.name}" if store else ""


def _name_removals(preview: pruning.Preview, store: Store | None) -> None:
    """What would be removed now, with the first names."""
    going, where = preview.removed, f" from {store.name}" if store else ""
    click.echo(f"{going.in_words} would be removed{where} now.")
    for verdict in preview.removing:
        click.echo(f"  {verdict.backup.filename}")
    if going.number > len(preview.removing):
        click.echo(
            f"  and {going.number - len(preview.removing)} older:"
            f" flask backup prune --dry-run{_option(store)}"
        )


@click.command("prune", cls=CatalogueCommand, epilog=examples("flask backup prune --dry-run"))
@click.option("--dry-run", is_flag=True, help="Only show what would be removed and kept.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@of_store
@for_one_database
def prune(dry_run: bool, yes: bool, as_json: bool, database: Database, store: Store | None) -> None:
    """Remove the backups, or the copies in a store, that the retention policy does not keep.

    Exits with 1 if one of them could not be removed.
    """
    if dry_run:
        _tell(pruning.dry_run(database, store), as_json=as_json)
        return
    if not yes:
        _ask_before(database, store, as_json=as_json)
    done = pruning.prune(database, store, by=own_user())
    if as_json:
        click.echo(json_text(pruned(done)))
    else:
        for name in done.removed:
            click.echo(f"{name}\tremoved")
        for name, why in done.spared.items():
            click.echo(f"{name}\tspared: {why}")
        for name, why in done.failed.items():
            click.echo(f"{name}\tNOT REMOVED: {why}")
        click.echo(f"{len(done.removed)} removed, {bytes_text(done.size)}.")
    if done.failed:
        raise AppError(
            f"{len(done.failed)} of the backups could not be removed",
            hint="The next prune tries again.",
        )


def _ask_before(database: Database, store: Store | None, *, as_json: bool) -> None:
    preview = pruning.preview(database, store, limit=_NAMED)
    if preview.removed.number:
        if not as_json:
            _name_removals(preview, store)
        what = f"copies of {database.name} from {store.name}" if store else None
        question = f"Remove these {what or f'backups of {database.name}'}?"
        click.confirm(question, abort=True, err=as_json)


def _tell(preview: pruning.Preview, *, as_json: bool) -> None:
    if as_json:
        click.echo(json_text(retention_plan(preview)))
        return
    for word, verdicts in (("keep", preview.keeping), ("REMOVE", preview.removing)):
        for verdict in verdicts:
            click.echo(f"{word:<7} {_line(verdict)}")
    click.echo(policy_text(preview.policy))
    click.echo(
        f"{preview.kept.number} would be kept, {bytes_text(preview.kept.size)};"
        f" {preview.removed.number} would be removed, {bytes_text(preview.removed.size)}."
    )
    if preview.excess:
        click.echo(f"The size limit is still exceeded by {bytes_text(preview.excess)}.")


def _line(verdict: Verdict) -> str:
    backup = verdict.backup
    reasons = printable("; ".join(verdict.reasons))
    when = moment_short(backup.created_at)
    return f"{backup.filename}  {when}  {bytes_text(backup.size):>10}  {reasons}"


@click.command("pin", cls=CatalogueCommand)
@click.argument("name", shell_complete=backup_names)
@click.option("--reason", required=True, help="Why it is kept, for readers in a year.")
@json_option
def pin(name: str, reason: str, as_json: bool) -> None:
    """Exempt a backup from every retention rule."""
    backup = pins.pin_backup(name, reason, by=own_user())
    click.echo(json_text(backup_row(backup)) if as_json else f"{name} has been pinned.")


@click.command("unpin", cls=CatalogueCommand)
@click.argument("name", shell_complete=backup_names)
@json_option
def unpin(name: str, as_json: bool) -> None:
    """Apply the retention rules to a backup again."""
    backup = pins.unpin_backup(name, by=own_user())
    click.echo(json_text(backup_row(backup)) if as_json else f"{name} has been unpinned.")
