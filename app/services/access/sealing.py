"""Secrets at rest: kept in the catalogue so that it alone gives none of them away.

The key comes from SECRET_KEY, by HKDF, so that it is none that signs cookies.
"""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken

from app.config import settings
from app.errors import ConfigurationError
from app.keys import derived_key

_PURPOSE = "backstop: secrets in the catalogue, 1"


def seal(secret: str) -> str:
    """The secret as it may be kept."""
    return _fernet(settings().secret_key).encrypt(secret.encode()).decode("ascii")


def unseal(sealed: str) -> str:
    """The secret itself. Raises ConfigurationError where SECRET_KEY is not what it was."""
    try:
        return _fernet(settings().secret_key).decrypt(sealed).decode()
    except InvalidToken as error:
        raise ConfigurationError(
            "what is kept encrypted cannot be read",
            detail="SECRET_KEY is not the one with which it was written.",
            hint="Bring the old SECRET_KEY back, or enter the URL anew.",
        ) from error


@lru_cache(maxsize=8)
def _fernet(secret_key: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(derived_key(secret_key, _PURPOSE)))
