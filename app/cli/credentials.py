"""The credentials of a store, which are never an argument."""

from pathlib import Path

import click

from app.cli.groups import read_secret
from app.services.stores.credentials import parse_credentials

credentials_option = click.option(
    "--credentials-from",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="The file with its credentials, - for standard input: name=value a line, or JSON.",
)


def read_credentials(file: Path | None) -> dict[str, str] | None:
    """The credentials in a file. Raises InvalidInput, click.BadParameter."""
    if file is None:
        return None
    return parse_credentials(read_secret(file, "--credentials-from", is_whole=True))
