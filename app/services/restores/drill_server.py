"""Where a drill is made: on a server of its own, which is gone afterwards."""

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
from app.services.databases.configured import configured_database
from app.services.restores.load import Order, RestoreRun

logger = logging.getLogger(__name__)


_GIB = 1024**3
_INDEXES = 2  # times the rows alone: what a database takes with its indexes
_UNPACKED = 20  # times a dump of which nothing else is known
_GENEROUS = 3  # times what is expected: what a drill may take at most
_BASE = 2 * _GIB  # an empty cluster, and its log of changes
ELSEWHERE = "Or name a server for drills in BACKSTOP_DRILL_URL."


@dataclass(frozen=True)
class Ability:
    """Which programs this machine has for drills, and how they are kept apart."""

    programs: list[Programs]
    sandbox: Sandbox


def is_throwaway(kind: Kind) -> bool:
    """Whether a restore of this kind is made on a server of its own."""
    return kind is Kind.DRILL and not settings().drill_url


def ability() -> Ability:
    """What drills could run on here. Raises ConfigurationError."""
    sandbox = find_sandbox()
    return Ability(list_programs(sandbox, Places(hidden=_hidden()), settings().pg_bin_dir), sandbox)


def extensions_of(contents: dict[str, Any]) -> list[str]:
    """The names of the extensions of a database."""
    return [each["name"] for each in contents.get("extensions", [])]


def refuse_live_server() -> None:
    """Raise ConfigurationError where BACKSTOP_DRILL_URL leads to the server of the database.

    The names of two servers tell little: it is asked when it was started. One that
    gives no answer is not the one that drills run on.
    """
    url = settings().drill_url
    if not url or settings().drill_on_live:
        return
    refuse_live_name(settings())
    with suppress(ConnectError):
        if _started_at(parse_url(url)) == _started_at(configured_database()):
            raise _on_live()


def refuse_live_name(wanted: Settings) -> None:
    """Raise ConfigurationError where both URLs name one server, as far as their texts tell."""
    if wanted.drill_url and wanted.database_url and not wanted.drill_on_live:
        drills, live = parse_url(wanted.drill_url), parse_url(wanted.database_url)
        if drills.server == live.server:
            raise _on_live()


def _on_live() -> ConfigurationError:
    return ConfigurationError(
        "BACKSTOP_DRILL_URL leads to the server that is backed up",
        detail="A drill there would load a whole copy beside the live databases.",
        hint="Unset it: each drill then makes a server of its own. Or allow it by"
        " BACKSTOP_DRILL_ON_LIVE=on.",
    )


def _started_at(info: Conninfo) -> object:
    with serving(info, application_name="backstop look") as server:
        return server.ask("SELECT extract(epoch FROM pg_postmaster_start_time())")


@contextmanager
def server_for(run: RestoreRun, order: Order, entries: list[Entry]) -> Iterator[Throwaway]:
    """A server for this drill alone; the run looks after it meanwhile.

    Raises NotPossible where this machine has none that fits, or no room, or where
    the server goes beyond its limits.
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
        # The watch comes first, so that it is the one to say so.
        with run.watched_by(Watch(server, limits), limit=2 * limits.seconds):
            yield server


def sweep() -> list[str]:
    """Remove what drills have left that no longer run; returns the names of what was there."""
    removed = []
    for folder in leftovers():
        remove(folder)
        removed.append(folder.name)
        logger.warning("server of a drill removed restore=%s", folder.name)
    return removed


def leftovers() -> list[Path]:
    """The folders of drills that no longer run."""
    found = [folder for home in _homes() for folder in _folders(home)]
    running = select(Restore.id).where(Restore.status == Status.PENDING)
    known = set(db.session.scalars(running)) if found else set()
    db.session.commit()
    return [folder for folder in found if folder.name not in known]


def _folders(home: Path) -> list[Path]:
    with suppress(OSError):
        return [each for each in home.iterdir() if each.is_dir() and not each.is_symlink()]
    return []


def _homes() -> tuple[Path, Path]:
    instance = settings().instance_dir
    return instance / "drills", EmbeddedFiles(instance).elsewhere / "drills"


def _home(sandbox: Sandbox) -> Path:
    """Where the server can lie: in the instance folder, unless its account cannot get there."""
    here, elsewhere = _homes()
    if sandbox.isolation is Isolation.BUBBLEWRAP or os.geteuid() != 0:
        return here
    for home in (here, elsewhere):
        make_passable(home)
        if sandbox.account.can_write_below(home):
            return home
    raise NotPossible(
        f"{sandbox.account.name} cannot write where the server for a drill would lie",
        detail=f"Tried: {here} and {elsewhere}.",
        hint="Install bubblewrap, or name another BACKSTOP_INSTANCE_DIR.",
    )


def _memory() -> int:
    """What all processes of a drill may take together, in bytes, and each by itself."""
    return max(2 * _GIB, psutil.virtual_memory().total // 2)


def _hidden() -> tuple[Path, ...]:
    """What a server for a drill must never see."""
    wanted = settings()
    return tuple({ROOT, wanted.instance_dir.resolve(), wanted.backup_dir.resolve(), Path.home()})


def _expected_size(order: Order) -> int:
    """About how large the database becomes, in bytes."""
    tables: list[dict[str, Any]] = order.contents.get("tables", [])
    rows = sum(each.get("bytes") or 0 for each in tables)
    return order.database_size or _INDEXES * rows or _UNPACKED * order.size


def _refuse_without_room(home: Path, expected: int) -> None:
    there = next(each for each in (home, *home.parents) if each.exists())
    disk = shutil.disk_usage(there)
    free = disk.free - round(KEPT_FREE * disk.total)
    if expected > free:
        told = humanize.naturalsize(disk.free, binary=True)
        raise NotPossible(
            "there is no room for a drill where the instance folder lies",
            detail=f"It needs about {humanize.naturalsize(expected, binary=True)}; {told} are free"
            f" there, of which {KEPT_FREE:.0%} of the disk stay free.",
            hint=f"Free some space, or move BACKSTOP_INSTANCE_DIR. {ELSEWHERE}",
        )
