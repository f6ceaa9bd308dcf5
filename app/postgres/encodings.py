"""The encodings of PostgreSQL in Python.

Bytes of a name that do not fit the encoding (SQL_ASCII has none) become surrogates: they
return to the server unchanged, but are never written elsewhere.
"""

import codecs
from typing import Any

from psycopg2.extensions import encodings

_ANY_BYTES = "utf_8_or_any_bytes"


def _decode(raw: Any, _errors: str = "") -> tuple[str, int]:
    read = bytes(raw)
    return read.decode("utf-8", "surrogateescape"), len(read)


def _encode(text: str, _errors: str = "") -> tuple[bytes, int]:
    return text.encode("utf-8", "surrogateescape"), len(text)


def _search(name: str) -> codecs.CodecInfo | None:
    return codecs.CodecInfo(_encode, _decode, name=name) if name == _ANY_BYTES else None


def allow_any_bytes() -> None:
    """Let sessions with SQL_ASCII databases read and write any name."""
    codecs.register(_search)
    encodings.update({"SQL_ASCII": _ANY_BYTES, "SQLASCII": _ANY_BYTES})


def python_codec(encoding: str) -> str:
    """Python's codec for an encoding of PostgreSQL; else UTF-8."""
    codec = encodings.get("".join(filter(str.isalnum, encoding)).upper(), "utf-8")
    return "utf-8" if codec == _ANY_BYTES else str(codec)


def printable(text: str) -> str:
    """The name with a replacement for each character that cannot be printed or encoded."""
    known = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in known
    )
