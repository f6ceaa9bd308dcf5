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

from app.errors import AppError, Busy, InvalidInput, NotFound
from app.extensions import db, writing
from app.services.alerts import notifiers
from app.services.audit.acting import acting, tell
from app.services.databases.lookup import choose_database, default_database, guarded
from app.services.databases.service import check_url
from app.services.settings_file.entries import Fields, Key, default_name
from app.services.settings_file.sections import SECTIONS, Section

logger = logging.getLogger(__name__)

Document = dict[str, list[Fields]]
Entries = list[tuple[Key, Fields]]

MAX_SIZE = 1_000_000  # characters of a document

_HEAD = "# Settings of Backstop; flask settings import reads them.\n\n"


def export_settings() -> Document:
    """All settings, without secrets."""
    return {
        kind: [
            {"name": key.name}
            | ({"database": key.database} if key.database else {})
            | {field: value for field, value in fields.items() if field not in section.secrets}
            for key, fields in section.entries().items()
        ]
        for kind, section in SECTIONS.items()
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

    Entries that it does not contain stay, unless `exact`, which removes them, retires databases
    and pauses stores; those of retired databases stay, and so does a kind of setting that it
    leaves out. It is idempotent. Raises InvalidInput, or Conflict if a setting is not possible.
    """
    wanted = _checked(document)
    _check_urls(wanted)
    changes: list[str] = []
    with suppress(_Undone), writing():
        for kind, entries in wanted.items():
            changes += _bring(kind, entries, by=by, exact=exact)
        if dry_run:
            raise _Undone
    tell(detail=("dry run: " if dry_run else "") + ("; ".join(changes) or "nothing to change"))
    if not dry_run:
        logger.info("settings imported changes=%d by=%r", len(changes), by)
    return changes


def _check_urls(wanted: dict[str, Entries]) -> None:
    """Check new URLs before anything is locked: one of a notifier takes a second."""
    there = SECTIONS["notifiers"].entries()
    db.session.commit()
    for key, fields in wanted.get("databases", []):
        if url := fields.get("url"):
            with _named("database", key):
                check_url(url)
    for key, fields in wanted.get("notifiers", []):
        url = fields.get("url")
        if url is None or url == there.get(key, {}).get("url"):
            continue
        with _named("notifier", key):
            fields["url"] = notifiers.check_url(url)


@contextmanager
def _named(word: str, key: Key) -> Iterator[None]:
    """Errors name the entry that they are about."""
    try:
        yield
    except Busy:
        raise
    except AppError as error:
        kind = InvalidInput if isinstance(error, NotFound) else type(error)
        message = f"{_called(word, key)}: {error.message}"
        raise kind(message, detail=error.detail, hint=error.hint) from error


def _called(word: str, key: Key) -> str:
    return f'{word} "{key.name}"' + (f" of {key.database}" if key.database else "")


class _Undone(Exception):
    """Rolls a dry run back."""


def _bring(kind: str, entries: Entries, *, by: str, exact: bool) -> list[str]:
    section, changes = SECTIONS[kind], []
    there, wanted = section.entries(), _by_key(kind, entries)
    for key, kept in there.items() if exact else ():
        if key not in wanted and kept.get("state") != section.removed:
            with _named(section.word, key):
                section.remove(key, by)
            changes.append(f"{_called(section.word, key)} {section.removed}")
    for key, given in wanted.items():
        with _named(section.word, key):
            fields = section.as_kept(given)
            if key not in there:
                _refuse_gaps(section, fields)
                section.add(key, fields, by)
                changes.append(f"{_called(section.word, key)} added")
            elif changed := {
                field: value for field, value in fields.items() if there[key].get(field) != value
            }:
                section.edit(key, changed, by)
                changes.append(f"{_called(section.word, key)} changed: {', '.join(changed)}")
    return changes


def _by_key(kind: str, entries: Entries) -> dict[Key, Fields]:
    """Entries by keys that are the same for the same entry, once databases are applied."""
    section, default, wanted = SECTIONS[kind], default_name(), {}
    for given, fields in entries:
        key = given
        with _named(section.word, given):
            if section.of_database:
                database = guarded(choose_database(given.database)).name
                key = given._replace(database="" if database == default else database)
            elif section.names_database:
                key = given._replace(name=_database_named(given.name))
        if key in wanted:
            raise InvalidInput(f'{kind}: "{key.name}" occurs twice')
        wanted[key] = fields
    return wanted


def _database_named(name: str) -> str:
    """The name of a database; that of the default one on its server means it too."""
    try:
        return guarded(choose_database(name)).name
    except NotFound:
        if default_name() and name == (default := default_database()).dbname:
            return default.name
        raise


def _refuse_gaps(section: Section, fields: Fields) -> None:
    if missing := sorted(section.needed - fields.keys()):
        raise InvalidInput(f"{missing[0]} is missing")


def _checked(document: Mapping[str, Any]) -> dict[str, Entries]:
    if unknown := sorted(document.keys() - SECTIONS.keys()):
        raise InvalidInput(
            f'unknown kind of setting: "{unknown[0][:100]}"',
            hint=f"Kinds are {', '.join(SECTIONS)}.",
        )
    for kind, entries in document.items():
        if not isinstance(entries, list):
            raise InvalidInput(f"{kind} must be a list", hint=f"Begin each entry with [[{kind}]].")
    return {
        kind: [
            _entry(f"{kind}, entry {number}", section, entry)
            for number, entry in enumerate(document[kind], 1)
        ]
        for kind, section in SECTIONS.items()
        if kind in document
    }


def _entry(place: str, section: Section, entry: Any) -> tuple[Key, Fields]:
    given = dict(entry) if isinstance(entry, dict) else {}
    identity = [given.pop("name", None)]
    if section.of_database and "database" in given:
        identity.append(given.pop("database"))
    for word, value in zip(("name", "database"), identity, strict=False):
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise InvalidInput(f"{place}: the {word} is missing or not printable")
    name, database = (value.strip() for value in (*identity, "")[:2])
    return Key(database, name), _checked_fields(place, section, given)


def _checked_fields(place: str, section: Section, fields: Fields) -> Fields:
    for key, value in fields.items():
        wanted = section.fields.get(key)
        if wanted is None:
            identity = "name, database" if section.of_database else "name"
            raise InvalidInput(
                f'{place}: unknown field "{key[:100]}"',
                hint=f"Fields are {identity}, {', '.join(section.fields)}.",
            )
        if type(value) is not wanted:  # True is an int in Python, but not here
            raise InvalidInput(f"{place}: {key} must be {_WORDS[wanted]}")
        if isinstance(value, str):
            fields[key] = value.replace("\r\n", "\n").strip()
    return fields


_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
}
