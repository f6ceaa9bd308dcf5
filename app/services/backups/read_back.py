"""Read a new dump whole before it is believed: by pg_restore, and for its SHA-256."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from threading import Event

from app.errors import Interrupted
from app.postgres.archive import Entry, Header, read_entries, read_header, read_whole
from app.postgres.census import Census
from app.postgres.encodings import printable
from app.postgres.rows import RowCounter
from app.postgres.tools import Toolchain
from app.services.backups.manifests import Measured
from app.services.databases.configured import storage
from app.services.jobs import claims
from app.services.jobs.run import Run
from app.storages import Staged, sha256_of

_TICK = 0.25  # seconds
_TOLD = 100  # differences that are kept; with so many nobody reads more


@dataclass(frozen=True)
class Reading:
    """What was found when the dump was read whole."""

    dump: Measured
    header: Header
    entries: list[Entry]
    rows: RowCounter
    seconds: float


def read_back(
    run: Run, staged: Staged, toolchain: Toolchain, *, contents: int, on_tick: Callable[[], None]
) -> Reading:
    """Read the dump whole, twice at once: by pg_restore and for its SHA-256.

    `contents` is the size of its database in bytes, as far as that can be
    believed: the limits grow with it. Raises DumpError, and what `on_tick` raises.
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
                raise Interrupted("the check was given up")

        reading = pool.submit(sha256_of, file, on_block=on_block)
        try:
            read_whole(
                toolchain,
                staged.path,
                entries=len(entries),
                contents=contents,
                on_data=rows.take,
                on_tick=on_tick,
                on_start=partial(claims.note_process, run.job_id),
            )
            while not reading.done():
                on_tick()
                wait([reading], timeout=_TICK)
        except BaseException:
            given_up.set()
            raise
        dump = Measured(size, reading.result(), header.oldest_reader)
        return Reading(dump, header, entries, rows, time.monotonic() - began)


def prove_rows(contents: Census, counted: dict[int, int], read: Reading) -> Census:
    """What a dump holds, and whether its rows are those that were counted in its snapshot.

    `contents` are the snapshot's, with oids; `counted` its rows by oid. Of a
    table that was not counted in time the archive's rows are kept, and its
    name in the evidence. Sequences are as the archive has them: they do not
    obey snapshots.
    """
    archive = read.rows
    differences, uncounted, tables = [], [], []
    for table in contents["tables"]:
        schema, name = table["schema"], table["name"]
        told = printable(f"{schema}.{name}")
        found, rows = archive.rows.get((schema, name)), counted.get(table["oid"])
        kept = {"schema": schema, "name": name, "bytes": archive.bytes.get((schema, name))}
        if table.get("extension"):  # the others come with CREATE EXTENSION
            tables.append(kept | {"rows": rows, "extension": True})
            continue
        if found is None:
            differences.append(f"{told} is not in the dump")
        elif rows is None:
            uncounted.append(told)
        elif rows != found:
            differences.append(f"rows of {told}: {rows} counted, {found} in the dump")
        tables.append(kept | {"rows": found if rows is None else rows})
    large = contents["objects"].get("large objects", 0)
    if large != archive.large_objects:
        differences.append(f"large objects: {large} counted, {archive.large_objects} in the dump")
    sequences = [
        {"schema": entry.schema, "name": entry.name, "value": list(entry.sequence_value)}
        for entry in read.entries
        if entry.sequence_value is not None
    ]
    evidence = {
        "tables": len(tables),
        "rows": sum(archive.rows.values()),
        "uncounted": uncounted[:_TOLD],
        "differences": differences[:_TOLD],
    }
    proof = {"seconds": round(read.seconds, 3), "evidence": evidence}
    return contents | {"tables": tables, "sequences": sequences, "read": proof}
