"""The manifest beside a dump: what it is, told without the catalogue.

It carries an HMAC under a key made of SECRET_KEY: only what this panel has
written is believed of where a dump comes from.
"""

import hashlib
import hmac
import json
import shlex
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from marshmallow import EXCLUDE, INCLUDE, Schema, ValidationError, fields, validate
from psycopg2.extensions import make_dsn

from app.config import settings
from app.errors import VerificationError
from app.keys import derived_key
from app.models import DatabaseBackup, Trigger
from app.models.types import moment_text, now
from app.postgres import ownership

FORMAT = 1
MAX_NOTES = 2_000  # characters
MAX_PIN_REASON = 200
_IS_SIZE = validate.Range(0, 2**63 - 1)
_OWN_CHECKSUM, _SIGNATURE = "manifestSha256", "signature"
_PURPOSE = "backstop: manifests, 1"

#: What row and manifest tell alike, by the column's name.
FACTS = (
    "id", "filename", "size", "sha256", "oldest_reader", "server", "server_version", "database",
    "database_size", "contents", "tool_version", "compression", "trigger", "created_by",
    "created_at", "started_at", "finished_at", "notes", "foreign",
    "pinned_at", "pinned_by", "pin_reason",
)  # fmt: skip

#: Those of them that people change later.
EDITABLE = ("notes", "pinned_at", "pinned_by", "pin_reason")

#: What contents tell of a dump that is nobody's in particular.
_TOLD_BY_ANYBODY = (
    *("encoding", "collate", "ctype", "localeProvider", "locale"),
    *("extensions", "tables"),
)

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}  # pg_database.datlocprovider


@dataclass(frozen=True)
class Measured:
    """What the check of a dump has found."""

    size: int  # bytes
    sha256: str  # hex
    oldest_reader: int  # major version of the oldest pg_restore that reads it


def build_manifest(backup: DatabaseBackup, proof: Measured | None = None) -> bytes:
    """The manifest of a backup, as JSON with its own checksum, signed by this panel.

    With the proof of a dump that is about to be published; without one, as
    the row has it.
    """
    facts = facts_of(backup)
    if proof is not None:
        facts |= {camel_case(name): value for name, value in asdict(proof).items()}
        facts["finishedAt"] = moment_text(now())
    content = {"format": FORMAT, "restore": _restore_commands(backup)} | facts
    content[_SIGNATURE] = _signature(content)
    return _written(content | {_OWN_CHECKSUM: _checksum(content)})


def facts_of(backup: DatabaseBackup) -> dict[str, Any]:
    """What a row says, as a manifest would."""
    return {camel_case(name): _told(getattr(backup, name)) for name in FACTS}


