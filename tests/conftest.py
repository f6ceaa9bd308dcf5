"""Real things for every test: a PostgreSQL, databases, an application, people."""

import gc
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar
from urllib.parse import quote

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache
from sqlalchemy import text
from werkzeug.routing import Map, Rule

from app import create_app
from app.config import Settings
from app.extensions import db
from app.postgres.conninfo import Conninfo
from app.postgres.embedded import EmbeddedServer
from app.postgres.tools import Toolchain, Version, choose_toolchain, find_toolchains
from app.queue import QUEUES, queue
from app.services.access import admins
from app.services.backups.queue import FOREIGN
from app.services.catalogue.state import prepare_catalogue
from app.services.databases.configured import Address
from app.services.databases.lookup import database_at
from app.services.jobs import claims
from tests.servers import a_server

PASSWORD = "correct horse battery"

# Where chance breaks something (tests/faults), all processes of a run share one seed.
os.environ.setdefault("FAULTS_SEED", str(secrets.randbelow(2**32)))

#: Nothing listens there: for tests that plant what they need.
NO_SERVER = "postgresql://u:p@127.0.0.1:1/shop"

SMALL_SHOP = """
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (
        id int PRIMARY KEY,
        customer_id int NOT NULL REFERENCES customers,
        total numeric(10, 2) NOT NULL
    );
    INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 50) n;
    INSERT INTO orders SELECT n, 1 + n % 50, n * 1.5 FROM generate_series(1, 500) n;
"""


# Asks how many sessions sleep in a database that a restore makes: what an earlier test
# gave up may sleep on in others.
RESTORED_SLEEPS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event = 'PgSleep' AND starts_with(datname, 'backstop_')
"""


@dataclass(frozen=True)
class Database:
    """A database of its own for one test; `url` is what DATABASE_URL would be."""

    name: str
    url: str

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run SQL and return its rows, if it has any."""
        with closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def passable_dir() -> Iterator[Path]:
    """A folder that an unprivileged server may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="backstop-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(passable_dir: Path) -> Iterator[Conninfo]:
    """A real PostgreSQL for the whole run, with the sample shop in `ecom`."""
    embedded = EmbeddedServer(passable_dir)
    with embedded.used():
        conninfo = embedded.conninfo()
        # Durable test databases would only cost time.
        server = Database("postgres", url_of(conninfo, "postgres"))
        for setting in ("fsync", "full_page_writes", "autovacuum"):
            server.run(f"ALTER SYSTEM SET {setting} = off")
        server.run("SELECT pg_reload_conf()")
        yield conninfo


@pytest.fixture(scope="session")
def server_15(passable_dir: Path) -> Iterator[Conninfo]:
    """A PostgreSQL 15 for the whole run, empty."""
    with a_server(15, passable_dir / "15") as info:
        yield info


@pytest.fixture(scope="session")
def server_18(passable_dir: Path) -> Iterator[Conninfo]:
    """A PostgreSQL 18 for the whole run, empty."""
    with a_server(18, passable_dir / "18") as info:
        yield info


@pytest.fixture
def own_toolchain(server: Conninfo) -> Toolchain:
    """The programs that fit the tests' own server."""
    version = Database("postgres", url_of(server, "postgres")).run("SHOW server_version_num")
    return choose_toolchain(find_toolchains(), Version.of_number(int(version[0][0])))


def url_of(server: Conninfo, database: str, user: str = "", password: str = "") -> str:
    """A libpq URL of one database on the server."""
    at = server.parameters
    account = f"{quote(user or at['user'], safe='')}:{quote(password or server.password, safe='')}"
    host, port = quote(at["host"], safe=""), at["port"]
    return f"postgresql://{account}@/{quote(database, safe='')}?host={host}&port={port}"


@pytest.fixture
def new_database(server: Conninfo) -> Iterator[Callable[..., Database]]:
    """Make empty databases; they are dropped afterwards."""
    admin = Database("postgres", url_of(server, "postgres"))
    made: list[str] = []

    def make(name: str = "", template: str = "template0") -> Database:
        name = name or f"test_{secrets.token_hex(6)}"
        quoted = name.replace('"', '""')
        admin.run(f'CREATE DATABASE "{quoted}" TEMPLATE {template} STRATEGY file_copy')
        made.append(quoted)
        return Database(name, url_of(server, name))

    yield make
    for quoted in made:
        admin.run(f'DROP DATABASE IF EXISTS "{quoted}" WITH (FORCE)')


