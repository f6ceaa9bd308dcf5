"""Read a new dump whole before it is believed: by pg_restore, and for its SHA-256."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from threading import Event

from app.errors import Interrupted
from app.postgres.archive import Entry, Header, read_entries, read_header, read_whole
from app.postgres.rows import RowCounter
from app.postgres.tools import Toolchain
from app.services import claims
from app.services.databases import storage
from app.services.manifests import Measured
from app.services.runs import Run
from app.storages import Staged, sha256_of

_TICK = 0.25  # seconds


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
