"""Load an archive into a database with pg_restore, and say who loads which part of it.

User code (functions, checks, triggers, expressions, the data itself) is loaded
by a role that signed in without superuser rights: a restore by a superuser runs
what is hidden in a dump as the server's own user, and `--role` does not help,
for RESET ROLE leads back. Extensions are made before any code of the dump can run,
in our own words; what else only a superuser can create comes last.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import PostgresError, RestoreError
from app.postgres import command
from app.postgres.archive import Entry
from app.postgres.connection import quoted
from app.postgres.conninfo import Conninfo, undisturbed
from app.postgres.encodings import printable
from app.postgres.tools import Toolchain, Version

# Created by a superuser alone, after everything that they could act upon.
LAST = ("EVENT TRIGGER", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA")
# Of tables that are named: whoever owns them may, and may then write about it.
_OWN_PUBLICATION = re.compile(
    r"CREATE PUBLICATION (?!.* FOR ALL )|ALTER PUBLICATION .* ADD TABLE |COMMENT ON PUBLICATION "
)
# A subscription would begin to pull from another server, or steal its slot.
NEVER = ("SUBSCRIPTION", "SUBSCRIPTION TABLE")
# What pg_restore sets from 17 on, and no server before knows.
_SETS_MORE = 17
_UNKNOWN = 'ERROR:  unrecognized configuration parameter "transaction_timeout"'
_NAME = r'("(?:[^"]|"")+"|[\w$]+)'
_CREATE_EXTENSION = re.compile(rf"CREATE EXTENSION (?:IF NOT EXISTS )?{_NAME} WITH SCHEMA {_NAME};")
_ERROR = "pg_restore: error: "
_ONE_ERROR = "pg_restore: warning: errors ignored on restore: 1"
_ENTRY = re.compile(r"from TOC entry (\d+);")
_ROWS = ("TABLE DATA", "SEQUENCE SET")
_GRANTS = ("ACL", "DEFAULT ACL")
_TOLD_OF_OTHERS = ("COMMENT", "SECURITY LABEL")
# Without the transaction this would leave tables with doubled rows.
_OVER_LIVING = ("--clean", "--if-exists", "--single-transaction")


class NotLoaded(Exception):
    """pg_restore ended with these words, at an entry of the archive if it names one."""

    def __init__(self, words: str, entry: int | None) -> None:
        super().__init__(words)
        self.words, self.entry = words, entry


@dataclass(frozen=True)
class Plan:
    """The entries of an archive by who loads them, and in which order."""

    schemas: list[Entry]  # by the admin: where extensions go
    extensions: list[Entry]  # by the admin, in our own words
    load: list[Entry]  # by the role without rights: everything else
    configuration: list[Entry]  # of these: rows of extensions' own tables
    last: list[Entry]  # by the admin: event triggers, publications, what is said of extensions
    grants: list[Entry]  # by the admin, when the owners are right
    left_out: list[Entry]  # by nobody
    untrusted: frozenset[str]  # extensions that only a superuser may create

    @property
    def privileged(self) -> list[str]:
        """What needs a superuser, for people: kind and name."""
        return _named([*self.untrusted_extensions, *self.last])

    @property
    def for_superusers(self) -> list[str]:
        """What of it an admin who is no superuser cannot create."""
        others = [each for each in self.last if not _OWN_PUBLICATION.match(each.definition)]
        return _named([*self.untrusted_extensions, *others])

    @property
    def untrusted_extensions(self) -> list[Entry]:
        return [each for each in self.extensions if each.name in self.untrusted]

    @property
    def defined(self) -> list[Entry]:
        """All that is there when it is compared, before it is given back."""
        return [*self.schemas, *self.extensions, *self.load]

    @property
    def left_out_names(self) -> list[str]:
        """What is not restored, for people."""
        return _named(self.left_out)


def _named(entries: list[Entry]) -> list[str]:
    told = (each for each in entries if each.kind not in _TOLD_OF_OTHERS)
    return [printable(f"{each.kind} {each.name}") for each in told]


def plan(entries: Iterable[Entry], untrusted: frozenset[str], *, is_foreign: bool = False) -> Plan:
    """Divide an archive's entries; `untrusted` are extensions that a superuser must create.

    Nothing of a foreign archive is loaded by the admin.
    """
    entries = list(entries)
    own = {(each.schema, each.name) for each in entries if each.kind in ("TABLE", "SEQUENCE")}
    found = Plan([], [], [], [], [], [], [], untrusted)
    last = found.left_out if is_foreign else found.last
    by_kind = {
        **dict.fromkeys(LAST, last),
        **dict.fromkeys(_GRANTS, found.left_out if is_foreign else found.grants),
        **dict.fromkeys(NEVER, found.left_out),
    }
    place: dict[int, list[Entry]] = {}
    for entry in entries:
        chosen = by_kind.get(entry.kind, found.load)
        if entry.kind == "EXTENSION":
            of_strangers = found.left_out if entry.name in untrusted else found.load
            chosen = of_strangers if is_foreign else found.extensions
        elif entry.kind in _ROWS and (entry.schema, entry.name) not in own:
            found.configuration.append(entry)
            chosen = found.left_out if is_foreign else found.load
        elif entry.kind in _TOLD_OF_OTHERS:  # it needs what it speaks of
            chosen = next((place[each] for each in entry.needs if each in place), found.load)
            # That of plpgsql speaks of nothing in the archive: the server has it already.
            if entry.name.startswith("EXTENSION ") and not (is_foreign and entry.needs):
                chosen = last
        place[entry.id] = chosen
        chosen.append(entry)
    schemas = {schema for each in found.extensions for _, schema in [_extension(each)]}
    for entry in [each for each in found.load if each.kind == "SCHEMA" and each.name in schemas]:
        found.load.remove(entry)
        found.schemas.append(entry)
    return found


def creating_extension(entry: Entry) -> str:
    """What makes it, written by us: the admin obeys no text of an archive. Raises RestoreError."""
    name, schema = _extension(entry)
    return f"CREATE EXTENSION IF NOT EXISTS {quoted(name)} WITH SCHEMA {quoted(schema)}"


def _extension(entry: Entry) -> tuple[str, str]:
    """Name and schema of an extension."""
    found = _CREATE_EXTENSION.fullmatch(entry.definition.strip())
    if found is None:
        raise RestoreError(
            f"the entry of extension {entry.name} in the archive cannot be read",
            detail=entry.definition[:200],
        )
    name, schema = (_unquoted(each) for each in found.groups())
    return name, schema


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def load(
    toolchain: Toolchain,
    archive: Path,
    info: Conninfo,
    entries: Iterable[Entry],
    *,
    server: Version,
    list_file: Path,
    jobs: int = 1,
    with_owners: bool = False,
    over_living: bool = False,
    without_tablespaces: bool = False,
    timeout: float,
    environment: Mapping[str, str],
    on_line: command.Line,
    on_tick: Callable[[], None],
    on_start: command.Start = None,
) -> None:
    """Load these entries of an archive into the database of `info`, or fail at the first error.

    `list_file` is written for pg_restore to read. Without `with_owners`
    everything belongs to who signs in, and nothing is granted. `over_living`
    drops each of them first, and does all or nothing. Else a `server` that is
    older than pg_restore may refuse one setting, and nothing else. Raises
    NotLoaded where pg_restore fails, PostgresError where it takes too long; what
    `on_tick` raises ends pg_restore and comes out.
    """
    numbers = [each.id for each in entries]
    if not numbers:
        return
    is_older = server.major < _SETS_MORE <= toolchain.version.major and not over_living
    ignored: list[str] = []
    at: list[int] = []  # the entry that is told to be at fault

    def heard(line: str) -> None:
        on_line(line)
        at.extend(map(int, _ENTRY.findall(line)))
        if is_older and line.startswith(_ERROR):
            if ignored or not line.endswith(_UNKNOWN):
                raise NotLoaded(line.removeprefix(_ERROR), at[-1] if at else None)
            ignored.append(line)
            at.clear()

    list_file.write_text("".join(f"{number};\n" for number in numbers), encoding="ascii")
    argv: list[str | Path] = [
        toolchain.pg_restore, *([] if is_older else ["--exit-on-error"]), "--verbose",
        "--no-password", f"--use-list={list_file}",
        *(_OVER_LIVING if over_living else [f"--jobs={1 if is_older else jobs}"]),
        *([] if with_owners else ["--no-owner", "--no-privileges"]),
        *(["--no-tablespaces"] if without_tablespaces else []),
        "-d", undisturbed(info, server.major).dsn(application_name=None), archive,
    ]  # fmt: skip
    try:
        outcome = command.run(
            argv,
            environment=environment,
            timeout=timeout,
            secrets=info.secrets,
            watch=command.Watch(on_start, heard, on_tick=on_tick),
        )
    except TimeoutError:
        raise took_too_long(timeout) from None
    is_whole = ignored and outcome.status == 1 and outcome.log.endswith(_ONE_ERROR)
    if outcome.status != 0 and not is_whole:
        raise NotLoaded(outcome.last_words, at[-1] if at else None)


def took_too_long(seconds: float) -> PostgresError:
    """A restore is slow; that says nothing of the dump."""
    return PostgresError(
        f"the restore took longer than {seconds:.0f} s and was ended",
        detail="It is not known whether the backup restores.",
        hint="Raise BACKSTOP_DUMP_TIMEOUT if the database is that large.",
    )
