"""Keys of one purpose each, made of SECRET_KEY: none of them tells another, or it."""

from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


@lru_cache(maxsize=32)
def derived_key(secret_key: str, purpose: str) -> bytes:
    """The 32 bytes for a purpose, by HKDF."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(
        secret_key.encode()
    )
