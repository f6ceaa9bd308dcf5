"""flask server: the embedded PostgreSQL with the sample shop."""

import click

from app.cli.groups import TellingCommand
from app.config import settings
from app.errors import Conflict
from app.postgres.embedded import EmbeddedServer
from app.services.databases.configured import embedded_server

group = click.Group("server", help="The embedded PostgreSQL, used if DATABASE_URL is not set.")


@group.command("start", cls=TellingCommand)
def start() -> None:
    """Start it; it then runs until it is stopped."""
    _server().start()
    click.echo(_state())


@group.command("stop", cls=TellingCommand)
def stop() -> None:
    """Stop it; other commands do not start it again."""
    _server().stop()
    click.echo(_state())


@group.command("status", cls=TellingCommand)
def status() -> None:
    """Show whether it runs, and where."""
    click.echo(_state())


def _server() -> EmbeddedServer:
    if settings().database_url:
        raise Conflict(
            "DATABASE_URL is set, so there is no embedded server",
            hint="Unset DATABASE_URL to work with the sample shop.",
        )
    return embedded_server()


def _state() -> str:
    state = _server().status()
    if not state.running:
        why = " (on purpose; flask server start starts it)" if state.stopped_on_purpose else ""
        return f"stopped{why}\ndata: {state.data}"
    return "\n".join(
        [
            f"running: PostgreSQL {state.version}, pid {state.pid}",
            f"data: {state.data}",
            f"socket: {state.socket}",
            f"programs: {state.programs}",
        ]
    )