@pytest.fixture(scope="session")
def shop_template(server: Conninfo) -> str:
    """A small database to copy: two tables, 550 rows."""
    Database("postgres", url_of(server, "postgres")).run("CREATE DATABASE shop_template")
    Database("shop_template", url_of(server, "shop_template")).run(SMALL_SHOP)
    return "shop_template"


@pytest.fixture
def shop(new_database: Callable[..., Database], shop_template: str) -> Database:
    """A small database to back up, which the test may change and lock."""
    return new_database(template=shop_template)


@pytest.fixture(scope="session")
def common_shop(server: Conninfo, shop_template: str) -> Database:
    """One for all tests that only have it dumped: to make and drop another costs 0.2 s."""
    admin = Database("postgres", url_of(server, "postgres"))
    admin.run(f"CREATE DATABASE common_shop TEMPLATE {shop_template} STRATEGY file_copy")
    return Database("common_shop", url_of(server, "common_shop"))


@pytest.fixture
def shop_url(request: pytest.FixtureRequest, server: Conninfo) -> Iterator[str]:
    """What is behind the panel: the test's own shop if it names one, or that of all."""
    if "shop" in request.fixturenames:
        yield request.getfixturevalue("shop").url
        return
    common: Database = request.getfixturevalue("common_shop")
    yield common.url
    end_sessions(server, common.name)  # a lock that was left would be in the next one's way


def end_sessions(server: Conninfo, database: str) -> None:
    """End what is still connected to it, as a forced drop would."""
    Database("postgres", url_of(server, "postgres")).run(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
        database,
    )


# A materialized view cannot be locked, and pg_dump waits for who refreshes it.
HELD = "CREATE MATERIALIZED VIEW IF NOT EXISTS held AS SELECT 1"
HOLD = "REFRESH MATERIALIZED VIEW held"


@contextmanager
def locked(shop: Database) -> Iterator[None]:
    """Something that pg_dump has to wait for: tables are locked before it begins."""
    shop.run(HELD)
    with closing(psycopg2.connect(shop.url)) as holder, holder.cursor() as cursor:
        cursor.execute(HOLD)
        yield


def sessions(shop: Database, filename: str) -> int:
    mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    return int(shop.run(mine, f"backstop {filename}")[0][0])


def waiting(shop: Database, filename: str) -> bool:
    """Whether pg_dump stands before what is locked."""
    mine = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = %s AND wait_event_type = 'Lock' AND query LIKE '%%viewdef%%'"
    )
    return shop.run(mine, f"backstop {filename}") == [(1,)]


def database_id(server: str, dbname: str) -> str | None:
    """Of the database at an address, for rows that are planted; None for an import's."""
    return None if server == FOREIGN else database_at(Address(server, dbname)).id


