"""flask notifier: where messages about alarms go."""

from pathlib import Path
from typing import Any

import click

from app.cli.completion import notifier_names
from app.cli.groups import Group, examples, json_option, json_text, read_secret
from app.cli.tables import print_table
from app.host import own_user
from app.models import Fact, Notifier
from app.models.types import now
from app.schemas.alerts import notifier_row
from app.services.alerts import notifiers as service

group = Group("notifier", help="Send alarms by mail, Slack, Telegram, Teams, webhooks and more.")

_facts = click.option(
    "--fact",
    "facts",
    multiple=True,
    type=click.Choice([fact.value for fact in Fact]),
    help="Send messages of this kind; can be repeated. Default: every alarm.",
)
_title = click.option("--title", help="Template of the title, with $title, $database, …")
_body = click.option("--body", help="Template of the text, with $text, $time, …")
_url = click.option(
    "--url-file",
    envvar="BACKSTOP_NOTIFIER_URL_FILE",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="The file with its URL, - for standard input. Default: it is asked for.",
)


@group.command("list", epilog=examples("flask notifier list --json"))
@json_option
def list_(as_json: bool) -> None:
    """List the notifiers; their URLs are shown by scheme and host only."""
    notifiers = service.list_notifiers()
    if as_json:
        click.echo(json_text({"notifiers": [notifier_row(notifier) for notifier in notifiers]}))
        return
    print_table(
        ("Notifier", "State", "Target", "Sends"),
        list(map(_cells, notifiers)),
        nothing="There are no notifiers.",
    )


@group.command(
    "create", epilog=examples("flask notifier create ops --url-file url.txt --fact backup-failed")
)
@click.argument("name")
@_url
@_facts
@_title
@_body
@json_option
def create(
    name: str, url_file: Path | None, facts: tuple[str, ...], as_json: bool, **templates: str | None
) -> None:
    """Create a notifier. Its URL contains secrets, so it is not an argument.

    For example: mailtos://user:password@mail.example.org?to=ops@example.org,
    slack://tokens/#channel, json://host/path. Try it with flask notifier test.
    """
    created = service.create_notifier(
        name, _read_url(url_file), created_by=own_user(), **_given(facts, templates)
    )
    message = f"{created.name} has been created: {created.target}."
    click.echo(json_text(notifier_row(created)) if as_json else message)


@group.command("edit")
@click.argument("name", shell_complete=notifier_names)
@click.option("--rename", metavar="NAME", help="The new name.")
@click.option(
    "--new-url", is_flag=True, help="Change the URL: from --url-file, or it is asked for."
)
@_url
@_facts
@click.option("--every-alarm", is_flag=True, help="Send every alarm again.")
@_title
@_body
@click.option("--on/--off", "enabled", default=None, help="Switch it on or off.")
def edit(
    name: str,
    *,
    rename: str | None,
    new_url: bool,
    url_file: Path | None,
    facts: tuple[str, ...],
    every_alarm: bool,
    **options: Any,
) -> None:
    """Change a notifier; options that are not given stay as they are."""
    changes = _given(facts, options)
    if every_alarm:
        changes["facts"] = None
    if rename is not None:
        changes["name"] = rename
    notifier = service.get_notifier_named(name)
    if new_url or url_file is not None:
        changes["url"] = _read_url(url_file)
    edited = service.edit_notifier(notifier.id, by=own_user(), **changes)
    click.echo(f"{edited.name} has been saved.")


@group.command("test")
@click.argument("name", shell_complete=notifier_names)
def test(name: str) -> None:
    """Send a test message and say whether it was accepted."""
    service.send_test(service.get_notifier_named(name).id, now(), by=own_user())
    click.echo(f"{name} has accepted a test message.")


@group.command("delete")
@click.argument("name", shell_complete=notifier_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete a notifier and the record of its messages."""
    notifier = service.get_notifier_named(name)
    if not yes:
        click.confirm(f"Delete the notifier {notifier.name}?", abort=True)
    service.remove_notifier(notifier.id, by=own_user())
    click.echo(f"{name} has been deleted.")


def _cells(notifier: Notifier) -> tuple[str, ...]:
    facts = ", ".join(notifier.facts) if notifier.facts is not None else "every alarm"
    state = "on" if notifier.enabled else "off"
    return notifier.name, state, notifier.target, facts or "nothing"


def _given(facts: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in options.items() if value is not None}
    return given | ({"facts": list(facts)} if facts else {})


def _read_url(file: Path | None) -> str:
    if file is None:
        asked: str = click.prompt("URL", hide_input=True)
        return asked
    return read_secret(file, "--url-file")
