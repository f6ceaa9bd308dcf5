"""The options of a store in the terminal."""

from typing import Any

import click

from app.cli.completion import database_names
from app.cli.credentials import read_credentials
from app.errors import InvalidInput
from app.models import ReadBack, TakesCatalogue
from app.readers import off_or, rate
from app.services.stores.service import Changes, read_back_named

recipients_option = click.option(
    "--recipient",
    "recipients",
    metavar="KEY",
    multiple=True,
    help="Encrypt its copies to this public key of age or SSH; can be repeated.",
)
databases_option = click.option(
    "--database",
    "databases",
    metavar="NAME",
    multiple=True,
    shell_complete=database_names,
    help="Copy only backups of this database; can be repeated. Default: all.",
)
read_back_option = click.option(
    "--read-back",
    type=click.Choice([member.value for member in ReadBack]),
    help="Which new copies are read back and hashed; sample is one in ten.",
)
limit_option = click.option(
    "--limit", metavar="RATE", help="At most so many bytes a second, such as 10MB; off: no limit."
)
catalogue_option = click.option(
    "--catalogue",
    type=click.Choice([member.value for member in TakesCatalogue]),
    help="Whether the panel's own catalogue is exported to it each day. It has hashes of"
    " passwords: by default only while the store has recipients.",
)
take_over_option = click.option(
    "--take-over", is_flag=True, help="Even if it belongs to another panel, which must be gone."
)
untested_option = click.option("--untested", is_flag=True, help="Ask the store nothing yet.")


def changes_in(
    options: dict[str, Any], *, name: str | None = None, url: str | None = None
) -> Changes:
    """What the options of a store change. Raises InvalidInput."""
    given, catalogue = options["read_back"], options["catalogue"]
    return Changes(
        name=name,
        url=url,
        credentials={}
        if options.get("no_credentials")
        else read_credentials(options["credentials_from"]),
        recipients=() if options.get("not_encrypted") else options["recipients"] or None,
        databases=() if options.get("all_databases") else options["databases"] or None,
        read_back=read_back_named(given) if given else None,
        bytes_per_second=_rate(options["limit"]),
        takes_catalogue=TakesCatalogue(catalogue) if catalogue else None,
    )


def _rate(limit: str | None) -> int | None:
    if limit is None:
        return None
    try:
        value: int = off_or(rate)(limit)
    except ValueError as error:
        raise InvalidInput(f"--limit {error}") from error
    return value
