"""What all commands share: errors in words, and signals that unwind."""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import click
from flask.cli import ScriptInfo
from sqlalchemy.exc import DatabaseError

from app.auditing import recorded
from app.cli.completion import database_names, store_names
from app.encryption import Identity, parse_identity
from app.errors import AppError
from app.services.catalogue.errors import explain
from app.services.catalogue.state import prepare_catalogue
from app.services.databases.lookup import choose_database
from app.services.databases.served import refuse_another_database
from app.services.jobs import claims
from app.services.stores.lookup import choose_store


class TellingCommand(click.Command):
    """A command inside the application that prints errors in words and exits with 1."""

    needs_catalogue = False

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children could not be waited for
        # We print an error once; worker and web set their own level.
        logger, level = logging.getLogger("app"), logging.getLogger("app").level
        logger.setLevel(logging.ERROR)
        try:
            with ctx.ensure_object(ScriptInfo).load_app().app_context():
                if self.needs_catalogue:
                    prepare_catalogue(say_beside)
                with recorded(ctx):
                    return super().invoke(ctx)
        except AppError as error:
            failure = error
        except DatabaseError as error:
            failure = explain(error)
        finally:
            logger.setLevel(level)
        click.echo(failure.in_words(), err=True)
        return ctx.exit(1)


class CatalogueCommand(TellingCommand):
    """A command that finds the catalogue at its newest form."""

    needs_catalogue = True


class Group(click.Group):
    """Commands that need the catalogue."""

    command_class = CatalogueCommand


_database_option = click.option(
    "--database",
    "named",
    metavar="NAME",
    shell_complete=database_names,
    help="Default: that of DATABASE_URL.",
)


def of_database(command: Callable[..., None]) -> Callable[..., None]:
    """A command about one database, the default one unless it is named."""

    @_database_option
    @wraps(command)
    def chosen(*arguments: Any, named: str | None, **options: Any) -> None:
        command(*arguments, database=choose_database(named), **options)

    return chosen


def for_one_database(command: Callable[..., None]) -> Callable[..., None]:
    """The same for a command that acts: it stops if the panel's default is another one."""

    @click.option(
        "--other-database", is_flag=True, help="Even if the panel runs for another DATABASE_URL."
    )
    @_database_option
    @wraps(command)
    def chosen(*arguments: Any, named: str | None, other_database: bool, **options: Any) -> None:
        database = choose_database(named)
        if database.from_environment and not other_database:
            refuse_another_database()
        command(*arguments, database=database, **options)

    return chosen


def of_store(command: Callable[..., None]) -> Callable[..., None]:
    """A command about backups here, or about their copies in the store that is named."""

    @click.option(
        "--store",
        "place",
        metavar="NAME",
        shell_complete=store_names,
        help="The copies in this store instead.",
    )
    @wraps(command)
    def chosen(*arguments: Any, place: str | None, **options: Any) -> None:
        command(*arguments, store=choose_store(place), **options)

    return chosen


def examples(*lines: str) -> str:
    """What `--help` shows at its end: commands that work as they stand, but for their names."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def json_text(content: object) -> str:
    """What `--json` prints."""
    return json.dumps(content, indent=2, ensure_ascii=False)


def say_beside(line: str) -> None:
    """Print a line on standard error, apart from the command's own output."""
    click.echo(line, err=True)


def read_secret(file: Path, option: str, *, is_whole: bool = False) -> str:
    """What a file holds that is too secret for an argument.

    - is a line of standard input, or the whole of it. Raises click.BadParameter, which names
    the option.
    """
    read = sys.stdin.read if is_whole else sys.stdin.readline
    try:
        return (read() if str(file) == "-" else file.read_text("utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} cannot be read.", param_hint=option) from error


identity_option = click.option(
    "--identity",
    "identity_files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file with a private key of age; - reads it from standard input. Repeatable.",
)


def read_identities(files: Sequence[Path]) -> list[Identity]:
    """The private keys in these files. Raises InvalidInput, click.BadParameter."""
    return [parse_identity(read_secret(file, "--identity", is_whole=True)) for file in files]


@contextmanager
def ending_by_signals() -> Iterator[None]:
    """What runs meanwhile ends cleanly at a signal, and the command with the signal's status."""
    signals = stop_on_signals()
    try:
        yield
    except AppError as error:
        if not signals:
            raise
        click.echo(error.in_words(), err=True)
        sys.exit(128 + signals[0])


def stop_on_signals() -> list[int]:
    """Let SIGTERM and SIGINT end the running backup at its next look, between two steps.

    Returns the signals that came, by number, as they come. A second one
    unwinds from wherever we are.
    """
    came: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if came:
            _unwind(128 + number)
        came.append(number)
        claims.stop_runs()
        # Not by the buffers of standard error: we may have interrupted their owner.
        os.write(2, f"Interrupted by {signal.Signals(number).name}; tidying up.\n".encode())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return came


def unwind_on_signals() -> None:
    """Let SIGTERM and SIGINT unwind with exit status 0, so that what was begun is tidied up."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _unwind(0))


def _unwind(status: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(status)
