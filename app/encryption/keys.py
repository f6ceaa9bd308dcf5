"""Keys of age: recipients, who are public, and identities, who are secret.

Errors never repeat what was entered: it may be a private key.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)

from app.encryption.library import age
from app.errors import InvalidInput

_SSH_KINDS = ("ssh-ed25519", "ssh-rsa")
_PRIVATE = re.compile(r"AGE-SECRET-KEY-|AGE-PLUGIN-|PRIVATE KEY", re.IGNORECASE)
_SSH_PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----"
_TAIL = 8  # characters
_RECIPIENT_HINT = "Enter a public key that starts with age1, ssh-ed25519 or ssh-rsa."
_IDENTITY_HINT = (
    "Enter one AGE-SECRET-KEY, a file of age-keygen, or an OpenSSH private key"
    " (ed25519 or RSA) without a passphrase."
)


@dataclass(frozen=True)
class Recipient:
    """A public key; `key` is its canonical text, without comment."""

    key: str

    @property
    def fingerprint(self) -> str:
        """The key's kind and last characters, to tell recipients apart in a list."""
        kind = "age1" if self.key.startswith("age1") else self.key.split()[0] + " "
        return f"{kind}…{self.key[-_TAIL:]}"


@dataclass(frozen=True)
class Identity:
    """A private key, which decrypts what was encrypted to its recipient."""

    recipient: Recipient
    secret: str = field(repr=False)


def parse_recipient(text: str) -> Recipient:
    """The recipient of a public key: age1…, ssh-ed25519 … or ssh-rsa …, with or without comment.

    Raises InvalidInput, ConfigurationError.
    """
    if _PRIVATE.search(text):
        raise InvalidInput(
            "this is a private key",
            detail="Copies are encrypted to public keys; the private key stays with its owner.",
            hint=_RECIPIENT_HINT,
        )
    line = text.strip()
    if "\n" in line:
        raise InvalidInput("more than one line", hint="Enter one public key at a time.")
    is_ssh = line.startswith(_SSH_KINDS)
    recipient = Recipient(" ".join(line.split()[:2]) if is_ssh else line.lower())
    public_key(recipient)
    return recipient


def parse_identity(text: str) -> Identity:
    """The one identity in a text: AGE-SECRET-KEY-…, a file of age-keygen, or an OpenSSH key.

    Raises InvalidInput, also for a key with a passphrase; ConfigurationError.
    """
    if _SSH_PRIVATE in text:
        return _parse_ssh_identity(text.strip() + "\n")
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    try:
        key = age().x25519.Identity.from_str("\n".join(keys))
    except age().IdentityError:
        raise _not_an_identity() from None
    return _identity_of(key)


def make_identity() -> Identity:
    """A new identity. Raises ConfigurationError."""
    return _identity_of(age().x25519.Identity.generate())


def public_key(recipient: Recipient) -> Any:
    """The recipient, as the library takes it. Raises InvalidInput, ConfigurationError."""
    kind = age().x25519 if recipient.key.startswith("age1") else age().ssh
    try:
        return kind.Recipient.from_str(recipient.key)
    except age().RecipientError:
        raise InvalidInput("not a public key for age", hint=_RECIPIENT_HINT) from None


def private_key(identity: Identity) -> Any:
    """The identity, as the library takes it. Raises ConfigurationError."""
    if identity.secret.startswith(_SSH_PRIVATE):
        return age().ssh.Identity.from_buffer(identity.secret.encode())
    return age().x25519.Identity.from_str(identity.secret)


def _identity_of(key: Any) -> Identity:
    return Identity(Recipient(str(key.to_public())), str(key))


def _parse_ssh_identity(text: str) -> Identity:
    try:
        age().ssh.Identity.from_buffer(text.encode())
        public = load_ssh_private_key(text.encode(), None).public_key()
        written = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return Identity(parse_recipient(written.decode("ascii")), text)
    except (age().IdentityError, ValueError, InvalidInput):
        raise _not_an_identity() from None


def _not_an_identity() -> InvalidInput:
    return InvalidInput("not one private key that age can use", hint=_IDENTITY_HINT)
