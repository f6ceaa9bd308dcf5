"""The checksum is the SHA-256 of the bytes, however many they are."""

import hashlib
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from app.storages import sha256_of

MIB = 1024 * 1024


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
def test_it_is_the_sha_256_in_hex(size: int):
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert sha256_of(io.BytesIO(content)) == hashlib.sha256(content).hexdigest()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_it_is_what_sha256sum_says(tmp_path: Path):
    (tmp_path / "x.dump").write_bytes(b"PGDMP\0\1\2" * 300_000)
    told = subprocess.run(
        ["sha256sum", tmp_path / "x.dump"], capture_output=True, text=True, check=True
    ).stdout
    with (tmp_path / "x.dump").open("rb") as file:
        assert sha256_of(file) == told.split()[0]


def test_one_flipped_bit_is_another_checksum():
    content = bytearray(b"x" * 1000)
    before = sha256_of(io.BytesIO(content))
    for position in range(0, 1000, 37):
        content[position] ^= 1 << position % 8
        assert sha256_of(io.BytesIO(content)) != before
        content[position] ^= 1 << position % 8


def test_only_what_is_left_of_the_file_is_read():
    file = io.BytesIO(b"headbody")
    file.seek(4)
    assert sha256_of(file) == hashlib.sha256(b"body").hexdigest()


def test_each_mebibyte_is_told():
    told: list[int] = []
    sha256_of(io.BytesIO(bytes(3 * MIB + 1)), on_block=told.append)
    assert told == [MIB, MIB, MIB, 1]


def test_what_is_raised_meanwhile_ends_the_reading():
    file = io.BytesIO(bytes(5 * MIB))

    def give_up(_length: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sha256_of(file, on_block=give_up)
    assert file.tell() == MIB
