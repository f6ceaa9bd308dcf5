"""Where a drill runs: on a server of its own, which is removed afterwards."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import humanize
import psutil
from sqlalchemy import select

from app.config import ROOT, Settings, settings
from app.errors import ConfigurationError, ConnectError, NotPossible
from app.extensions import db
from app.models import Kind, Restore, Status
from app.postgres.archive import Entry
from app.postgres.conninfo import Conninfo, parse_url
from app.postgres.databases import serving
from app.postgres.embedded.accounts import make_passable
from app.postgres.embedded.files import EmbeddedFiles
from app.postgres.throwaway.programs import Programs, choose_programs, list_programs
from app.postgres.throwaway.remains import remove
from app.postgres.throwaway.sandbox import Isolation, Places, Sandbox, find_sandbox
from app.postgres.throwaway.server import Site, Throwaway, throwaway_server
from app.postgres.throwaway.watch import KEPT_FREE, Limits, Watch
from app.services.restores.load import RestoreRun
from app.services.restores.order import Order

logger = logging.getLogger(__name__)

_GIB = 1024**3
_INDEXES = 2  # times the size of its rows that a database takes with indexes
_UNPACKED = 20  # times the size of a dump, if nothing else is known
_GENEROUS = 3  # times the expected size that a drill may take
_BASE = 2 * _GIB  # an empty cluster and its write-ahead log
ELSEWHERE = "Or name a server for drills in BACKSTOP_DRILL_URL."


@dataclass(frozen=True)
class Ability:
    """The programs that this machine has for drills, and how they are isolated."""

    programs: list[Programs]
    sandbox: Sandbox


def is_throwaway(kind: Kind) -> bool:
    """Whether a restore of this kind runs on a server of its own."""
    return kind is Kind.DRILL and not settings().drill_url


def ability() -> Ability:
    """What drills can run on here. Raises ConfigurationError."""
    sandbox = find_sandbox()
    return Ability(list_programs(sandbox, Places(hidden=_hidden()), settings().pg_bin_dir), sandbox)


def extensions_of(contents: dict[str, Any]) -> list[str]:
    """The names of the extensions of a database."""
    return [extension["name"] for extension in contents.get("extensions", [])]


def refuse_live_server(live: Conninfo) -> None:
    """Raise ConfigurationError if BACKSTOP_DRILL_URL leads to the server of the live database.

    The names of servers prove little, so their start times are compared. A server that
    does not answer is not the one that drills run on.
    """
    url = settings().drill_url
    if not url or settings().drill_on_live:
        return
    refuse_live_name(settings())
    with suppress(ConnectError):
        if _started_at(parse_url(url)) == _started_at(live):
            raise _on_live()


def refuse_live_name(wanted: Settings) -> None:
    """Raise ConfigurationError if both URLs name the same server, as far as their texts show."""
    if wanted.drill_url and wanted.database_url and not wanted.drill_on_live:
        drills, live = parse_url(wanted.drill_url), parse_url(wanted.database_url)
        if drills.server == live.server:
            raise _on_live()


def _on_live() -> ConfigurationError:
    return ConfigurationError(
        "BACKSTOP_DRILL_URL leads to the server that is backed up",
        detail="A drill there would load a whole copy next to the live databases.",
        hint="Unset it, so that each drill starts a server of its own. Or allow it:"
        " BACKSTOP_DRILL_ON_LIVE=on.",
    )


def _started_at(info: Conninfo) -> object:
    with serving(info, application_name="backstop look") as server:
        return server.ask("SELECT extract(epoch FROM pg_postmaster_start_time())")


@contextmanager
def server_for(run: RestoreRun, order: Order, entries: list[Entry]) -> Iterator[Throwaway]:
    """A server for this drill alone, which the run watches meanwhile.

    Raises NotPossible if this machine has no suitable programs or no room, or if the server
    exceeds its limits.
    """
    here = ability()
    extensions = extensions_of(order.contents)
    programs = choose_programs(here.programs, order.major, extensions, elsewhere=ELSEWHERE)
    home = _home(here.sandbox)
    expected = _expected_size(order)
    _refuse_without_room(home, expected)
    memory = _memory()
    site = Site(
        home / order.id, programs, here.sandbox, _hidden(), locks=len(entries), memory=memory
    )
    with throwaway_server(site, run.check) as server:
        run.log.add(f"backstop: loading into {server.described}")
        limits = Limits(
            disk=_GENEROUS * expected + _BASE,
            memory=memory,
            seconds=settings().drill_timeout,
            stall=settings().stall_timeout,
        )
        # The watch acts before the limit of the run, because its message is clearer.
        with run.watched_by(Watch(server, limits), limit=2 * limits.seconds):
            yield server


def sweep() -> list[str]:
    """Remove the leftovers of drills that no longer run; return their names."""
    removed = []
    for folder in leftovers():
        remove(folder)
        removed.append(folder.name)
        logger.warning("server of a drill removed restore=%s", folder.name)
    return removed


def leftovers() -> list[Path]:
    """The folders of drills that no longer run."""
    folders = [folder for home in _homes() for folder in _folders(home)]
    running = select(Restore.id).where(Restore.status == Status.PENDING)
    known = set(db.session.scalars(running)) if folders else set()
    db.session.commit()
    return [folder for folder in folders if folder.name not in known]


def _folders(home: Path) -> list[Path]:
    with suppress(OSError):
        return [folder for folder in home.iterdir() if folder.is_dir() and not folder.is_symlink()]
    return []


def _homes() -> tuple[Path, Path]:
    instance = settings().instance_dir
    return instance / "drills", EmbeddedFiles(instance).elsewhere / "drills"


def _home(sandbox: Sandbox) -> Path:
    """The folder for the server: in the instance folder, unless its account cannot reach it."""
    here, elsewhere = _homes()
    if sandbox.isolation is Isolation.BUBBLEWRAP or os.geteuid() != 0:
        return here
    for home in (here, elsewhere):
        make_passable(home)
        if sandbox.account.can_write_below(home):
            return home
    raise NotPossible(
        f"{sandbox.account.name} cannot write where the server for a drill would be",
        detail=f"Tried {here} and {elsewhere}.",
        hint="Install bubblewrap, or name another BACKSTOP_INSTANCE_DIR.",
    )


def _memory() -> int:
    """The memory limit for each process of a drill and for all of them, in bytes."""
    return max(2 * _GIB, psutil.virtual_memory().total // 2)


def _hidden() -> tuple[Path, ...]:
    """The folders that a server for a drill must never see."""
    wanted = settings()
    return tuple({ROOT, wanted.instance_dir.resolve(), wanted.backup_dir.resolve(), Path.home()})


def _expected_size(order: Order) -> int:
    """The approximate size of the restored database, in bytes."""
    tables: list[dict[str, Any]] = order.contents.get("tables", [])
    rows = sum(table.get("bytes") or 0 for table in tables)
    return order.database_size or _INDEXES * rows or _UNPACKED * order.backup.size


def _refuse_without_room(home: Path, expected: int) -> None:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    disk = shutil.disk_usage(existing)
    free = disk.free - round(KEPT_FREE * disk.total)
    if expected > free:
        free_text = humanize.naturalsize(disk.free, binary=True)
        raise NotPossible(
            "there is no room for a drill on the disk of the instance folder",
            detail=f"It needs about {humanize.naturalsize(expected, binary=True)}; {free_text} are"
            f" free, but a drill leaves {KEPT_FREE:.0%} of the disk free.",
            hint=f"Free some space, or move BACKSTOP_INSTANCE_DIR. {ELSEWHERE}",
        )
