"""Secrets at rest, encrypted: the catalogue alone reveals none of them.

Their key is derived from SECRET_KEY by HKDF, so it is not the one that signs cookies.
"""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken

from app.config import settings
from app.errors import ConfigurationError
from app.keys import derived_key

_PURPOSE = "backstop: secrets in the catalogue, 1"


def seal(secret: str) -> str:
    """The secret, encrypted."""
    return _fernet(settings().secret_key).encrypt(secret.encode()).decode("ascii")


def unseal(sealed: str) -> str:
    """The secret itself. Raises ConfigurationError if SECRET_KEY has changed."""
    try:
        return _fernet(settings().secret_key).decrypt(sealed).decode()
    except InvalidToken as error:
        raise ConfigurationError(
            "a stored secret cannot be decrypted",
            detail="SECRET_KEY is not the one that encrypted it.",
            hint="Restore the old SECRET_KEY, or enter the secret again.",
        ) from error


@lru_cache(maxsize=8)
def _fernet(secret_key: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(derived_key(secret_key, _PURPOSE)))
