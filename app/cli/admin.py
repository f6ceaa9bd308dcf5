"""flask admin: who may sign in."""

import sys

import click

from app.cli.groups import Group, examples, json_option, json_text
from app.cli.tables import print_table
from app.formatting import moment_short
from app.models.types import moment_text
from app.services.access import admins

group = Group("admin", help="Who may sign in to the panel.")


@group.command(
    "create", epilog=examples("flask admin create ann", "flask admin create ann < password.txt")
)
@click.argument("username")
def create(username: str) -> None:
    """Create an admin; the password is asked for, or read from standard input."""
    admins.create_admin(username, _read_password())
    click.echo(f"Admin {username} has been created.")


@group.command("password")
@click.argument("username")
def password(username: str) -> None:
    """Change an admin's password, asked for or piped in; all their sessions end."""
    admins.change_password(username, _read_password())
    click.echo(f"The password of {username} has been changed, and all their sessions ended.")


@group.command("list", epilog=examples("flask admin list --json"))
@json_option
def list_(as_json: bool) -> None:
    """List the admins."""
    listed = admins.list_admins()
    if as_json:
        rows = [
            {
                "username": admin.username,
                "createdAt": moment_text(admin.created_at),
                "timeZone": admin.time_zone,
                "language": admin.language,
            }
            for admin in listed
        ]
        click.echo(json_text({"admins": rows}))
        return
    print_table(
        ("Username", "Created"),
        [(admin.username, f"since {moment_short(admin.created_at)} UTC") for admin in listed],
        nothing="There are no admins.",
    )


@group.command("remove")
@click.argument("username")
def remove(username: str) -> None:
    """Remove an admin; all their sessions end."""
    admins.remove_admin(username)
    click.echo(f"Admin {username} has been removed.")


def _read_password() -> str:
    """From the keyboard, twice, or from a pipe; never from argv, which others can read."""
    if sys.stdin.isatty():
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return typed
    return sys.stdin.readline().rstrip("\r\n")
