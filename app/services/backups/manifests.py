"""The manifest beside a dump, which describes it without the catalogue.

It is signed with a key derived from SECRET_KEY: without our signature a dump is foreign.
"""

import hashlib
import hmac
import json
import shlex
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from marshmallow import EXCLUDE, INCLUDE, Schema, ValidationError, validate
from marshmallow import fields as checks
from psycopg2.extensions import make_dsn

from app.config import settings
from app.errors import VerificationError
from app.keys import derived_key
from app.models import DatabaseBackup, Trigger
from app.models.types import camel_case, moment_text, now
from app.postgres import ownership
from app.services.backups.queue import FOREIGN
from app.services.databases.configured import Address
from app.services.databases.lookup import database_at

FORMAT = 1
MAX_NOTES = 2_000  # characters
MAX_PIN_REASON = 200
_IS_SIZE = validate.Range(0, 2**63 - 1)
_OWN_CHECKSUM, _SIGNATURE = "manifestSha256", "signature"
_PURPOSE = "backstop: manifests, 1"

#: The facts that people change later.
EDITABLE = ("notes", "pinned_at", "pinned_by", "pin_reason")

# The contents of a foreign dump.
_OF_FOREIGN = ("encoding", "collate", "ctype", "localeProvider", "locale", "extensions", "tables")

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}  # pg_database.datlocprovider


@dataclass(frozen=True)
class Measured:
    """What reading a dump has measured."""

    size: int  # bytes
    sha256: str  # hex
    oldest_reader: int  # major version of the oldest pg_restore that reads it


@dataclass(frozen=True)
class Manifest:
    """The facts in a manifest, as they stand in the columns of its backup."""

    id: str
    filename: str
    size: int
    sha256: str
    oldest_reader: int
    server: str
    server_version: str
    database: str
    database_size: int | None
    contents: dict[str, Any] | None
    tool_version: str
    compression: str
    trigger: Trigger
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    notes: str
    foreign: bool
    is_partial: bool
    pinned_at: datetime | None
    pinned_by: str
    pin_reason: str

    def columns(self) -> dict[str, Any]:
        """The facts by the name of their column."""
        return {name: getattr(self, name) for name in FACTS}


#: The names of the facts.
FACTS = tuple(field.name for field in fields(Manifest))


def build_manifest(backup: DatabaseBackup, measured: Measured | None = None) -> bytes:
    """The signed manifest of a backup, as JSON with its own checksum.

    `measured` is for a dump that is about to be published; otherwise the row has it.
    """
    facts = facts_of(backup)
    if measured is not None:
        facts |= {camel_case(name): value for name, value in asdict(measured).items()}
        facts["finishedAt"] = moment_text(now())
    content = {"format": FORMAT, "restore": _restore_commands(backup)} | facts
    content[_SIGNATURE] = _signature(content)
    return _written(content | {_OWN_CHECKSUM: _checksum(content)})


def facts_of(backup: DatabaseBackup) -> dict[str, Any]:
    """The facts of a row, as a manifest has them."""
    return {camel_case(name): _in_json(getattr(backup, name)) for name in FACTS}


def facts_in(content: dict[str, Any]) -> Manifest:
    """The facts in the content of a manifest, which anybody may have written.

    Raises VerificationError for missing or invalid values.
    """
    try:
        return Manifest(**_ManifestSchema().load(content))
    except ValidationError as error:
        names = ", ".join(sorted(map(str, error.messages_dict)))
        raise VerificationError(f"the manifest has missing or invalid values: {names}") from error


def database_id_in(manifest: Manifest) -> str | None:
    """The id of the database that a manifest names, which gets a row; None for an import."""
    if manifest.server == FOREIGN:
        return None
    return database_at(Address(manifest.server, manifest.database)).id


def createdb_options(backup: DatabaseBackup) -> list[str]:
    """The options of createdb for a database of the same encoding and locale."""
    contents = backup.contents or {}
    if not contents:
        return []
    options = [f"--encoding={contents['encoding']}"]
    if contents["collate"] and contents["ctype"]:  # unknown in some foreign dumps
        options += [f"--lc-collate={contents['collate']}", f"--lc-ctype={contents['ctype']}"]
    provider = _PROVIDERS.get(contents["localeProvider"] or "")
    if provider:
        options.append(f"--locale-provider={provider}")
    if provider in ("icu", "builtin"):
        options.append(f"--{provider}-locale={contents['locale']}")
    return options


def settings_statements(backup: DatabaseBackup, name: str) -> list[str]:
    """Statements with the settings of the database, on which rows can depend."""
    contents = backup.contents or {}
    of_database = {
        "settings": [setting for setting in contents.get("settings", []) if not setting[0]]
    }
    return list(ownership.settings(of_database, name, set()))


