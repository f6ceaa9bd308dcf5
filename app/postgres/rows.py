"""Count the rows of an archive as they are read."""

from collections.abc import Iterable

from app.postgres.archive import Entry

_COPY, _COPY_END, _DATA_END = b"COPY ", b" FROM stdin;\n", b"\n\\.\n"
_NEWLINE = b"\n"[0]
_LARGE_OBJECT = b"SELECT pg_catalog.lo_open("


class RowCounter:
    """Counts the rows of each table in what `pg_restore --data-only` writes.

    Of a line it keeps no more than the longest statement that it looks for.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._tables = {each.copy: (each.schema, each.name) for each in entries if each.copy}
        self._longest = max(map(len, self._tables), default=0)
        self._rest = b""
        self._skips = False  # the rest of a line that is nothing to us
        self._table: tuple[str, str] | None = None
        self.rows: dict[tuple[str, str], int] = {}  # by schema and name
        self.bytes: dict[tuple[str, str], int] = {}  # of these rows, as COPY writes them
        self.large_objects = 0

    def take(self, chunk: bytes) -> None:
        """Take the next bytes."""
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
        """Where its rows begin, or the line is to be skipped; None if that is not known yet."""
        end = at
        if data.startswith(_COPY, at):
            while end := data.find(_COPY_END, end, at + self._longest) + 1:  # a name may hold it
                behind = end + len(_COPY_END) - 1
                self._table = self._tables.get(data[at:behind])
                if self._table is not None:
                    self.rows.setdefault(self._table, 0)
                    self.bytes.setdefault(self._table, 0)
                    return behind - 1  # at its newline: so each row begins with one
            if len(data) - at < self._longest:
                return None
        elif len(data) - at < len(_LARGE_OBJECT) and b"\n" not in data[at:]:
            return None
        self.large_objects += data.startswith(_LARGE_OBJECT, at)
        self._skips = True
        return at

    def _data(self, data: bytes, at: int, table: tuple[str, str]) -> int | None:
        """Behind the rows that are there; a line of their own ends them."""
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
