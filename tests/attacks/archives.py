"""Write archives of pg_dump's custom format with any table of contents."""

import zlib
from dataclasses import dataclass, field
from io import BytesIO

_WIDTH, _OFFSET = 4, 8
_VERSION = bytes([1, 16, 0, _WIDTH, _OFFSET, 1])
_TABLE = ord("r")


@dataclass(frozen=True)
class Piece:
    """An entry of the table of contents; with `rows` it has a block of its own."""

    number: int
    kind: str
    name: str
    definition: str = ""
    schema: str = "public"
    copy: str | None = None
    rows: bytes | None = None
    needs: tuple[int, ...] = field(default=())
    owner: str | bytes = "nobody"


PREAMBLE = [
    Piece(1, "ENCODING", "ENCODING", "SET client_encoding = 'UTF8';\n", ""),
    Piece(2, "STDSTRINGS", "STDSTRINGS", "SET standard_conforming_strings = 'on';\n", ""),
]
TABLE = Piece(13, "TABLE", "t", "CREATE TABLE public.t (x integer);\n")


def archive(*pieces: Piece, database: str = "theirs") -> bytes:
    """A whole archive of these entries, its rows compressed by zlib."""
    entries = [*PREAMBLE, *pieces]
    where, blocks = {}, b""
    start = len(_head(entries, {}, database))
    for each in entries:
        if each.rows is not None:
            where[each.number] = start + len(blocks)
            block = zlib.compress(each.rows)
            blocks += bytes([1]) + _number(each.number) + _text(block) + _number(0)
    return _head(entries, where, database) + blocks


def running(sql: str) -> bytes:
    """An archive that runs this SQL while it is loaded, and holds one table."""
    return archive(Piece(12, "FUNCTION", "x()", sql), TABLE)


def _head(entries: list[Piece], where: dict[int, int], database: str) -> bytes:
    head = BytesIO()
    head.write(b"PGDMP" + _VERSION + bytes([1]))
    for part in (0, 0, 12, 27, 10, 126, 0):
        head.write(_number(part))
    head.write(_text(database) + _text("17.10") + _text("17.10") + _number(len(entries)))
    for each in entries:
        head.write(_number(each.number) + _number(each.rows is not None))
        head.write(_text("0") + _text("0") + _text(each.name) + _text(each.kind) + _number(2))
        head.write(_text(each.definition) + _text("") + _text(each.copy) + _text(each.schema))
        is_table = each.kind == "TABLE"
        head.write(_text("" if is_table else None) + _text("heap" if is_table else None))
        head.write(_number(_TABLE if is_table else 0) + _text(each.owner) + _text("false"))
        head.write(b"".join(_text(str(need)) for need in each.needs) + _number(-1))
        state = 3 if each.rows is None else 2
        head.write(bytes([state]) + where.get(each.number, 0).to_bytes(_OFFSET, "little"))
    return head.getvalue()


def _number(value: int) -> bytes:
    return bytes([value < 0]) + abs(value).to_bytes(_WIDTH, "little")


def _text(value: str | bytes | None) -> bytes:
    if value is None:
        return _number(-1)
    raw = value if isinstance(value, bytes) else value.encode()
    return _number(len(raw)) + raw
