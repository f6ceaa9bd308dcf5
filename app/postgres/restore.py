"""Load an archive into a database with pg_restore, and plan who loads which part of it.

User code (functions, checks, triggers, expressions, the data itself) is loaded by a
role that signed in without superuser rights: in a restore by a superuser, code hidden
in the dump runs as the server's own user, and `--role` does not help, because RESET
ROLE undoes it. Extensions are created before any code of the dump can run, by our own
statements; everything else that only a superuser can create comes last.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.errors import PostgresError, RestoreError
from app.postgres.archive import Entry
from app.postgres.connection import quoted, unquoted
from app.postgres.conninfo import Conninfo, undisturbed
from app.postgres.encodings import printable
from app.postgres.supervision import Supervision
from app.postgres.tools import Toolchain, Version
from app.programs import command

# Created by a superuser alone, after everything they could act upon.
LAST = ("EVENT TRIGGER", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA")
# For named tables: their owner may create it, and may comment on it.
_OWN_PUBLICATION = re.compile(
    r"CREATE PUBLICATION (?!.* FOR ALL )|ALTER PUBLICATION .* ADD TABLE |COMMENT ON PUBLICATION "
)
# A subscription would start to pull from another server, or steal its slot.
NEVER = ("SUBSCRIPTION", "SUBSCRIPTION TABLE")
# From 17 on, pg_restore sets a parameter that older servers do not know.
_SETS_MORE = 17
_UNKNOWN = 'ERROR:  unrecognized configuration parameter "transaction_timeout"'
_NAME = r'("(?:[^"]|"")+"|[\w$]+)'
_CREATE_EXTENSION = re.compile(rf"CREATE EXTENSION (?:IF NOT EXISTS )?{_NAME} WITH SCHEMA {_NAME};")
_ERROR = "pg_restore: error: "
_ONE_ERROR = "pg_restore: warning: errors ignored on restore: 1"
_ENTRY = re.compile(r"from TOC entry (\d+);")
_ROWS = ("TABLE DATA", "SEQUENCE SET")
_GRANTS = ("ACL", "DEFAULT ACL")
_REMARKS = ("COMMENT", "SECURITY LABEL")
# Without the transaction, this would leave tables with duplicated rows.
_OVER_LIVE = ("--clean", "--if-exists", "--single-transaction")


class NotLoaded(Exception):
    """pg_restore failed with these words, at an entry of the archive if it named one."""

    def __init__(self, words: str, entry: int | None) -> None:
        super().__init__(words)
        self.words, self.entry = words, entry


@dataclass(frozen=True)
class Plan:
    """The entries of an archive, by who loads them and in which order."""

    schemas: list[Entry]  # by the admin: schemas that extensions go into
    extensions: list[Entry]  # by the admin, with our own statements
    load: list[Entry]  # by the role without rights: everything else
    configuration: list[Entry]  # part of `load`: rows of tables that belong to extensions
    last: list[Entry]  # by the admin: event triggers, publications, comments on extensions
    grants: list[Entry]  # by the admin, once the owners are right
    left_out: list[Entry]  # by nobody
    untrusted: frozenset[str]  # extensions that only a superuser may create

    @property
    def privileged(self) -> list[str]:
        """Kind and name of everything that needs a superuser."""
        return _named([*self.untrusted_extensions, *self.last])

    @property
    def for_superusers(self) -> list[str]:
        """The part of it that an admin without superuser rights cannot create."""
        others = [entry for entry in self.last if not _OWN_PUBLICATION.match(entry.definition)]
        return _named([*self.untrusted_extensions, *others])

    @property
    def untrusted_extensions(self) -> list[Entry]:
        return [entry for entry in self.extensions if entry.name in self.untrusted]

    @property
    def defined(self) -> list[Entry]:
        """Everything that exists when the database is compared, before it is given back."""
        return [*self.schemas, *self.extensions, *self.load]

    @property
    def left_out_names(self) -> list[str]:
        """Kind and name of everything that is not restored."""
        return _named(self.left_out)


def _named(entries: list[Entry]) -> list[str]:
    objects = (entry for entry in entries if entry.kind not in _REMARKS)
    return [printable(f"{entry.kind} {entry.name}") for entry in objects]


def plan_load(
    entries: Iterable[Entry], untrusted: frozenset[str], *, is_foreign: bool = False
) -> Plan:
    """Divide an archive's entries; `untrusted` extensions must be created by a superuser.

    The admin loads nothing of a foreign archive.
    """
    entries = list(entries)
    own = {(entry.schema, entry.name) for entry in entries if entry.kind in ("TABLE", "SEQUENCE")}
    divided = Plan([], [], [], [], [], [], [], untrusted)
    last = divided.left_out if is_foreign else divided.last
    by_kind = {
        **dict.fromkeys(LAST, last),
        **dict.fromkeys(_GRANTS, divided.left_out if is_foreign else divided.grants),
        **dict.fromkeys(NEVER, divided.left_out),
    }
    place: dict[int, list[Entry]] = {}
    for entry in entries:
        chosen = by_kind.get(entry.kind, divided.load)
        if entry.kind == "EXTENSION":
            chosen = divided.extensions
            if is_foreign:
                chosen = divided.left_out if entry.name in untrusted else divided.load
        elif entry.kind in _ROWS and (entry.schema, entry.name) not in own:
            divided.configuration.append(entry)
            chosen = divided.left_out if is_foreign else divided.load
        elif entry.kind in _REMARKS:  # it needs the object that it is about
            chosen = next((place[need] for need in entry.needs if need in place), divided.load)
            # The comment on plpgsql needs nothing: the extension is not in the archive.
            if entry.name.startswith("EXTENSION ") and not (is_foreign and entry.needs):
                chosen = last
        place[entry.id] = chosen
        chosen.append(entry)
    schemas = {_extension(entry)[1] for entry in divided.extensions}
    for entry in list(divided.load):
        if entry.kind == "SCHEMA" and entry.name in schemas:
            divided.load.remove(entry)
            divided.schemas.append(entry)
    return divided


def creating_extension(entry: Entry) -> str:
    """Our own statement for it: the admin runs no text of an archive. Raises RestoreError."""
    name, schema = _extension(entry)
    return f"CREATE EXTENSION IF NOT EXISTS {quoted(name)} WITH SCHEMA {quoted(schema)}"


def _extension(entry: Entry) -> tuple[str, str]:
    """Name and schema of an extension."""
    match = _CREATE_EXTENSION.fullmatch(entry.definition.strip())
    if match is None:
        raise RestoreError(
            f"cannot read the entry of extension {entry.name} in the archive",
            detail=entry.definition[:200],
        )
    name, schema = map(unquoted, match.groups())
    return name, schema


@dataclass(frozen=True)
class Loading:
    """An archive, the database it is loaded into, and how pg_restore is run for that."""

    toolchain: Toolchain
    archive: Path
    target: Conninfo
    server: Version
    list_file: Path  # written for pg_restore to read
    on_line: command.Line
    supervision: Supervision


@dataclass(frozen=True)
class Options:
    """How a set of entries is loaded.

    Without `with_owners` everything belongs to the role that signs in, and nothing is
    granted. `over_live` drops each entry first, and loads all of them or none.
    """

    jobs: int = 1
    with_owners: bool = False
    over_live: bool = False
    without_tablespaces: bool = False


class _Errors:
    """Collects the errors that pg_restore reports, line by line.

    A server older than pg_restore rejects one setting; that error alone is ignored.
    """

    def __init__(self, *, is_older: bool) -> None:
        self._is_older = is_older
        self.has_ignored = False
        self.entry: int | None = None  # the last one that a line named

    def hear(self, line: str) -> None:
        """Raises NotLoaded for an error that pg_restore itself would go on after."""
        for number in _ENTRY.findall(line):
            self.entry = int(number)
        if self._is_older and line.startswith(_ERROR):
            if self.has_ignored or not line.endswith(_UNKNOWN):
                raise NotLoaded(line.removeprefix(_ERROR), self.entry)
            self.has_ignored, self.entry = True, None


def load(loading: Loading, entries: Iterable[Entry], options: Options) -> None:
    """Load these entries of an archive into the target database; stop at the first error.

    Raises NotLoaded if pg_restore fails and PostgresError if it takes too long.
    """
    numbers = [entry.id for entry in entries]
    if not numbers:
        return
    newest = loading.toolchain.version.major
    is_older = loading.server.major < _SETS_MORE <= newest and not options.over_live
    errors = _Errors(is_older=is_older)

    def hear(line: str) -> None:
        loading.on_line(line)
        errors.hear(line)

    listed = "".join(f"{number};\n" for number in numbers)
    loading.list_file.write_text(listed, encoding="ascii")
    supervision = loading.supervision
    try:
        outcome = command.run(
            _arguments(loading, options, is_older=is_older),
            environment=supervision.environment,
            timeout=supervision.timeout,
            secrets=loading.target.secrets,
            watch=command.Watch(supervision.on_start, hear, on_tick=supervision.on_tick),
        )
    except TimeoutError:
        raise took_too_long(supervision.timeout) from None
    is_complete = errors.has_ignored and outcome.status == 1 and outcome.log.endswith(_ONE_ERROR)
    if outcome.status != 0 and not is_complete:
        raise NotLoaded(outcome.last_words, errors.entry)


def _arguments(loading: Loading, options: Options, *, is_older: bool) -> list[str | Path]:
    target = undisturbed(loading.target, loading.server.major)
    return [
        loading.toolchain.pg_restore, *([] if is_older else ["--exit-on-error"]), "--verbose",
        "--no-password", f"--use-list={loading.list_file}",
        *(_OVER_LIVE if options.over_live else [f"--jobs={1 if is_older else options.jobs}"]),
        *([] if options.with_owners else ["--no-owner", "--no-privileges"]),
        *(["--no-tablespaces"] if options.without_tablespaces else []),
        "-d", target.dsn(application_name=None), loading.archive,
    ]  # fmt: skip


def took_too_long(seconds: float) -> PostgresError:
    """The error of a slow restore; slowness says nothing about the dump."""
    return PostgresError(
        f"the restore took longer than {seconds:.0f} s and was ended",
        detail="It is not known whether the backup can be restored.",
        hint="Raise BACKSTOP_RESTORE_TIMEOUT if the database is that large.",
    )