def on_catalogues(*kinds: str) -> pytest.MarkDecorator:
    """Run a test on these kinds of catalogue: `sqlite`, `postgresql`, `own postgresql`.

    The last is a database for the test alone, which it may spoil.
    """
    return pytest.mark.parametrize("catalogue_url", kinds, indirect=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Models and services keep their rules on both kinds of catalogue, unless a test has chosen."""
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "catalogue_url" in chosen:
        return
    folder = metafunc.definition.path.parent
    is_room = folder.parent.name == "services" and folder.name not in ("drills", "restores")
    on_both = is_room or folder.name in ("models", "services")
    if on_both and "catalogue_url" in metafunc.fixturenames:
        metafunc.parametrize("catalogue_url", ["sqlite", "postgresql"], indirect=True)


class KnownRule(Rule):
    """A route that is compiled once for all applications; to make one costs a tenth then."""

    known: ClassVar[dict[tuple[Any, ...], Rule]] = {}

    def get_rules(self, map: Map) -> Iterator[Rule]:  # noqa: A002 - so it is called
        yield self.known.setdefault((self.rule, self.endpoint, *sorted(self.methods)), self)

    def bind(self, map: Map, rebind: bool = False) -> None:  # noqa: A002
        if self.map is None:
            super().bind(map, rebind)


Flask.url_rule_class = KnownRule


class KnownTemplates(BytecodeCache):
    """Templates that are compiled once for all applications; a page takes a tenth of a second."""

    known: ClassVar[dict[str, CodeType]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self.known.get(bucket.key + bucket.checksum)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.known[bucket.key + bucket.checksum] = bucket.code


Flask.jinja_options = {"bytecode_cache": KnownTemplates()}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first: at the end, one worker would be alone with the last of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: not to look through them again saves 5 % of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue at its newest form with one admin in it, to copy."""
    folder = tmp_path_factory.mktemp("catalogue")
    _make_catalogue(settings_in(folder, "postgresql:///unused"))
    return folder / "instance" / "catalogue.db"


@pytest.fixture(scope="session")
def postgresql_template(server: Conninfo, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same as a database on the server."""
    Database("postgres", url_of(server, "postgres")).run("CREATE DATABASE catalogue_template")
    url = as_catalogue(url_of(server, "catalogue_template"))
    folder = tmp_path_factory.mktemp("catalogue")
    _make_catalogue(settings_in(folder, "postgresql:///unused", catalogue_url=url))
    return "catalogue_template"


@pytest.fixture(scope="session")
def common_catalogue(server: Conninfo, postgresql_template: str) -> Callable[[], str]:
    """Give one database to each test in turn, its rows as they were at first.

    To make and drop a database takes ten times as long.
    """
    Database("postgres", url_of(server, "postgres")).run(
        f"CREATE DATABASE common_catalogue TEMPLATE {postgresql_template} STRATEGY file_copy"
    )
    catalogue = Database("common_catalogue", url_of(server, "common_catalogue"))
    tables = [
        name
        for (name,) in catalogue.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    ]
    catalogue.run("CREATE SCHEMA at_first")
    for name in tables:
        catalogue.run(f"CREATE TABLE at_first.{name} AS TABLE public.{name}")
    again = "SET session_replication_role = replica;" + "".join(
        f"DELETE FROM public.{name}; INSERT INTO public.{name} TABLE at_first.{name};"
        for name in tables
    )

    def give() -> str:
        end_sessions(server, catalogue.name)
        catalogue.run(again)
        return catalogue.url

    return give


def _make_catalogue(settings: Settings) -> None:
    with create_app(settings).app_context():
        prepare_catalogue()
        admins.create_first_admin()
        db.session.remove()
        if db.engine.dialect.name == "sqlite":
            db.session.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
            db.session.remove()
        db.engine.dispose()


@pytest.fixture
def catalogue_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A catalogue for one test, with one admin in it."""
    kind = getattr(request, "param", "sqlite")
    if kind == "postgresql":
        return as_catalogue(request.getfixturevalue("common_catalogue")())
    if kind == "own postgresql":
        template = request.getfixturevalue("postgresql_template")
        return as_catalogue(request.getfixturevalue("new_database")(template=template).url)
    path = tmp_path / "instance" / "catalogue.db"
    path.parent.mkdir()
    shutil.copy(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


def as_catalogue(url: str) -> str:
    """A libpq URL as the settings hold a catalogue's."""
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


def settings_in(folder: Path, database_url: str, **changes: Any) -> Settings:
    """The settings of a panel whose files lie in this folder."""
    instance = folder / "instance"
    instance.mkdir(exist_ok=True)
    defaults = Settings(
        database_url=database_url,
        drill_url=None,
        drill_on_live=False,
        drill_timeout=120,
        restore_timeout=120,
        sql_timeout=60,
        drill_amcheck=False,  # it would cost each drill a tenth of a second
        restore_url=None,
        secret_key="only for tests, never elsewhere",
        listen="127.0.0.1:0",
        hosts=(),
        instance_dir=instance,
        backup_dir=folder / "backups",
        catalogue_url=f"sqlite:///{instance / 'catalogue.db'}",
        queue_url=f"sqlite:///{instance / 'queue.db'}",
        admin_username="admin",
        admin_password=PASSWORD,
        pg_bin_dir=None,
        compression=None,
        count_rows=True,
        lock_timeout=5,
        dump_jobs=None,
        stall_timeout=60,
        dump_timeout=120,
        keep_replaced=7 * 86_400,
        scrub_every=30 * 86_400,
        max_jobs=4,
        workers=1,
        server_backups=1,
        copies=1,
        verify_copies=1024**3,
        worker_stop="interrupt",
        api_wait=30,
        upload_limit=1,
        trusted_proxies=0,
        metrics_token=None,
        metrics_listen=None,
        log_format="text",
        alarm_max_age=26 * 3600,
        alarm_copy_age=6 * 3600,
        alarm_free_space=0,  # it would depend on the machine of the tests
        alarm_smaller=50,
        alarm_slower=300,
        alarm_fewer_tables=90,
    )
    return replace(defaults, **changes)


@pytest.fixture
def settings(tmp_path: Path, shop_url: str, catalogue_url: str) -> Settings:
    """The settings of a panel that backs up the small shop."""
    return settings_in(tmp_path, shop_url, catalogue_url=catalogue_url)


@pytest.fixture
def make_app(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """Make applications, each with settings of its own."""
    made: list[Flask] = []

    def make(**changes: Any) -> Flask:
        app = create_app(replace(settings, **changes))
        app.testing = True
        made.append(app)
        if "catalogue_url" in changes:  # the usual one is a copy of one that is ready
            with app.app_context():
                prepare_catalogue()
                admins.create_first_admin()
        return app

    yield make
    claims._stopping.clear()
    for app in made:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """The application, its catalogue ready and one admin in it."""
    return make_app()


@pytest.fixture
def leftovers(server: Conninfo) -> Callable[[], list[str]]:
    """Ask for what restores have left on the server: databases, roles, sessions."""
    admin = Database("postgres", url_of(server, "postgres"))

    def ask() -> list[str]:
        return [
            name
            for (name,) in admin.run(
                "SELECT datname FROM pg_database WHERE starts_with(datname, 'backstop_')"
                " UNION ALL SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'backstop_')"
                " UNION ALL SELECT application_name FROM pg_stat_activity"
                " WHERE starts_with(application_name, 'backstop restore')"
            )
        ]

    return ask


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    """The application's context, for tests of services."""
    with app.app_context():
        yield


@pytest.fixture
def visitor(app: Flask) -> FlaskClient:
    """Somebody who is not signed in."""
    return app.test_client()


@pytest.fixture
def admin(app: Flask) -> FlaskClient:
    """A signed-in admin."""
    return signed_in(app)


def signed_in(app: Flask) -> FlaskClient:
    """A client of this application that has signed in over the API."""
    client = app.test_client()
    answer = client.post("/api/admin/session", json={"username": "admin", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return client


@pytest.fixture
def worker(app: Flask) -> Iterator[None]:
    """A real worker of the queue, in a thread of the tests' process."""
    with working(app):
        yield


class working:  # noqa: N801 - reads as a word: with working(app)
    """A worker for the time of a with block."""

    def __init__(self, app: Flask) -> None:
        assert queue.app is app

    def __enter__(self) -> None:
        self.consumers = [
            each.create_consumer(
                workers=1, max_delay=0.1, periodic=False, check_worker_health=False
            )
            for each in QUEUES
        ]
        for each in self.consumers:
            each._set_signal_handlers = lambda: None
            each.start()

    def __exit__(self, *_: object) -> None:
        claims.stop_runs()
        for each in self.consumers:
            each.stop(graceful=True)
        claims._stopping.clear()


@contextmanager
def panel_in(
    folder: Path, template: Path, database_url: str = NO_SERVER, **changes: Any
) -> Iterator[Flask]:
    """A panel for tests that plant what they need: no database is behind it."""
    settings = settings_in(folder, database_url, **changes)
    shutil.copy(template, settings.instance_dir / "catalogue.db")
    app = create_app(settings)
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Flask]:
    """A panel that all tests of a module share."""
    with panel_in(tmp_path_factory.mktemp("panel"), sqlite_template) as app:
        yield app


@pytest.fixture(scope="module")
def ann(panel: Flask) -> FlaskClient:
    """An admin who is signed in to it."""
    return signed_in(panel)
