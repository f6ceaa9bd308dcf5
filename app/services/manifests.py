"""The manifest beside a dump: what it is, told without the catalogue."""

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg2.extensions import make_dsn

from app.errors import VerificationError
from app.models import DatabaseBackup, Trigger
from app.models.types import now

FORMAT = 1
_OWN_CHECKSUM = "manifestSha256"

#: What row and manifest tell alike, by the column's name.
FACTS = (
    "id", "filename", "size", "sha256", "oldest_reader", "server", "server_version", "database",
    "database_size", "contents", "tool_version", "compression", "trigger", "created_by",
    "created_at", "started_at", "finished_at", "notes",
)  # fmt: skip

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}  # pg_database.datlocprovider


@dataclass(frozen=True)
class Proof:
    """What the check of a dump has found."""

    size: int  # bytes
    sha256: str  # hex
    oldest_reader: int  # major version of the oldest pg_restore that reads it


def build_manifest(backup: DatabaseBackup, proof: Proof | None = None) -> bytes:
    """The manifest of a backup, as JSON with its own checksum.

    With the proof of a dump that is about to be published; without one, as
    the row has it.
    """
    facts = facts_of(backup)
    if proof is not None:
        facts |= {_camel(name): value for name, value in asdict(proof).items()}
        facts["finishedAt"] = moment_text(now())
    content = {"format": FORMAT, "restore": _restore_commands(backup)} | facts
    return _written(content | {_OWN_CHECKSUM: _checksum(content)})


def facts_of(backup: DatabaseBackup) -> dict[str, Any]:
    """What a row says, as a manifest would."""
    return {_camel(name): _told(getattr(backup, name)) for name in FACTS}


def columns_of(content: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says, as columns of a row.

    Raises VerificationError if it tells too little.
    """
    try:
        columns = {name: content[_camel(name)] for name in FACTS}
        columns["trigger"] = Trigger(columns["trigger"])
        for name in ("created_at", "started_at", "finished_at"):
            columns[name] = moment_of(columns[name])
    except (KeyError, ValueError, TypeError) as error:
        raise VerificationError(f"the manifest does not tell {error}") from error
    return columns


def createdb_options(backup: DatabaseBackup) -> list[str]:
    """What createdb must be told for a database of the same encoding and locale."""
    contents = backup.contents or {}
    if not contents:
        return []
    options = [
        f"--encoding={contents['encoding']}",
        f"--lc-collate={contents['collate']}",
        f"--lc-ctype={contents['ctype']}",
    ]
    provider = _PROVIDERS.get(contents["localeProvider"] or "")
    if provider:
        options.append(f"--locale-provider={provider}")
    if provider in ("icu", "builtin"):
        options.append(f"--{provider}-locale={contents['locale']}")
    return options


def _restore_commands(backup: DatabaseBackup) -> list[str]:
    """How the dump is restored into a new database, from the folder where it lies."""
    new = f"{backup.database}_restored"
    create = ["createdb", "--template=template0", *createdb_options(backup), "--", new]
    name = str(make_dsn(dbname=new))  # quoted: a name can look like a connection string
    restore = ["pg_restore", "--exit-on-error", f"--dbname={name}", backup.filename]
    return [shlex.join(create), shlex.join(restore)]


def read_manifest(raw: bytes) -> dict[str, Any]:
    """The content of a manifest. Raises VerificationError if it is not as it was written."""
    try:
        content = json.loads(raw)
        written = content.pop(_OWN_CHECKSUM)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise VerificationError("the manifest cannot be read") from error
    if written != _checksum(content):
        raise VerificationError("the manifest is not as it was written")
    return dict(content)


def moment_of(text: str | None) -> datetime | None:
    """The moment that `moment_text` wrote."""
    return datetime.fromisoformat(text) if text else None


def moment_text(moment: datetime | None) -> str | None:
    """2026-11-23T12:59:30.123Z"""
    if moment is None:
        return None
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def _told(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment_text(value)
    return value.value if isinstance(value, Trigger) else value


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(_written(content)).hexdigest()


def _written(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode()


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.title() for each in others)
