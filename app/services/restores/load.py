"""What a restore loads, by whom, and how far it is."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.config import settings
from app.errors import AppError, NotPossible, PostgresError, RestoreError
from app.models import Kind, Restore, Trigger
from app.postgres import lending, ownership
from app.postgres.archive import Entry
from app.postgres.blame import code_of, judge
from app.postgres.census import Census
from app.postgres.command import Line
from app.postgres.connection import quoted
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.databases import Server, serving
from app.postgres.definitions import Running
from app.postgres.load_watch import Limits, LoadWatch
from app.postgres.restore import NotLoaded, Plan, load, took_too_long
from app.postgres.selection import Name
from app.postgres.tools import Toolchain, Version
from app.services.databases.configured import private_dir, storage
from app.services.jobs import claims
from app.services.jobs.progress import Progress
from app.services.jobs.run import Run
from app.services.jobs.session_names import restore_session
from app.services.restores import scratch
from app.services.restores.row_counts import count_own

_JOBS = 2  # what pg_restore loads at once
_BIG = 64 * 1024**2  # bytes of a dump from which on that pays
_PUBLIC = ["schema", "public"]
_GROWS = 4  # times what is expected that a database may take
_SPARE_DISK = 1024**3  # bytes
_LOADED = 85  # per cent of the whole


class RestoreRun(Run):
    """What has to be done again and again while a backup is restored."""

    job = Restore

    def __init__(self, job_id: str, *, limit: int, on_news: Callable[[], None]) -> None:
        super().__init__(job_id, limit=limit, on_news=on_news)
        self.rows: dict[str, int] = {}  # of each table, as pg_restore names it
        self.begun: list[str] = []  # tables
        self.lines = 0  # of pg_restore
        self.is_judged = False  # its proofs are written
        self._watch: Callable[[], None] | None = None  # of a server of its own

    def check(self, *, now_at_once: bool = False) -> None:
        """As for every run; and see to the server that it has for itself."""
        super().check(now_at_once=now_at_once)
        if self._watch is not None:
            self._watch()

    @contextmanager
    def watched_by(self, watch: Callable[[], None], *, limit: int) -> Iterator[None]:
        """Call this at each check meanwhile; what it raises ends the run. It sees to the time."""
        self._watch, self._limit = watch, round(time.monotonic() - self._started) + limit
        try:
            yield
        finally:
            self._watch = None

    def _too_long(self, seconds: int) -> PostgresError:
        return took_too_long(seconds)

    def heard(self, line: str) -> None:
        """Take a line of pg_restore: it names each table when it begins with its rows."""
        self.log.add(line)
        self.lines += 1
        name = line.partition('processing data for table "')[2].rstrip('"')
        if name in self.rows:
            self.begun.append(name)

    def measure(self) -> Progress:
        """How far it has come."""
        total = sum(self.rows.values()) + len(self.rows) or 1
        done = sum(self.rows[name] + 1 for name in self.begun[:-1])
        percent = {"starting": 0.0, "checking": 1.0, "loading": 5 + (_LOADED - 5) * done / total}
        return Progress(
            phase=self.phase,
            percent=round(percent.get(self.phase, _LOADED), 1),
            tables_done=len(self.begun[:-1]) if self.phase == "loading" else len(self.begun),
            tables_total=len(self.rows),
            table=self.begun[-1] if self.begun and self.phase == "loading" else "",
            is_last=claims.is_leaving(),
        )


@dataclass(frozen=True)
class Order:
    """What is to be restored, as the rows say: no transaction stays open meanwhile."""

    id: str
    kind: Kind
    trigger: Trigger
    created_by: str
    database: str
    named: str  # the database that was dumped, as it was called
    working: str
    filename: str
    backup_id: str
    size: int
    sha256: str
    oldest_reader: int
    foreign: bool
    compression: str
    database_size: int | None
    major: int  # version of the server that was dumped; 0 is unknown
    contents: dict[str, Any]
    tables: tuple[Name, ...]  # none: all of it
    as_superuser: bool

    @property
    def is_of_all(self) -> bool:
        """Whether its outcome says something of the whole backup."""
        return not self.tables and self.kind is not Kind.IN_PLACE

    @property
    def timeout(self) -> int:
        """How long it may take in all, in seconds."""
        is_apart = self.working.startswith(scratch.THROWAWAY)
        # What watches the server of a drill ends it in time, and says so.
        return 2 * settings().drill_timeout if is_apart else settings().restore_timeout

    @property
    def application_name(self) -> str:
        return restore_session(self.id)


def lacks_public(contents: Census) -> bool:
    """Whether the schema that every new database has was dropped in the one that was dumped."""
    owned = contents.get("owned", [])
    return bool(owned) and not any(each[:2] == _PUBLIC for each in owned)


class Loader:
    """Loads parts of the dump, each by whom it may be loaded."""

    def __init__(
        self, run: RestoreRun, order: Order, toolchain: Toolchain, version: Version, heard: Line
    ) -> None:
        self._run, self.order = run, order
        self.toolchain, self.version, self._heard = toolchain, version, heard
        self._watch: LoadWatch | None = None
        self.extensions: list[Any] = []  # as they were before anything was loaded
        self.taking_back: list[str] = []  # statements, for what was lent
        self.taking_tablespaces: list[str] = []  # the same, for what is of the whole server
        self.without_tablespaces = order.foreign
        self.missing_tablespaces: list[str] = []
        self.tablespaces: set[str] = {"pg_default"}  # those that can be had

    @contextmanager
    def watching(self, info: Conninfo) -> Iterator[None]:
        """End what fills the server's disk or does not move; looked at from `info`."""
        name, size = self.order.application_name, self.order.database_size or 0
        limits = Limits(size * _GROWS + _SPARE_DISK, settings().stall_timeout)
        with serving(info, application_name=f"{name} watch") as server:
            self._watch = LoadWatch(server, self.order.working, limits)
            try:
                yield
            finally:
                self._watch = None

    def _look(self) -> None:
        self._run.check()
        if self._watch is not None:
            self._watch(self._run.lines)

    def load_all(self, apart: Plan, role: Conninfo, admin: Conninfo) -> None:
        """All but what comes last: extensions by the admin, then the rest by the role."""
        self._run.phase = "loading"
        if not self.order.foreign:
            with self.serving(admin) as server:
                self._prepare(server, apart, role.parameters["user"])
        self.load(role, apart.load, jobs=_JOBS if self.order.size > _BIG else 1)

    def _prepare(self, server: Server, apart: Plan, role: str) -> None:
        """What the admin does while nothing of the dump is there yet."""
        contents, working = self.order.contents, self.order.working
        roles = server.roles()
        owner = contents.get("owner")
        heir = owner if owner in roles else str(server.ask("SELECT current_user"))
        server.rows(f"ALTER DATABASE {quoted(working)} OWNER TO {quoted(heir)}")
        if lacks_public(contents) and not self.order.tables:
            server.rows("DROP SCHEMA IF EXISTS public")
        lending.make_extensions(server, apart, owner=heir)
        of_extensions = [
            (each["schema"], each["name"])
            for each in contents.get("tables", [])
            if each.get("extension")
        ]
        self.taking_back = lending.lend(server, apart, of_extensions, role)
        server.rows(f"ALTER DATABASE {quoted(working)} OWNER TO {quoted(role)}")
        for statement in ownership.settings(contents, working, roles):
            server.rows(statement)
        wanted = {each.tablespace for each in apart.load} - {""}
        missing, self.taking_tablespaces = lending.lend_tablespaces(server, wanted, role)
        self.missing_tablespaces = missing
        self.tablespaces = server.tablespaces()
        self.without_tablespaces = bool(missing)
        self.extensions = lending.extensions_of(server)

    def load(
        self,
        info: Conninfo,
        entries: list[Entry],
        *,
        jobs: int = 1,
        with_owners: bool = False,
        over_living: Callable[[], None] | None = None,
    ) -> None:
        """Load these entries, signed in as `info` says; `over_living` is called meanwhile."""
        order = self.order
        self._run.check(now_at_once=True)  # in place, there is no way back after it

        def tick() -> None:
            self._look()
            if over_living is not None:
                over_living()

        private_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
        list_file = scratch.list_file(order.id)
        try:
            with client_environment(info, private_dir()) as environment:
                load(
                    self.toolchain,
                    storage().path_of(order.filename),
                    info,
                    entries,
                    server=self.version,
                    list_file=list_file,
                    jobs=jobs,
                    with_owners=with_owners,
                    over_living=over_living is not None,
                    without_tablespaces=self.without_tablespaces and over_living is None,
                    timeout=order.timeout,
                    environment=environment | {"PGAPPNAME": order.application_name},
                    on_line=self._heard,
                    on_tick=tick,
                    on_start=partial(claims.note_process, order.id, job=Restore),
                )
        except NotLoaded as error:
            ask = info if over_living is None else None  # what lives is not tried again
            raise self._reason(ask, entries, error) from None
        finally:
            list_file.unlink(missing_ok=True)

    def _reason(self, ask: Conninfo | None, entries: list[Entry], error: NotLoaded) -> AppError:
        """What it says of the backup that these could not be loaded."""
        entry = next((each for each in entries if each.id == error.entry), None)

        def code(entry: Entry) -> str:
            return code_of(ask, self.order.application_name, entry) if ask else ""

        found = judge(error.words, entry, code)
        if isinstance(found, RestoreError) and self.order.major > self.version.major:
            return NotPossible(
                f"this server is older than the one that was dumped, {self.order.major}",
                detail=found.detail,
                hint="Restore on a server of that version or a newer one.",
            )
        return found

    @contextmanager
    def running(self, info: Conninfo) -> Iterator[Running]:
        """What a program needs that asks the database which we have loaded."""
        with client_environment(info, private_dir()) as environment:
            yield Running(
                scratch.list_file(self.order.id),
                environment | {"PGAPPNAME": self.order.application_name},
                self.order.timeout,
                self._run.check,
                partial(claims.note_process, self.order.id, job=Restore),
            )

    def serving(self, info: Conninfo) -> AbstractContextManager[Server]:
        """A session there that is ended by a cancel."""
        name = self.order.application_name
        return serving(info, application_name=name, on_wait=self._look)

    def count(self, role: Conninfo) -> Census:
        """Rows and sequences, asked by who has no rights."""
        with self.serving(role) as server:
            return count_own(server, self.order.contents)
