"""Count the rows of an archive as they are read."""

from collections.abc import Iterable

from app.postgres.archive import Entry

_COPY, _COPY_END, _DATA_END = b"COPY ", b" FROM stdin;\n", b"\n\\.\n"
_NEWLINE = b"\n"[0]
_LARGE_OBJECT = b"SELECT pg_catalog.lo_open("


class RowCounter:
    """Counts the rows of each table in the output of `pg_restore --data-only`.

    It keeps no more of a line than the longest statement it looks for.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._tables = {entry.copy: (entry.schema, entry.name) for entry in entries if entry.copy}
        self._longest = max(map(len, self._tables), default=0)
        self._rest = b""
        self._skips = False  # whether the rest of the line is irrelevant
        self._table: tuple[str, str] | None = None
        self.rows: dict[tuple[str, str], int] = {}  # by schema and name
        self.bytes: dict[tuple[str, str], int] = {}  # of these rows, as COPY writes them
        self.large_objects = 0

    def take(self, chunk: bytes) -> None:
        """Take the next bytes of the output."""
        data, at = self._rest + chunk, 0
        while at < len(data):
            if self._table is not None:
                step = self._data(data, at, self._table)
            elif self._skips:
                step = data.find(b"\n", at) + 1 or len(data)
                self._skips = data[step - 1] != _NEWLINE
            else:
                step = self._statement(data, at)
            if step is None:
                break
            at = step
        self._rest = data[at:]

    def _statement(self, data: bytes, at: int) -> int | None:
        """The position of its rows, or of a line to skip; None while that is unknown."""
        end = at
        if data.startswith(_COPY, at):
            while end := data.find(_COPY_END, end, at + self._longest) + 1:  # may be part of a name
                behind = end + len(_COPY_END) - 1
                self._table = self._tables.get(data[at:behind])
                if self._table is not None:
                    self.rows.setdefault(self._table, 0)
                    self.bytes.setdefault(self._table, 0)
                    return behind - 1  # at the newline, with which each row begins
            if len(data) - at < self._longest:
                return None
        elif len(data) - at < len(_LARGE_OBJECT) and b"\n" not in data[at:]:
            return None
        self.large_objects += data.startswith(_LARGE_OBJECT, at)
        self._skips = True
        return at

    def _data(self, data: bytes, at: int, table: tuple[str, str]) -> int | None:
        """The position after the rows in `data`; a line of its own ends them."""
        end = data.find(_DATA_END, at)
        if end >= 0:
            self._add(data, at, end, table)
            self._table = None
            return end + len(_DATA_END)
        end = data.rfind(b"\n", max(at, len(data) - len(_DATA_END) + 1))
        if end < 0 or not _DATA_END.startswith(data[end:]):
            end = len(data)
        self._add(data, at, end, table)
        return end if end > at else None

    def _add(self, data: bytes, at: int, end: int, table: tuple[str, str]) -> None:
        self.rows[table] += data.count(b"\n", at, end)
        self.bytes[table] += end - at
