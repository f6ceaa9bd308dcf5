"""Read a new dump back completely: by pg_restore, and for its SHA-256."""

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

from app.errors import Interrupted
from app.postgres.archive import Entry, Expected, read_entries, read_header, read_whole
from app.postgres.census import Census
from app.postgres.contents import Header
from app.postgres.encodings import printable
from app.postgres.rows import RowCounter
from app.postgres.snapshot import Table
from app.postgres.tools import Toolchain
from app.programs.command import Watch
from app.services.backups.manifests import Measured
from app.services.databases.configured import storage
from app.services.jobs import claims
from app.services.jobs.run import Run
from app.storages import Staged, sha256_of

_TICK = 0.25  # seconds
_MOST = 100  # differences that are kept


@dataclass(frozen=True)
class ReadBack:
    """The results of reading a dump back."""

    dump: Measured
    header: Header
    entries: list[Entry]
    rows: RowCounter
    seconds: float


def read_back(
    run: Run, staged: Staged, toolchain: Toolchain, *, contents: int, on_tick: Callable[[], None]
) -> ReadBack:
    """Read all of the dump, by pg_restore and for its SHA-256 at once.

    The limits grow with `contents`, the size of its database in bytes, if that is known.
    Raises DumpError, and what `on_tick` raises.
    """
    began = time.monotonic()
    given_up = Event()
    with (
        storage().open_staged(staged) as file,
        ThreadPoolExecutor(1, thread_name_prefix="checksum") as pool,
    ):
        header = read_header(file)
        entries = read_entries(file)
        rows = RowCounter(entries)
        size = file.seek(0, 2)
        file.seek(0)

        def on_block(length: int) -> None:
            run.checked += length / size
            if given_up.is_set():
                raise Interrupted("the check was cancelled")

        checksum = pool.submit(sha256_of, file, on_block=on_block)
        try:
            note_process = partial(claims.note_process, run.job_id)
            watch = Watch(note_process, on_output=rows.take, on_tick=on_tick)
            read_whole(toolchain, staged.path, Expected(len(entries), contents), watch)
            while not checksum.done():
                on_tick()
                wait([checksum], timeout=_TICK)
        except BaseException:
            given_up.set()
            raise
        dump = Measured(size, checksum.result(), header.oldest_reader)
        return ReadBack(dump, header, entries, rows, time.monotonic() - began)


def prove_rows(
    contents: Census,
    counted: dict[int, int],
    read: ReadBack,
    *,
    without_rows_of: Collection[tuple[str, str]] = (),
) -> Census:
    """The contents of a dump, with the proof that its rows are those of the snapshot.

    `contents` are those of the snapshot with oids, `counted` its rows by oid. A table that
    was not counted in time keeps the rows of the archive, and is named in the evidence.
    Sequences are as in the archive, because they ignore snapshots.
    """
    archive = read.rows
    compared = [
        _Compared.of(table, archive, counted, without_rows_of) for table in contents["tables"]
    ]
    differences = [table.difference for table in compared if table.difference]
    large = contents["objects"].get("large objects", 0)
    if large != archive.large_objects:
        differences.append(f"large objects: {large} counted, {archive.large_objects} in the dump")
    sequences = [
        {"schema": entry.schema, "name": entry.name, "value": list(entry.sequence_value)}
        for entry in read.entries
        if entry.sequence_value is not None
    ]
    evidence = {
        "tables": len(compared),
        "rows": sum(archive.rows.values()),
        "uncounted": [table.name for table in compared if table.is_uncounted][:_MOST],
        "differences": differences[:_MOST],
    }
    proof = {"seconds": round(read.seconds, 3), "evidence": evidence}
    tables = [table.contents for table in compared]
    return contents | {"tables": tables, "sequences": sequences, "read": proof}


@dataclass(frozen=True)
class _Compared:
    """A table whose rows in the dump were compared with those that were counted."""

    name: str
    contents: dict[str, Any]
    difference: str = ""
    is_uncounted: bool = False

    @classmethod
    def of(
        cls,
        table: Table,
        archive: RowCounter,
        counted: dict[int, int],
        without_rows_of: Collection[tuple[str, str]],
    ) -> "_Compared":
        key = table["schema"], table["name"]
        name, rows = printable(".".join(key)), counted.get(table["oid"])
        kept = {"schema": key[0], "name": key[1], "bytes": archive.bytes.get(key)}
        if table.get("extension"):  # other rows come from CREATE EXTENSION
            return cls(name, kept | {"rows": rows, "extension": True})
        if key in without_rows_of:
            return cls(name, kept | {"rows": 0, "leftOut": True})
        archived = archive.rows.get(key)
        kept["rows"] = archived if rows is None else rows
        if archived is None:
            return cls(name, kept, f"{name} is not in the dump")
        if rows is None:
            return cls(name, kept, is_uncounted=True)
        difference = f"rows of {name}: {rows} counted, {archived} in the dump"
        return cls(name, kept, difference if rows != archived else "")
