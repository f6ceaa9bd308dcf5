"""Print what a restore will do, and what it did."""

from typing import Any

import click

from app.cli.progress import print_asserted
from app.describing import outcome_text
from app.formatting import moment_short, printable, sentence_text
from app.models import Kind, Restore
from app.services.restores.preview import Preview
from app.services.restores.request import RestoreRequest

_DANGER = (
    "Code in the dump runs with all rights of role {}: it can read and write the server's files"
    " and start programs there."
)


def print_preview(request: RestoreRequest, preview: Preview) -> None:
    """Print it to standard error: standard output has only the result."""
    proof = preview.proof
    proven = f"{proof.word} ({moment_short(proof.proved_at)} UTC)" if proof else "nothing"
    version = preview.dumped_version or "of an unknown version"
    counts = f"{preview.tables:,} tables, {preview.rows:,} rows"
    lines = [
        f"{request.source.filename}: {counts} of PostgreSQL {version}.",
        f"Proven of it: {proven}.",
        *_target_lines(request.kind, preview),
        *(f"{sentence_text(remark)}." for remark in preview.remarks),
    ]
    if preview.missing_roles:
        lines.append("To create the missing roles:")
        lines += [f"  {statement}" for statement in preview.missing_roles_sql]
    click.echo("\n".join(map(printable, lines)), err=True)


def _target_lines(kind: Kind, preview: Preview) -> list[str]:
    """What happens to the database it is restored into, and to its sessions."""
    name, sessions = preview.database, f"{preview.sessions} sessions"
    if kind is Kind.BESIDE:
        server = f"PostgreSQL {preview.server_version}"
        return [f"It is restored into a new database {name} on {server}."]
    if kind is Kind.REPLACE:
        return [
            f"It takes the place of database {name}, which is kept.",
            f"Connected to that now: {sessions}. They will be ended.",
        ]
    return [
        f"It is loaded over database {name}: all of it or nothing, no undo.",
        f"Connected to that now: {sessions}. They wait meanwhile.",
        *([_DANGER.format(preview.powers)] if preview.powers else []),
        *(f"Not in the backup, and kept: {item}." for item in preview.stays),
        *(f"Not in the backup, and dropped: {item}." for item in preview.goes),
    ]


def print_done(restore: Restore) -> None:
    """Print the name of the database first, then how to get back."""
    if restore.kind is Kind.BESIDE:
        click.echo(f"{restore.database} (restored in {outcome(restore)})")
    elif restore.kind is Kind.IN_PLACE:
        click.echo(f"{restore.filename} was loaded over {restore.database} in {outcome(restore)},")
        click.echo("counted right after loading: clients may have written since.")
        click.echo(f"Its state before is in {restore.safety_backup}.")
    else:
        done = f"(restored in {outcome(restore)})"
        click.echo(f"{restore.database} is that of {restore.filename} {done}.")
        click.echo(f"The old one is kept as {restore.kept} until {_kept_until(restore)}.")
        click.echo(f"To undo it: flask restore undo {restore.id}")
    print_remarks(restore.result)


def outcome(restore: Restore) -> str:
    """How long it took, and its result, in words."""
    result = restore.result
    seconds = f"{result['seconds']:.1f} s: " if "seconds" in result else ""
    return seconds + outcome_text(result)


def _kept_until(restore: Restore) -> str:
    return f"{moment_short(restore.kept_until)} UTC" if restore.kept_until else "it is dropped"


def print_remarks(result: dict[str, Any]) -> None:
    """Print the findings, one line each."""
    for difference in result.get("differences", []):
        click.echo(f"  different: {difference}")
    print_asserted(result)
    if "server" in result:
        click.echo(f"  on {result['server']}")
    labels = {
        "missingRoles": "missing role",
        "privileged": "created by the admin's connection",
        "definitions": "created without its rows",
        "leftOut": "left out",
        "stays": "not in the backup, and kept",
        "goes": "not in the backup, and dropped",
        "notCompared": "not compared",
    }
    for key, label in labels.items():
        for text in result.get(key, []):
            click.echo(printable(f"  {label}: {text}"))
