"""The manifest beside a dump: what it is, told without the catalogue."""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from app.errors import VerificationError
from app.models import DatabaseBackup
from app.models.types import now

FORMAT = 1
_OWN_CHECKSUM = "manifestSha256"


@dataclass(frozen=True)
class Proof:
    """What the check of a dump has found."""

    size: int  # bytes
    sha256: str  # hex
    oldest_reader: int  # major version of the oldest pg_restore that reads it


def build_manifest(backup: DatabaseBackup, proof: Proof) -> bytes:
    """The manifest of a backup whose dump was checked, as JSON with its own checksum."""
    content = {
        "format": FORMAT,
        "id": backup.id,
        "filename": backup.filename,
        "size": proof.size,
        "sha256": proof.sha256,
        "oldestReader": proof.oldest_reader,
        "server": backup.server,
        "serverVersion": backup.server_version,
        "database": backup.database,
        "toolVersion": backup.tool_version,
        "compression": backup.compression,
        "trigger": backup.trigger.value,
        "createdBy": backup.created_by,
        "createdAt": moment_text(backup.created_at),
        "startedAt": moment_text(backup.started_at),
        "finishedAt": moment_text(backup.finished_at or now()),
        "notes": backup.notes,
    }
    return _written(content | {_OWN_CHECKSUM: _checksum(content)})


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


def proof_of(content: dict[str, Any]) -> Proof:
    """What a manifest says of its dump. Raises VerificationError if it does not."""
    try:
        return Proof(**{name: content[_camel(name)] for name in asdict(Proof(0, "", 0))})
    except KeyError as error:
        raise VerificationError(f"the manifest does not tell {error}") from error


def moment_of(text: str | None) -> datetime | None:
    """The moment that `moment_text` wrote."""
    return datetime.fromisoformat(text) if text else None


def moment_text(moment: datetime | None) -> str | None:
    """2026-11-23T12:59:30.123Z"""
    if moment is None:
        return None
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(_written(content)).hexdigest()


def _written(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode()


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.title() for each in others)