def columns_of(content: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says, as columns of a row.

    Whoever can write the folder can write a manifest: each value is checked.
    Raises VerificationError if it tells too little, or what cannot be.
    """
    try:
        columns: dict[str, Any] = _ManifestSchema().load(content)
    except ValidationError as error:
        names = ", ".join(sorted(map(str, error.messages_dict)))
        raise VerificationError(f"the manifest does not tell, or not rightly: {names}") from error
    return columns


def createdb_options(backup: DatabaseBackup) -> list[str]:
    """What createdb must be told for a database of the same encoding and locale."""
    contents = backup.contents or {}
    if not contents:
        return []
    options = [f"--encoding={contents['encoding']}"]
    if contents["collate"] and contents["ctype"]:  # a foreign dump may not tell
        options += [f"--lc-collate={contents['collate']}", f"--lc-ctype={contents['ctype']}"]
    provider = _PROVIDERS.get(contents["localeProvider"] or "")
    if provider:
        options.append(f"--locale-provider={provider}")
    if provider in ("icu", "builtin"):
        options.append(f"--{provider}-locale={contents['locale']}")
    return options


def settings_statements(backup: DatabaseBackup, name: str) -> list[str]:
    """What sets in a database of this name what was set for it: rows can depend on that."""
    contents = backup.contents or {}
    of_database = {"settings": [each for each in contents.get("settings", []) if not each[0]]}
    return list(ownership.settings(of_database, name, set()))


def _restore_commands(backup: DatabaseBackup) -> list[str]:
    """How the dump is restored into a new database, from the folder where it lies."""
    new = f"{backup.database}_restored"
    create = ["createdb", "--template=template0", *createdb_options(backup), "--", new]
    name = str(make_dsn(dbname=new))  # quoted: a name can look like a connection string
    sets = [["psql", f"--dbname={name}", "-c", each] for each in settings_statements(backup, new)]
    restore = ["pg_restore", "--exit-on-error", f"--dbname={name}", backup.filename]
    return [shlex.join(each) for each in (create, *sets, restore)]


def read_manifest(raw: bytes) -> dict[str, Any]:
    """The content of a manifest. Raises VerificationError if it is not as it was written."""
    try:
        content = json.loads(raw)
        written = content.pop(_OWN_CHECKSUM)
        is_as_written = written == _checksum(content)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise VerificationError("the manifest cannot be read") from error
    if not is_as_written:
        raise VerificationError("the manifest is not as it was written")
    return dict(content)


def is_signed(content: dict[str, Any]) -> bool:
    """Whether this panel, with its present SECRET_KEY, has written the content of a manifest."""
    signature = content.get(_SIGNATURE)
    signed = {key: value for key, value in content.items() if key != _SIGNATURE}
    return isinstance(signature, str) and hmac.compare_digest(
        signature.encode("utf-8", "replace"), _signature(signed).encode()
    )


def distrusted(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns of a backup whose manifest somebody else may have written: a foreign one.

    What it tells of owners, rights, settings and proofs is put away under
    `unsigned`, until an admin says that it can be trusted.
    """
    contents = columns["contents"] or {}
    kept = {key: contents.get(key) for key in _TOLD_BY_ANYBODY}
    kept["extensions"] = [{"name": each["name"]} for each in kept["extensions"] or []]
    kept["tables"] = [
        {"schema": str(each.get("schema")), "name": each["name"], "rows": None}
        for each in kept["tables"] or []
    ]
    kept["foreign"] = {}
    if not columns["foreign"]:  # an import of another panel stays one
        kept["unsigned"] = contents
    return columns | {"foreign": True, "contents": kept}


def _told(value: Any) -> Any:
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
    except UnicodeEncodeError:  # a name that fits no encoding
        return json.dumps(content, indent=2, sort_keys=True).encode()


def camel_case(name: str) -> str:
    """server_version as serverVersion."""
    first, *others = name.split("_")
    return first + "".join(each.title() for each in others)


def _check_text(text: str) -> None:
    if any(each == "\0" or "\ud800" <= each <= "\udfff" for each in text):
        raise ValidationError("characters that no database takes")


class _Text(fields.String):
    def __init__(self, longest: int = 255, **options: Any) -> None:
        super().__init__(validate=[validate.Length(max=longest), _check_text], **options)


class _Moment(fields.Field[datetime]):
    def _deserialize(self, value: Any, *_: Any, **__: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise ValidationError("a time without a zone")
            return moment.astimezone(UTC)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValidationError("no time") from error


class _NamedSchema(Schema):
    class Meta:
        unknown = INCLUDE

    name = fields.String(required=True)


class _ContentsSchema(Schema):
    class Meta:
        unknown = INCLUDE

    encoding = fields.String(required=True)
    collate = fields.String(required=True, allow_none=True)
    ctype = fields.String(required=True, allow_none=True)
    localeProvider = fields.String(required=True, allow_none=True)  # noqa: N815 - as it is written
    locale = fields.String(required=True, allow_none=True)
    extensions = fields.List(fields.Nested(_NamedSchema), required=True)
    tables = fields.List(fields.Nested(_NamedSchema), required=True)


class _ManifestSchema(Schema):
    class Meta:
        unknown = EXCLUDE

    id = _Text(32, required=True)
    filename = _Text(required=True)
    size = fields.Integer(strict=True, required=True, validate=_IS_SIZE)
    sha256 = _Text(64, required=True)
    oldest_reader = fields.Integer(strict=True, required=True, validate=validate.Range(8, 999))
    server = _Text(required=True)
    server_version = _Text(32, required=True)
    database = _Text(required=True)
    database_size = fields.Integer(strict=True, required=True, allow_none=True, validate=_IS_SIZE)
    contents = fields.Nested(_ContentsSchema, required=True, allow_none=True)
    tool_version = _Text(32, required=True)
    compression = _Text(32, required=True)
    trigger = fields.Enum(Trigger, by_value=True, required=True)
    created_by = _Text(required=True)
    created_at = _Moment(required=True)
    started_at = _Moment(required=True, allow_none=True)
    finished_at = _Moment(required=True, allow_none=True)
    notes = _Text(MAX_NOTES, required=True)
    foreign = fields.Boolean(load_default=False)
    pinned_at = _Moment(load_default=None, allow_none=True)
    pinned_by = _Text(load_default="")
    pin_reason = _Text(MAX_PIN_REASON, load_default="")

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.data_key = camel_case(field_name)
