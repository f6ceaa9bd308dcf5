"""SECRET_KEY in its file, and keys of one purpose each derived from it: none reveals another."""

import os
import secrets
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


@lru_cache(maxsize=32)
def derived_key(secret_key: str, purpose: str) -> bytes:
    """The 32 bytes for a purpose, by HKDF."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(
        secret_key.encode()
    )


def private_secret(path: Path) -> str:
    """The secret in the file, made there first (mode 0600) if there is none.

    Two processes that start at once agree: the file gets its name only when
    it is whole, and the first name wins.
    """
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with open(partial, "x", opener=_owner_only, encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    return path.read_text(encoding="ascii").strip()


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