def _restore_commands(backup: DatabaseBackup) -> list[str]:
    """The commands that restore the dump into a new database, run in its folder."""
    new = f"{backup.database}_restored"
    create = ["createdb", "--template=template0", *createdb_options(backup), "--", new]
    name = str(make_dsn(dbname=new))  # quoted, since a name can look like a connection string
    sets = [
        ["psql", f"--dbname={name}", "-c", statement]
        for statement in settings_statements(backup, new)
    ]
    restore = ["pg_restore", "--exit-on-error", f"--dbname={name}", backup.filename]
    return [shlex.join(argv) for argv in (create, *sets, restore)]


def read_manifest(raw: bytes) -> dict[str, Any]:
    """The content of a manifest. Raises VerificationError if it was changed."""
    try:
        content = json.loads(raw)
        written = content.pop(_OWN_CHECKSUM)
        is_as_written = written == _checksum(content)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise VerificationError("the manifest cannot be read") from error
    if not is_as_written:
        raise VerificationError("the manifest was changed")
    return dict(content)


def is_signed(content: dict[str, Any]) -> bool:
    """Whether the content was signed by this panel, with its present SECRET_KEY."""
    signature = content.get(_SIGNATURE)
    signed = {key: value for key, value in content.items() if key != _SIGNATURE}
    return isinstance(signature, str) and hmac.compare_digest(
        signature.encode("utf-8", "replace"), _signature(signed).encode()
    )


def distrusted(manifest: Manifest) -> Manifest:
    """The facts of a manifest that somebody else may have written, as a foreign backup.

    Owners, rights, settings and proofs are kept under `unsigned`, until an admin trusts it.
    """
    contents = manifest.contents or {}
    kept = {key: contents.get(key) for key in _OF_FOREIGN}
    kept["extensions"] = [{"name": extension["name"]} for extension in kept["extensions"] or []]
    kept["tables"] = [
        {"schema": str(table.get("schema")), "name": table["name"], "rows": None}
        for table in kept["tables"] or []
    ]
    kept["foreign"] = {}
    if not manifest.foreign:  # an import of another panel remains one
        kept["unsigned"] = contents
    return replace(manifest, foreign=True, contents=kept)


def _in_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment_text(value)
    return value.value if isinstance(value, Trigger) else value


def _signature(content: dict[str, Any]) -> str:
    key = derived_key(settings().secret_key, _PURPOSE)
    return hmac.new(key, _written(content), hashlib.sha256).hexdigest()


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(_written(content)).hexdigest()


def _written(content: dict[str, Any]) -> bytes:
    try:
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a name with surrogates
        return json.dumps(content, indent=2, sort_keys=True).encode()


def _check_text(text: str) -> None:
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
        raise ValidationError("characters that no database accepts")


class _Text(checks.String):
    def __init__(self, longest: int = 255, **options: Any) -> None:
        super().__init__(validate=[validate.Length(max=longest), _check_text], **options)


class _Moment(checks.Field[datetime]):
    def _deserialize(self, value: Any, *_: Any, **__: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise ValidationError("a time without a time zone")
            return moment.astimezone(UTC)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValidationError("not a time") from error


class _NamedSchema(Schema):
    class Meta:
        unknown = INCLUDE

    name = checks.String(required=True)


class _ContentsSchema(Schema):
    class Meta:
        unknown = INCLUDE

    encoding = checks.String(required=True)
    collate = checks.String(required=True, allow_none=True)
    ctype = checks.String(required=True, allow_none=True)
    localeProvider = checks.String(required=True, allow_none=True)  # noqa: N815 - as it is written
    locale = checks.String(required=True, allow_none=True)
    extensions = checks.List(checks.Nested(_NamedSchema), required=True)
    tables = checks.List(checks.Nested(_NamedSchema), required=True)


class _ManifestSchema(Schema):
    class Meta:
        unknown = EXCLUDE

    id = _Text(32, required=True)
    filename = _Text(required=True)
    size = checks.Integer(strict=True, required=True, validate=_IS_SIZE)
    sha256 = _Text(64, required=True)
    oldest_reader = checks.Integer(strict=True, required=True, validate=validate.Range(8, 999))
    server = _Text(required=True)
    server_version = _Text(32, required=True)
    database = _Text(required=True)
    database_size = checks.Integer(strict=True, required=True, allow_none=True, validate=_IS_SIZE)
    contents = checks.Nested(_ContentsSchema, required=True, allow_none=True)
    tool_version = _Text(32, required=True)
    compression = _Text(32, required=True)
    trigger = checks.Enum(Trigger, by_value=True, required=True)
    created_by = _Text(required=True)
    created_at = _Moment(required=True)
    started_at = _Moment(required=True, allow_none=True)
    finished_at = _Moment(required=True, allow_none=True)
    notes = _Text(MAX_NOTES, required=True)
    foreign = checks.Boolean(load_default=False)
    is_partial = checks.Boolean(load_default=False)
    pinned_at = _Moment(load_default=None, allow_none=True)
    pinned_by = _Text(load_default="")
    pin_reason = _Text(MAX_PIN_REASON, load_default="")

    def on_bind_field(self, field_name: str, field_obj: checks.Field[Any]) -> None:
        field_obj.data_key = camel_case(field_name)
