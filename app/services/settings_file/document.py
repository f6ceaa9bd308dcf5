"""The settings that admins change at run time as one document, for version control.

A document has one list for each kind of setting, whose entries have names. It never
contains a secret: encrypted values are neither shown nor exported.
"""

import logging
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import tomli_w

from app.errors import AppError, Busy, InvalidInput
from app.extensions import db, writing
from app.services.alerts import notifiers
from app.services.audit.acting import acting, tell
from app.services.settings_file.sections import SECTIONS, Fields, Section

logger = logging.getLogger(__name__)

Document = dict[str, list[Fields]]

MAX_SIZE = 1_000_000  # characters of a document

_HEAD = "# Settings of Backstop; flask settings import reads them.\n\n"


def export_settings() -> Document:
    """All settings, without secrets."""
    return {
        key: [
            {"name": name}
            | {each: value for each, value in fields.items() if each not in section.secrets}
            for name, fields in section.entries().items()
        ]
        for key, section in SECTIONS.items()
    }


def as_text(document: Document) -> str:
    """The document as TOML, whose lines tell one change at a time."""
    # Entry by entry: short ones would be put on one line.
    entries = (
        f"[[{key}]]\n{tomli_w.dumps(entry, multiline_strings=True)}"
        for key, kept in document.items()
        for entry in kept
    )
    return _HEAD + "\n".join(entries)


def from_text(text: str) -> dict[str, Any]:
    """The document in a text. Raises InvalidInput if it is not TOML."""
    if len(text) > MAX_SIZE:
        raise InvalidInput(f"the settings must not be longer than {MAX_SIZE:,} characters")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput("the settings are not valid TOML", detail=f"{error}.") from error


@acting
def import_settings(
    document: Mapping[str, Any], *, by: str, exact: bool = False, dry_run: bool = False
) -> list[str]:
    """Apply a document, all of it or nothing. Returns the changes, in words.

    Entries that it does not contain stay, unless `exact`; a kind of setting that it
    leaves out stays in any case. It is idempotent. Raises InvalidInput, or Conflict
    if a setting is not possible.
    """
    wanted = _checked(document)
    _check_urls(wanted.get("notifiers", {}))
    changes: list[str] = []
    with suppress(_Undone), writing():
        for key, entries in wanted.items():
            changes += _bring(SECTIONS[key], entries, by=by, exact=exact)
        if dry_run:
            raise _Undone
    tell(detail=("dry run: " if dry_run else "") + ("; ".join(changes) or "nothing to change"))
    if not dry_run:
        logger.info("settings imported changes=%d by=%r", len(changes), by)
    return changes


def _check_urls(wanted: dict[str, Fields]) -> None:
    """Check new URLs of notifiers before anything is locked: each takes a second."""
    there = SECTIONS["notifiers"].entries()
    db.session.commit()
    for name, fields in wanted.items():
        url = fields.get("url")
        if url is None or url == there.get(name, {}).get("url"):
            continue
        with _named("notifier", name):
            fields["url"] = notifiers.check_url(url)


@contextmanager
def _named(word: str, name: str) -> Iterator[None]:
    """Errors name the entry that they are about."""
    try:
        yield
    except Busy:
        raise
    except AppError as error:
        message = f'{word} "{name}": {error.message}'
        raise type(error)(message, detail=error.detail, hint=error.hint) from error


class _Undone(Exception):
    """Rolls a dry run back."""


def _bring(section: Section, wanted: dict[str, Fields], *, by: str, exact: bool) -> list[str]:
    there, changes = section.entries(), []
    for name in there if exact else ():
        if name not in wanted:
            section.remove(name, by)
            changes.append(f'{section.word} "{name}" removed')
    for name, given in wanted.items():
        with _named(section.word, name):
            fields = section.as_kept(given)
            if name not in there:
                _refuse_gaps(section, fields)
                section.add(name, fields, by)
                changes.append(f'{section.word} "{name}" added')
            elif changed := {
                key: value for key, value in fields.items() if there[name].get(key) != value
            }:
                section.edit(name, changed, by)
                changes.append(f'{section.word} "{name}" changed: {", ".join(changed)}')
    return changes


def _refuse_gaps(section: Section, fields: Fields) -> None:
    if missing := sorted(section.needed - fields.keys()):
        raise InvalidInput(f"{missing[0]} is missing")


def _checked(document: Mapping[str, Any]) -> dict[str, dict[str, Fields]]:
    if unknown := sorted(document.keys() - SECTIONS.keys()):
        raise InvalidInput(
            f'unknown kind of setting: "{unknown[0][:100]}"',
            hint=f"Kinds are {', '.join(SECTIONS)}.",
        )
    checked: dict[str, dict[str, Fields]] = {}
    for key, entries in document.items():
        if not isinstance(entries, list):
            raise InvalidInput(f"{key} must be a list", hint=f"Begin each entry with [[{key}]].")
        checked[key] = {}
        for number, entry in enumerate(entries, 1):
            name, fields = _entry(f"{key}, entry {number}", SECTIONS[key], entry)
            if name in checked[key]:
                raise InvalidInput(f'{key}: "{name}" occurs twice')
            checked[key][name] = fields
    return checked


def _entry(place: str, section: Section, entry: Any) -> tuple[str, Fields]:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InvalidInput(f"{place}: the name is missing or not printable")
    fields = {key: value for key, value in entry.items() if key != "name"}
    for key, value in fields.items():
        wanted = section.fields.get(key)
        if wanted is None:
            raise InvalidInput(
                f'{place}: unknown field "{key[:100]}"',
                hint=f"Fields are name, {', '.join(section.fields)}.",
            )
        if type(value) is not wanted:  # True is an int in Python, but not here
            raise InvalidInput(f"{place}: {key} must be {_WORDS[wanted]}")
        if isinstance(value, str):
            fields[key] = value.replace("\r\n", "\n").strip()
    return name.strip(), fields


_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
}
