"""The mark beside a copy: its manifest in the store, written last.

An object without a mark is no copy. The mark says what the object must hash to, and carries
the manifest of the backup: encrypted where the copy is, because it names tables and roles.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from app.encryption import Identity, Recipient, decrypted_text, encrypted_text
from app.errors import InvalidInput, VerificationError
from app.stores import Store

_KIND = "backstop copy"
_FORMAT = 1
_CHECKSUM = "markSha256"
_LARGEST = 512 * 1024**2  # bytes; a manifest of a million tables, encrypted, needs less
_ENCRYPTED = re.compile(r"(?:\.[0-9a-f]{8})?\.age\Z")  # the end of a key
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Measured:
    """An object: its size in bytes, and its SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Mark:
    """What a mark says."""

    filename: str  # of the backup
    key: str  # of the object
    stored: Measured  # the object
    dump: Measured  # what it is when it is decrypted
    is_encrypted: bool
    manifest: str  # of the backup; encrypted where the object is

    def written(self) -> bytes:
        """The mark as an object."""
        content = {"kind": _KIND, "format": _FORMAT} | asdict(self)
        return _json(content | {_CHECKSUM: _checksum(content)})

    def manifest_of_backup(self, identities: Sequence[Identity] = ()) -> bytes:
        """The manifest of the backup. Raises InvalidInput without an identity that fits."""
        if not self.is_encrypted:
            return self.manifest.encode()
        return decrypted_text(self.manifest, identities)


def mark_key(filename: str) -> str:
    """The key of the mark of a backup."""
    return f"{filename}.json"


def object_key(filename: str, *, is_encrypted: bool, token: str = "") -> str:
    """The key of the copy itself; a token makes another one, for a copy encrypted anew."""
    if not is_encrypted:
        return filename
    return f"{filename}.{token}.age" if token else f"{filename}.age"


def filename_in(key: str) -> str:
    """The filename of the backup in the key of its copy; the key itself in any other."""
    return _ENCRYPTED.sub("", key)


def make_mark(
    key: str, *, stored: Measured, dump: Measured, manifest: bytes, to: Sequence[Recipient]
) -> Mark:
    """The mark of a copy that is encrypted `to` its recipients, if there are any."""
    return Mark(
        filename=filename_in(key),
        key=key,
        stored=stored,
        dump=dump,
        is_encrypted=bool(to),
        manifest=encrypted_text(manifest, to) if to else manifest.decode(),
    )


def read_mark(store: Store, filename: str, *, largest: int = _LARGEST) -> Mark:
    """The mark of a copy, which somebody else may have written; `largest` in bytes.

    Raises ObjectMissing without one, VerificationError where it is not as we write them,
    StorageError.
    """
    raw = bytearray()
    for chunk in store.read(mark_key(filename)):
        raw += chunk
        if len(raw) > largest:
            raise VerificationError(f"the manifest of the copy of {filename} is too large")
    try:
        mark = _parsed(bytes(raw))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationError(
            f"the manifest of the copy of {filename} cannot be read",
            hint="It was changed in the store, or a newer Backstop wrote it.",
        ) from error
    if mark.filename != filename or filename_in(mark.key) != filename:
        raise VerificationError(f"the manifest of the copy of {filename} is that of another one")
    return mark


def _parsed(raw: bytes) -> Mark:
    """Raises ValueError, KeyError, TypeError and AttributeError for what we never write."""
    content = json.loads(raw)
    if content.pop(_CHECKSUM) != _checksum(content):
        raise ValueError("changed")
    if (content.pop("kind"), content.pop("format")) != (_KIND, _FORMAT):
        raise ValueError("of another kind")
    stored, dump = (_measured(content.pop(name)) for name in ("stored", "dump"))
    mark = Mark(stored=stored, dump=dump, **content)
    texts = (mark.filename, mark.key, mark.manifest)
    if not (all(isinstance(text, str) for text in texts) and isinstance(mark.is_encrypted, bool)):
        raise TypeError("not a mark")
    return mark


def _measured(content: dict[str, object]) -> Measured:
    size, sha256 = content["size"], content["sha256"]
    if not (isinstance(size, int) and isinstance(sha256, str) and size >= 0):
        raise TypeError("not measured")
    if not _SHA256.fullmatch(sha256):
        raise ValueError("no SHA-256")
    return Measured(size, sha256)


def _checksum(content: dict[str, object]) -> str:
    return hashlib.sha256(_json(content)).hexdigest()


def _json(content: dict[str, object]) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True).encode()


def refuse_without_identity(mark: Mark, identities: Sequence[Identity]) -> None:
    """Raise InvalidInput where an encrypted copy is to be decrypted without an identity."""
    if mark.is_encrypted and not identities:
        raise InvalidInput(
            "the copy is encrypted",
            hint="Give the identity, the private key of one of its recipients: --identity FILE.",
        )
