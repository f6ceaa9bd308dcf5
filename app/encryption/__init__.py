"""Encryption with age (https://age-encryption.org) to the public keys of people.

What it encrypts can be read without Backstop: `age -d -i key.txt copy.dump.age`.
"""

from app.encryption.keys import (
    Identity,
    Recipient,
    make_identity,
    parse_identity,
    parse_recipient,
)
from app.encryption.streams import decrypted, decrypted_text, encrypted, encrypted_text

__all__ = [
    "Identity",
    "Recipient",
    "decrypted",
    "decrypted_text",
    "encrypted",
    "encrypted_text",
    "make_identity",
    "parse_identity",
    "parse_recipient",
]
