"""flask database: the databases that are guarded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from app.cli.completion import database_names
from app.cli.groups import Group, examples, json_option, json_text, read_secret
from app.cli.tables import print_table
from app.errors import InvalidInput
from app.formatting import moment_short, printable
from app.host import own_user
from app.postgres.conninfo import parse_url
from app.readers import MOST_DUMP_JOBS, seconds
from app.schemas.databases import database_row, overview_row
from app.services.databases import lookup, service
from app.services.health.overview import Row, read_overview, read_row
from app.services.schedules.service import make_first_schedules

group = Group("database", help="Guard one or many databases, on any number of servers.")


def ssh_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of an SSH host on the way."""
    for option in (_ssh_host_key, _ssh_identity, _ssh):
        command = option(command)
    return command


_ssh = click.option(
    "--ssh",
    "ssh_url",
    metavar="URL",
    help="Go through this SSH host, such as ssh://backstop@bastion.example.com; empty: none.",
)
_ssh_identity = click.option(
    "--ssh-identity",
    "ssh_identity_file",
    metavar="FILE",
    help="The private key for the SSH host, without a passphrase.",
)
_ssh_host_key = click.option(
    "--ssh-host-key", metavar="KEY", help="The host's own public key, 'ssh-ed25519 AAAA…'."
)
_compression = click.option(
    "--compression", help="For its dumps, such as zstd:3; empty: that of the panel."
)
_without_rows_of = click.option(
    "--without-rows-of",
    metavar="SCHEMA.TABLE",
    multiple=True,
    help="Leave out the rows of this table, which makes its backups partial; can be repeated.",
)
_skips_counting = click.option(
    "--skip-counting/--count",
    "skips_counting",
    default=None,
    help="Do not count its rows beside the dump, or count them again.",
)
_dump_jobs = click.option(
    "--dump-jobs",
    type=click.IntRange(0, MOST_DUMP_JOBS),
    help="How many of its tables are dumped at once; 0: as the panel.",
)
_max_age = click.option(
    "--max-age",
    metavar="DURATION",
    help="Raise an alarm when its newest good backup is older, such as 26h; 0: as the panel.",
)


@group.command("list", epilog=examples("flask database list --json"))
@json_option
def list_(as_json: bool) -> None:
    """List all databases with their newest good backup and its copies."""
    rows = read_overview()
    if as_json:
        click.echo(json_text({"databases": [overview_row(row) for row in rows]}))
        return
    print_table(
        ("Database", "State", "Where", "Last good backup", "Copies of it", "Age"),
        list(map(_cells, rows)),
        nothing="No database is guarded.",
    )


@group.command("show")
@click.argument("name", shell_complete=database_names)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a database, and where the copies of its newest good backup are."""
    row = read_row(name)
    if as_json:
        click.echo(json_text(overview_row(row)))
        return
    click.echo(_line(row))
    if row.spread is not None:
        click.echo(f"{row.spread.filename}: {row.spread.in_words()}")


@group.command(
    "add", epilog=examples("flask database add crm postgresql://backstop@db1.example.org:5432/crm")
)
@click.argument("name")
@click.argument("url", required=False)
@ssh_options
@_compression
@_without_rows_of
@_skips_counting
@_dump_jobs
@_max_age
@json_option
def add(name: str, url: str | None, as_json: bool, **options: Any) -> None:
    """Guard the database at a URL such as postgresql://user@host:5432/dbname.

    Without URL, or with - for standard input, it is asked for, because other users of this
    machine can see arguments: a URL that contains a password is not accepted as one.
    """
    read = read_url(url)
    database = service.add_database(name, read, _changes(options), by=own_user())
    make_first_schedules()
    if as_json:
        click.echo(json_text(database_row(database)))
        return
    click.echo(f"{name} is guarded: {printable(database.dbname)} on {printable(database.server)}.")
    click.echo(f"Back it up now:     flask backup create --database {name}")
    click.echo(f"Back it up nightly: flask schedule create nightly --database {name}")
    click.echo("                    --task backup --cron '0 3 * * *'")


@group.command(
    "edit", epilog=examples("flask database edit crm --max-age 26h --compression zstd:3")
)
@click.argument("name", shell_complete=database_names)
@click.option("--rename", metavar="NAME", help="The new name.")
@click.option("--url", help="The new URL; - for standard input.")
@ssh_options
@_compression
@_without_rows_of
@click.option("--with-all-rows", is_flag=True, help="Leave out no rows any more.")
@_skips_counting
@_dump_jobs
@_max_age
def edit(name: str, *, rename: str | None, url: str | None, **options: Any) -> None:
    """Change a database; what is not given stays as it is."""
    changes = _changes(options, name=rename, url=read_url(url) if url else None)
    database = service.edit_database(name, changes, by=own_user())
    click.echo(f"{database.name} has been saved.")


@group.command("pause")
@click.argument("name", shell_complete=database_names)
def pause(name: str) -> None:
    """Stop the schedules of a database until it is resumed."""
    service.pause_database(name, by=own_user())
    click.echo(f"{name} is paused: its schedules wait.")


@group.command("resume")
@click.argument("name", shell_complete=database_names)
def resume(name: str) -> None:
    """Back up a paused or retired database again."""
    service.resume_database(name, by=own_user())
    click.echo(f"{name} is active: its schedules run.")


@group.command("retire")
@click.argument("name", shell_complete=database_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
def retire(name: str, yes: bool) -> None:
    """Never back up a database again; its backups stay."""
    lookup.get_database(name)
    if not yes:
        click.confirm(f"Retire {name}? It is not backed up any more; its backups stay.", abort=True)
    service.retire_database(name, by=own_user())
    click.echo(f"{name} is retired. Its backups are kept.")


def _cells(row: Row) -> tuple[str, ...]:
    database, copies = row.database, row.spread.in_short if row.spread else ""
    where = f"{database.dbname} on {database.server}"
    good = f"last good backup {moment_short(row.last_good_at)}" if row.last_good_at else "no backup"
    return database.name, row.state.value, where, good, copies, "LATE" if row.is_late else ""


def _line(row: Row) -> str:
    return printable("  ".join(filter(None, _cells(row))))


def _changes(
    options: dict[str, Any], *, name: str | None = None, url: str | None = None
) -> service.Changes:
    tables: tuple[str, ...] | None = options["without_rows_of"] or None
    if options.get("with_all_rows"):
        tables = ()
    return service.Changes(
        name=name,
        url=url,
        **{key: options[key] for key in ("ssh_url", "ssh_identity_file", "ssh_host_key")},
        compression=options["compression"],
        without_rows_of=tables,
        skips_counting=options["skips_counting"],
        dump_jobs=options["dump_jobs"],
        max_age=_seconds(options["max_age"]),
    )


def _seconds(max_age: str | None) -> int | None:
    if max_age is None:
        return None
    try:
        return 0 if max_age == "0" else seconds(max_age)
    except ValueError as error:
        raise InvalidInput(f"--max-age {error}") from error


def read_url(url: str | None) -> str:
    """The URL of an option or argument, of standard input, or of a prompt. Raises InvalidInput."""
    if url is None:
        asked: str = click.prompt("URL", hide_input=True)
        return asked
    if url == "-":
        return read_secret(Path("-"), "URL")
    if parse_url(url, called="the connection URL").password:
        raise InvalidInput(
            "the URL contains a password, which other users of this machine can see",
            hint="Write - instead, and give the URL on standard input, or leave it out to be"
            " asked. Change the password if this machine has other users.",
        )
    return url
