"""The SHA-256 of a dump, block by block."""

import hashlib
from collections.abc import Callable
from typing import BinaryIO

_BLOCK = 1024 * 1024


def sha256_of(file: BinaryIO, *, on_block: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of the rest of the file, in hex.

    `on_block` gets the length of each block read, at most 1 MiB; what it raises comes out.
    """
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
        if on_block is not None:
            on_block(len(block))
    return digest.hexdigest()
