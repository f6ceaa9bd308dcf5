"""What all commands have in common: errors told in words, and signals that unwind."""

import logging
import signal
import sys
from types import FrameType
from typing import Any

import click
from flask.cli import ScriptInfo
from sqlalchemy.exc import DatabaseError

from app.errors import AppError
from app.services.catalogue import prepare_catalogue


class TellingCommand(click.Command):
    """A command inside the application that tells errors in words and exits with 1."""

    needs_catalogue = False

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children could not be waited for
        # An error is told once, by us; worker and web let their log speak.
        logger, level = logging.getLogger("app"), logging.getLogger("app").level
        logger.setLevel(logging.ERROR)
        try:
            with ctx.ensure_object(ScriptInfo).load_app().app_context():
                if self.needs_catalogue:
                    prepare_catalogue()
                return super().invoke(ctx)
        except AppError as error:
            told = error
        except DatabaseError as error:
            told = AppError(
                "the catalogue cannot be used just now",
                detail=f"{error.orig}.",
                hint="Is its disk full or read-only, or its server away? flask doctor looks.",
            )
        finally:
            logger.setLevel(level)
        click.echo(told.in_words(), err=True)
        return ctx.exit(1)


class CatalogueCommand(TellingCommand):
    """A command that finds the catalogue at its newest form."""

    needs_catalogue = True


class Group(click.Group):
    """Commands that need the catalogue."""

    command_class = CatalogueCommand


def unwind_on_signals(status: int | None = None) -> None:
    """Let SIGTERM and SIGINT unwind, so that what was begun is tidied up.

    The exit status is the given one, else 128 and the signal's number.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        if status is None:
            click.echo(f"Interrupted by {signal.Signals(number).name}; tidying up.", err=True)
        sys.exit(128 + number if status is None else status)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, leave)
