"""PostgreSQL's encodings as Python knows them.

Where the bytes of a name fit no encoding (SQL_ASCII promises none), they are kept as
surrogates: what comes from the server goes back to it as it was, but is written nowhere.
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
    """Let sessions of SQL_ASCII databases read and write any name."""
    codecs.register(_search)
    encodings.update({"SQL_ASCII": _ANY_BYTES, "SQLASCII": _ANY_BYTES})


def python_codec(encoding: str) -> str:
    """The name of Python's codec for an encoding of PostgreSQL; UTF-8 where there is none."""
    found = encodings.get("".join(filter(str.isalnum, encoding)).upper(), "utf-8")
    return "utf-8" if found == _ANY_BYTES else str(found)


def printable(text: str) -> str:
    """A name that can be shown and written: what fits no encoding, or is no letter, is replaced."""
    known = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in known)
