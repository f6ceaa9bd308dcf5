"""Exports of the catalogue as they lie in a store, and the marks beside them.

catalogue/<panel>/catalogue_….db       the export, or ….db.age where it is encrypted
catalogue/<panel>/catalogue_….db.json  its mark, as that of a copy
"""

import hashlib
import hmac
import json
import re
import socket
from collections.abc import Iterator, Sequence
from datetime import datetime

from app.config import settings
from app.encryption import Identity
from app.errors import VerificationError
from app.keys import derived_key
from app.services.copies.mark import Mark, Measured, mark_key
from app.services.stores.ownership import panel_id
from app.stores import StoredObject

FOLDER = "catalogue/"
LARGEST_MARK = 1024**2  # bytes

_PURPOSE = "backstop: exports of the catalogue, 1"
_FILENAME = re.compile(
    r"catalogue/[a-z0-9]{1,32}/catalogue_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z)\.db"
)


def own_folder() -> str:
    """Where the exports of this panel lie: those of another one are never removed by us."""
    return f"{FOLDER}{panel_id()}/"


def filename_of(moment: datetime) -> str:
    """The name of an export of ours; names sort as their times do."""
    at = f"{moment:%Y-%m-%dT%H-%M-%S}-{moment.microsecond // 1000:03d}Z"
    return f"{own_folder()}catalogue_{at}.db"


def moment_in(filename: str) -> str:
    """The time in the name of an export, which sorts; empty for another name."""
    found = _FILENAME.fullmatch(filename)
    return found[1] if found else ""


def marked(listed: Iterator[StoredObject]) -> Iterator[str]:
    """The names of the exports whose marks are listed."""
    for item in listed:
        name = item.key.removesuffix(".json")
        if item.key == mark_key(name) and moment_in(name):
            yield name


def make_manifest(filename: str, dump: Measured) -> bytes:
    """What the mark of an export says of it, signed with SECRET_KEY."""
    content = {"host": socket.gethostname(), "signature": _signature(filename, dump)}
    return json.dumps(content).encode()


def is_signed(mark: Mark, identities: Sequence[Identity]) -> bool:
    """Whether a panel with our SECRET_KEY has made this export.

    Raises InvalidInput without an identity that fits, VerificationError.
    """
    try:
        signature = json.loads(mark.manifest_of_backup(identities))["signature"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VerificationError(f"the mark of {mark.filename} cannot be read") from error
    return isinstance(signature, str) and hmac.compare_digest(
        signature.encode("utf-8", "replace"), _signature(mark.filename, mark.dump).encode()
    )


def _signature(filename: str, dump: Measured) -> str:
    key = derived_key(settings().secret_key, _PURPOSE)
    said = f"{filename} {dump.size} {dump.sha256}"
    return hmac.new(key, said.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
