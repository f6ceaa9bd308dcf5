"""Public keys in their canonical form, private keys never in sight."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from app.encryption import Recipient, make_identity, parse_identity, parse_recipient
from app.errors import InvalidInput

AGE = make_identity()


def ssh_key(folder: Path, *options: str) -> tuple[str, str]:
    """A new private and public key of OpenSSH, as ssh-keygen writes them."""
    file = folder / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-N", "", "-C", "ann at her desk", *options, "-f", file], check=True
    )
    return file.read_text(), file.with_suffix(".pub").read_text()


SUITABLE = {"ed25519": ["-t", "ed25519"], "rsa": ["-t", "rsa", "-b", "2048"]}


@pytest.mark.parametrize("around", ["{}", "  {}\n", "\r\n{}\r\n"])
def test_a_public_key_of_age_is_read(around: str):
    for text in (AGE.recipient.key, AGE.recipient.key.upper()):
        assert parse_recipient(around.format(text)) == AGE.recipient


@pytest.mark.parametrize("options", SUITABLE.values(), ids=SUITABLE.keys())
def test_keys_of_openssh_are_read(tmp_path: Path, options: list[str]):
    secret, public = ssh_key(tmp_path, *options)
    recipient = parse_recipient(public)
    assert recipient.key == " ".join(public.split()[:2])
    assert parse_recipient(recipient.key) == recipient
    assert parse_identity(secret).recipient == recipient
    assert parse_identity(secret.strip().replace("\n", "\r\n")).recipient == recipient


UNSUITABLE = {
    "ecdsa": ["-t", "ecdsa"],
    "a short rsa": ["-t", "rsa", "-b", "1024"],
    "a passphrase": ["-t", "ed25519", "-N", "a passphrase"],
    "pem": ["-t", "rsa", "-b", "2048", "-m", "PEM"],
}


@pytest.mark.parametrize("options", UNSUITABLE.values(), ids=UNSUITABLE.keys())
def test_a_private_key_that_age_cannot_use_is_refused(tmp_path: Path, options: list[str]):
    secret, _ = ssh_key(tmp_path, *options)
    with pytest.raises(InvalidInput, match="not one private key") as caught:
        parse_identity(secret)
    assert "passphrase" in caught.value.hint


@pytest.mark.parametrize("options", [["-t", "ecdsa"], ["-t", "rsa", "-b", "1024"]])
def test_a_public_key_that_age_cannot_use_is_refused(tmp_path: Path, options: list[str]):
    with pytest.raises(InvalidInput, match="not a public key for age"):
        parse_recipient(ssh_key(tmp_path, *options)[1])


@pytest.mark.parametrize(
    "text",
    ["", " ", "age1", AGE.recipient.key[:-1], "ssh-ed25519", "ssh-rsa AAAA", "age1é", "Ann"],
    ids=["empty", "space", "kind", "cut", "ssh kind", "cut ssh", "not ASCII", "name"],
)
def test_what_is_no_public_key_is_refused(text: str):
    with pytest.raises(InvalidInput, match="not a public key for age") as caught:
        parse_recipient(text)
    assert "age1" in caught.value.hint


def test_two_public_keys_at_once_are_refused():
    with pytest.raises(InvalidInput, match="more than one line"):
        parse_recipient(f"{AGE.recipient.key}\n{AGE.recipient.key}")


def test_a_private_key_in_the_place_of_a_public_one_is_refused_and_not_repeated(tmp_path: Path):
    secret, _ = ssh_key(tmp_path, "-t", "ed25519")
    for text in (AGE.secret, AGE.secret.lower(), f"# public key\n{AGE.secret}", secret):
        with pytest.raises(InvalidInput, match="this is a private key") as caught:
            parse_recipient(text)
        longest = max(text.split(), key=len)
        assert longest not in caught.value.in_words()


def test_a_private_key_of_age_is_read():
    for text in (AGE.secret, f"\n{AGE.secret} \n", AGE.secret.lower()):
        assert parse_identity(text) == AGE


def test_a_file_of_age_keygen_is_read(tmp_path: Path):
    file = tmp_path / "key.txt"
    made = subprocess.run(
        ["age-keygen", "-o", file], check=True, capture_output=True, text=True
    ).stderr
    identity = parse_identity(file.read_text())
    assert made.split()[-1] == identity.recipient.key
    assert identity.secret in file.read_text()


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "Ann", AGE.secret[:-1], f"{AGE.secret}\n{make_identity().secret}"],
    ids=["empty", "comment", "name", "cut", "two"],
)
def test_what_is_not_one_private_key_is_refused_and_not_repeated(text: str):
    with pytest.raises(InvalidInput, match="not one private key") as caught:
        parse_identity(text)
    assert AGE.secret[20:40] not in caught.value.in_words()
    assert caught.value.__suppress_context__


def test_a_new_identity_is_another_each_time():
    assert make_identity() != make_identity()


def test_a_private_key_is_not_in_its_repr():
    assert AGE.secret not in repr(AGE)
    assert AGE.recipient.key in repr(AGE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        AGE.secret = ""  # type: ignore[misc]


def test_a_fingerprint_is_short_and_says_the_kind():
    assert AGE.recipient.fingerprint == f"age1…{AGE.recipient.key[-8:]}"
    assert Recipient("ssh-ed25519 AAAAC3NzaC1lZDI1").fingerprint == "ssh-ed25519 …aC1lZDI1"
    assert Recipient("ssh-rsa AAAAC3NzaC1lZDI1").fingerprint == "ssh-rsa …aC1lZDI1"
