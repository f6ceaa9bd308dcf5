"""flask audit: who did what."""

from collections.abc import Callable
from functools import reduce
from typing import Any, TextIO

import click

from app.cli.groups import Group, examples, json_option, json_text
from app.cli.tables import print_table
from app.models import ActOutcome, AuditEntry
from app.schemas.reports import audit_row
from app.services.audit import search as service
from app.services.audit.log import verify as verify_chain

group = Group("audit", help="Read who did what, and prove that nobody has changed the record.")

_FILTERS = (
    click.option("--actor", default="", help="Who: the full name."),
    click.option("--action", default="", help="What: backup.delete, or backup for all of them."),
    click.option("--outcome", type=click.Choice([outcome.value for outcome in ActOutcome])),
    click.option("--from", "since", default="", help="2026-11-23 or 2026-11-23T13:30Z."),
    click.option("--to", "until", default="", help="The same; a day is included."),
    click.option("--search", default="", help="Search subject, origin and detail."),
)


def _filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    return reduce(lambda made, option: option(made), reversed(_FILTERS), command)


@group.command("list", epilog=examples("flask audit list --action backup.delete --from 2026-11-01"))
@_filtered
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@click.option("--before", help="The nextBefore of the previous page.")
@json_option
def list_(limit: int, before: str | None, as_json: bool, **asked: str | None) -> None:
    """List entries, newest first."""
    page = service.list_entries(_filters(asked), before=before, limit=limit)
    if as_json:
        entries = [audit_row(entry) for entry in page.entries]
        content = {"entries": entries, "nextBefore": page.next_before}
        click.echo(json_text(content))
        return
    print_table(
        ("Time", "Outcome", "Actor", "Action", "Origin", "Detail"),
        list(map(_cells, page.entries)),
        nothing="There are no entries.",
    )
    if page.next_before:
        click.echo(f"There are more: --before {page.next_before}")


@group.command("export", epilog=examples("flask audit export audit.jsonl --from 2026-11-01"))
@click.argument("file", type=click.File("w", encoding="utf-8", atomic=True), default="-")
@_filtered
def export(file: TextIO, **asked: str | None) -> None:
    """Write all entries as JSON lines into FILE, or print them; oldest first."""
    file.writelines(service.export_lines(_filters(asked)))


@group.command("verify")
@click.option(
    "--head", default="", help="A head that was kept earlier: detects removed entries at the end."
)
@json_option
def verify(head: str, as_json: bool) -> None:
    """Prove that no entry was changed, removed or inserted since it was written.

    Keep the printed head elsewhere, and pass it next time.
    """
    entries, newest = verify_chain(head)
    if as_json:
        click.echo(json_text({"entries": entries, "head": newest}))
        return
    click.echo(f"{entries} {'entry is' if entries == 1 else 'entries are'} as recorded.")
    click.echo(f"Head: {newest}")


def _cells(entry: AuditEntry) -> tuple[str, ...]:
    what = f"{entry.action} {entry.subject}".strip()
    origin = f"{entry.origin} ({entry.face})"
    return entry.at, entry.outcome, entry.actor or "–", what, origin, entry.detail


def _filters(asked: dict[str, str | None]) -> service.Filters:
    words = {"since": "from", "until": "to", "search": "q"}
    return service.read_filters(
        {words.get(name, name): value or "" for name, value in asked.items()}
    )
