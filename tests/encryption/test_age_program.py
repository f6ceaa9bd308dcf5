"""Debian's age reads what Backstop encrypts, and the other way round."""

import os
import subprocess
from pathlib import Path

import pytest

from app.encryption import (
    Identity,
    decrypted,
    decrypted_text,
    encrypted,
    encrypted_text,
    make_identity,
    parse_identity,
)

CHUNK = 64 * 1024
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * 1024 * 1024]


@pytest.fixture(params=["age", "ed25519", "rsa"])
def key(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file of a private key, as its owner has it."""
    file = tmp_path / "key"
    if request.param == "age":
        subprocess.run(["age-keygen", "-o", file], check=True, capture_output=True)
    else:
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", request.param, "-f", file], check=True)
    return file


@pytest.fixture
def owner(key: Path) -> Identity:
    return parse_identity(key.read_text())


def age(*options: str | Path, given: bytes) -> bytes:
    return subprocess.run(["age", *options], input=given, check=True, capture_output=True).stdout


def test_age_decrypts_what_we_encrypt(key: Path, owner: Identity):
    for size in SIZES:
        plain = os.urandom(size)
        sealed = b"".join(encrypted([plain], [make_identity().recipient, owner.recipient]))
        assert age("-d", "-i", key, given=sealed) == plain


def test_we_decrypt_what_age_encrypts(owner: Identity):
    for size in SIZES:
        plain = os.urandom(size)
        sealed = age("-r", make_identity().recipient.key, "-r", owner.recipient.key, given=plain)
        assert b"".join(decrypted([sealed], [owner])) == plain


def test_age_decrypts_our_texts_and_we_decrypt_its(key: Path, owner: Identity):
    text = encrypted_text(b"a manifest", [owner.recipient])
    assert age("-d", "-i", key, given=text.encode()) == b"a manifest"
    armored = age("-a", "-r", owner.recipient.key, given=b"a manifest").decode("ascii")
    assert decrypted_text(armored, [owner]) == b"a manifest"
    assert b"".join(decrypted([armored.encode()], [owner])) == b"a manifest"


def test_age_decrypts_with_a_recovery_key_made_here(tmp_path: Path):
    identity = make_identity()
    (tmp_path / "printed.txt").write_text(identity.secret)
    sealed = b"".join(encrypted([b"a dump"], [identity.recipient]))
    assert age("-d", "-i", tmp_path / "printed.txt", given=sealed) == b"a dump"
