"""Load the parts of a dump, each by the role that may, and report progress."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from app.config import settings
from app.errors import AppError, NotPossible, PostgresError, RestoreError
from app.models import Proof, Restore
from app.postgres import lending, ownership
from app.postgres.archive import Entry
from app.postgres.blame import code_of, judge
from app.postgres.census import Census
from app.postgres.connection import quoted
from app.postgres.conninfo import Conninfo, client_environment
from app.postgres.databases import Server, serving
from app.postgres.load_watch import Limits, LoadWatch
from app.postgres.restore import Loading, NotLoaded, Options, Plan, load, took_too_long
from app.postgres.script import run_script
from app.postgres.supervision import Supervision
from app.postgres.tools import Toolchain, Version
from app.programs.command import Line
from app.services.databases.configured import private_dir, storage
from app.services.jobs import claims
from app.services.jobs.progress import Progress
from app.services.jobs.run import Run
from app.services.restores import scratch
from app.services.restores.order import Order
from app.services.restores.row_counts import count_own

_JOBS = 2  # parallel jobs of pg_restore
_BIG = 64 * 1024**2  # bytes of a dump from which parallel jobs pay off
_GROWTH = 4  # times its expected size that a database may take
_SPARE_DISK = 1024**3  # bytes
_LOADED = 85  # per cent of the whole restore


class RestoreRun(Run):
    """The repeated work while a backup is restored: checks, and news on its row."""

    job = Restore

    def __init__(self, job_id: str, *, limit: int, on_news: Callable[[], None]) -> None:
        super().__init__(job_id, limit=limit, on_news=on_news)
        self.rows: dict[str, int] = {}  # of each table, by the name that pg_restore uses
        self.begun: list[str] = []  # tables whose rows pg_restore has started to load
        self.lines = 0  # printed by pg_restore
        self.is_judged = False  # it has compared and asked
        self.proofs: list[Proof] = []  # that are not stored yet
        self._watch: Callable[[], None] | None = None  # of its own server

    def check(self, *, now_at_once: bool = False) -> None:
        """As for every run; also check its own server, if it has one."""
        super().check(now_at_once=now_at_once)
        if self._watch is not None:
            self._watch()

    @contextmanager
    def watched_by(self, watch: Callable[[], None], *, limit: int) -> Iterator[None]:
        """Call `watch` at each check, also to limit the time; an error of it ends the run."""
        self._watch, self._limit = watch, round(time.monotonic() - self._started) + limit
        try:
            yield
        finally:
            self._watch = None

    def _too_long(self, seconds: int) -> PostgresError:
        return took_too_long(seconds)

    def hear(self, line: str) -> None:
        """Take a line of pg_restore, which names each table when it starts to load its rows."""
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


class Loader:
    """Loads parts of the dump, each by a role that may load it."""

    def __init__(
        self, run: RestoreRun, order: Order, toolchain: Toolchain, version: Version, hear: Line
    ) -> None:
        self._run, self.order = run, order
        self.toolchain, self.version, self._hear = toolchain, version, hear
        self._watch: LoadWatch | None = None
        self.extensions: list[Any] = []  # before anything was loaded
        self.taking_back: list[str] = []  # statements that revoke what was lent
        self.taking_tablespaces: list[str] = []  # the same, for tablespaces of the server
        self.without_tablespaces = order.backup.foreign
        self.missing_tablespaces: list[str] = []
        self.tablespaces: set[str] = {"pg_default"}  # that the server has

    @contextmanager
    def watching(self, info: Conninfo) -> Iterator[None]:
        """End a load that fills the server's disk or does not move; watch it from `info`."""
        size = self.order.database_size or 0
        limits = Limits(size * _GROWTH + _SPARE_DISK, settings().stall_timeout)
        with serving(info, application_name=f"{self.order.application_name} watch") as server:
            self._watch = LoadWatch(server, self.order.working, limits)
            try:
                yield
            finally:
                self._watch = None

    def _check(self) -> None:
        self._run.check()
        if self._watch is not None:
            self._watch(self._run.lines)

    def load_all(self, plan: Plan, role: Conninfo, admin: Conninfo) -> None:
        """Load all but the last entries: extensions by the admin, then the rest by the role."""
        self._run.phase = "loading"
        if not self.order.backup.foreign:
            with self.serving(admin) as server:
                self._prepare(server, plan, role.parameters["user"])
        self.load(role, plan.load, Options(jobs=_JOBS if self.order.backup.size > _BIG else 1))

    def _prepare(self, server: Server, plan: Plan, role: str) -> None:
        """The admin's part, before anything of the dump is loaded."""
        contents, working = self.order.contents, self.order.working
        roles = server.roles()
        owner = contents.get("owner")
        heir = owner if owner in roles else str(server.ask("SELECT current_user"))
        server.rows(f"ALTER DATABASE {quoted(working)} OWNER TO {quoted(heir)}")
        if self.order.lacks_public and not self.order.tables:
            server.rows("DROP SCHEMA IF EXISTS public")
        lending.make_extensions(server, plan, owner=heir)
        of_extensions = [
            (table["schema"], table["name"])
            for table in contents.get("tables", [])
            if table.get("extension")
        ]
        self.taking_back = lending.lend(server, plan, of_extensions, role)
        server.rows(f"ALTER DATABASE {quoted(working)} OWNER TO {quoted(role)}")
        for statement in ownership.settings(contents, working, roles):
            server.rows(statement)
        wanted = {entry.tablespace for entry in plan.load} - {""}
        missing, self.taking_tablespaces = lending.lend_tablespaces(server, wanted, role)
        self.missing_tablespaces = missing
        self.tablespaces = server.tablespaces()
        self.without_tablespaces = bool(missing)
        self.extensions = lending.extensions_of(server)

    def load(
        self,
        info: Conninfo,
        entries: list[Entry],
        options: Options | None = None,
        *,
        check_live: Callable[[], None] = lambda: None,
    ) -> None:
        """Load these entries, signed in as `info` says; `check_live` is called meanwhile."""
        order, options = self.order, options or Options()
        self._run.check(now_at_once=True)  # in place, there is no way back after it
        if self.without_tablespaces and not options.over_live:
            options = replace(options, without_tablespaces=True)

        def tick() -> None:
            self._check()
            check_live()

        list_file = scratch.list_file(order.id)
        list_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with self.supervision(info, tick) as supervision:
                archive = storage().path_of(order.filename)
                loading = Loading(
                    self.toolchain, archive, info, self.version, list_file, self._hear, supervision
                )
                load(loading, entries, options)
        except NotLoaded as error:
            ask = None if options.over_live else info  # the live database is not tried again
            raise self._reason(ask, entries, error) from None
        finally:
            list_file.unlink(missing_ok=True)

    def _reason(self, ask: Conninfo | None, entries: list[Entry], error: NotLoaded) -> AppError:
        """The error for entries that could not be loaded: whether it speaks against the backup."""
        entry = next((entry for entry in entries if entry.id == error.entry), None)

        def code(entry: Entry) -> str:
            return code_of(ask, self.order.application_name, entry) if ask else ""

        reason = judge(error.words, entry, code)
        if isinstance(reason, RestoreError) and self.order.major > self.version.major:
            return NotPossible(
                f"this server is older than the one that was dumped, {self.order.major}",
                detail=reason.detail,
                hint="Restore on a server of that version or newer.",
            )
        return reason

    @contextmanager
    def supervision(
        self, info: Conninfo, tick: Callable[[], None] | None = None
    ) -> Iterator[Supervision]:
        """What a program is given that works on the database of this restore."""
        with client_environment(info, private_dir()) as environment:
            yield Supervision(
                environment | {"PGAPPNAME": self.order.application_name},
                self.order.timeout,
                tick or self._run.check,
                partial(claims.note_process, self.order.id, job=Restore),
            )

    def serving(self, info: Conninfo) -> AbstractContextManager[Server]:
        """A session there, which a cancel ends."""
        name = self.order.application_name
        return serving(info, application_name=name, on_wait=self._check)

    def run_sql(self, role: Conninfo, admin: Conninfo) -> None:
        """Run the SQL of a schedule as the role without rights, watched from `admin`."""
        self._run.phase = "changing"
        with self.watching(admin):
            run_script(
                role,
                self.order.sql,
                major=self.version.major,
                timeout=settings().sql_timeout,
                application_name=self.order.application_name,
                on_wait=self._check,
            )

    def count(self, role: Conninfo) -> Census:
        """Count rows and read sequences, as the role without rights."""
        with self.serving(role) as server:
            return count_own(server, self.order.contents)
