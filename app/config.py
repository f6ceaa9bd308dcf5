"""Every setting: its name, its default and one line of meaning.

Values come from the environment, else from `.env` beside `wsgi.py`; a secret
`NAME` may lie in the file that `NAME_FILE` names. A wrong value stops the
start with a message that names the setting.
"""

import os
import re
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environs import EnvError, FileAwareEnv
from flask import Flask, current_app
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.errors import ConfigurationError

ROOT = Path(__file__).resolve().parent.parent

WEB_THREADS = 8  # of waitress
UPLOAD_PART = 16 * 1024**2  # bytes; the largest body of a request
CANCEL_PATIENCE = 5.0  # seconds that a face waits for the end of what it has cancelled

_LARGEST_PORT = 65_535
_SHORTEST_KEY = 16  # characters
_MOST_PERCENT = 10_000
_LISTEN = re.compile(r"[^\s/]+:\d{1,5}")
_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")
_SHORTEST_TOKEN = 16
_LOG_FORMAT = re.compile(r"text|json")
_ON_OFF = re.compile(r"on|off")
_WORKER_STOP = re.compile(r"interrupt|wait")
_COMPRESSION = re.compile(
    r"(none|gzip|lz4|zstd)(:\d{1,2}|:level=\d{1,2}(,long)?|:long)?|\d"  # as pg_dump --compress
)


@dataclass(frozen=True)
class Settings:
    """The settings of one panel, checked. Durations are in seconds."""

    database_url: str | None  # the database to back up; None: the embedded sample
    drill_url: str | None  # a server for drills; None: one is made for each
    drill_on_live: bool  # whether that may be the server of the database itself
    drill_timeout: int  # how long a drill may take in all
    restore_timeout: int  # the same for other restores
    drill_amcheck: bool  # whether drills run pg_amcheck
    restore_url: str | None  # who loads restores; None: a role is made for each
    secret_key: str  # signs sessions
    listen: str  # host:port where waitress listens
    hosts: tuple[str, ...]  # names under which the panel is asked for; none: any
    instance_dir: Path  # catalogue, queue, embedded server, keys
    backup_dir: Path  # the local storage
    catalogue_url: str  # the panel's own records
    queue_url: str  # the task queue
    admin_username: str  # the first admin, made only while there is none
    admin_password: str | None  # None: generated and printed once
    pg_bin_dir: Path | None  # a folder of client tools that wins over all others
    compression: str | None  # as pg_dump --compress; None: the best the tool has
    count_rows: bool  # whether the rows of each table are counted beside pg_dump
    lock_timeout: int  # how long a backup waits for a table's lock
    stall_timeout: int  # how long a dump may go without a byte moving
    dump_timeout: int  # how long a dump may take in all
    scrub_every: int  # after how long a dump is read again
    keep_replaced: int  # how long a database that was replaced is kept for an undo
    max_jobs: int  # how many backups may wait or run at once, of all databases
    workers: int  # how many backups one worker process runs at once
    worker_stop: str  # what a worker that is told to stop does with its backup
    api_wait: int  # how long POST /api/admin/backup waits at most
    upload_limit: int  # GiB; how large a dump that is brought from elsewhere may be
    trusted_proxies: int  # reverse proxies in front
    metrics_token: str | None  # opens /metrics; None: there is no such page
    metrics_listen: str | None  # host:port where /metrics is served to all; None: nowhere
    log_format: str  # text or json
    # When an alarm is raised; 0: never.
    alarm_max_age: int  # of the newest good backup
    alarm_free_space: int  # bytes that shall be free where the dumps are
    alarm_smaller: int  # per cent of the usual size
    alarm_slower: int  # per cent of the usual time
    alarm_fewer_tables: int  # per cent of the usual number


def settings() -> Settings:
    """The settings of the running application."""
    found: Settings = current_app.extensions["backstop.settings"]
    return found


def bind_settings(app: Flask, values: Settings) -> None:
    """Give the application its settings, and Flask the ones it knows itself."""
    app.extensions["backstop.settings"] = values
    app.json.sort_keys = False  # type: ignore[attr-defined]  # keys in the order people read
    app.config.update(
        SECRET_KEY=values.secret_key,
        SQLALCHEMY_DATABASE_URI=values.catalogue_url,
        SQLALCHEMY_ENGINE_OPTIONS=_engine_options(values.catalogue_url),
        MAX_CONTENT_LENGTH=64 * 1024,
        MAX_FORM_MEMORY_SIZE=64 * 1024,
        SESSION_COOKIE_NAME="backstop",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=7 * 24 * 3600,
        WTF_CSRF_TIME_LIMIT=None,  # a form lives as long as its session
        WTF_CSRF_CHECK_DEFAULT=False,  # the admin blueprint asks for it
        BOOTSTRAP_SERVE_LOCAL=True,
        BOOTSTRAP_BTN_STYLE="primary",
        SEND_FILE_MAX_AGE_DEFAULT=3600,
    )


def _engine_options(catalogue_url: str) -> dict[str, object]:
    """Its server may be restarted, or have gone silent."""
    if catalogue_url.startswith("sqlite"):
        return {"pool_pre_ping": True}
    alive = {
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    return {"pool_pre_ping": True, "connect_args": alive}


def load_settings(dotenv: Path | None = ROOT / ".env") -> Settings:
    """Read and check every setting, making folders and the secret key if needed.

    Raises ConfigurationError, naming the setting, for the first wrong value.
    """
    env = FileAwareEnv(strip_whitespace=True)
    if dotenv is not None:
        for path in (dotenv, *_read_by_flask()):
            _refuse_of_others(path)
        env.read_env(dotenv, recurse=False)
    try:
        return _read(env)
    except OSError as error:
        raise ConfigurationError(
            "the instance folder cannot be used",
            detail=f"{error.strerror}: {error.filename}.",
            hint="It must belong to the user who runs Backstop (BACKSTOP_INSTANCE_DIR).",
        ) from error
    except (EnvError, ValueError) as error:
        raise ConfigurationError(
            f"a setting is wrong: {error}",
            hint="Every setting and its form is described in docs/reference/settings.md.",
        ) from error


def _read_by_flask() -> list[Path]:
    """The files that the flask command has read already, from where it was started."""
    if os.environ.get("FLASK_SKIP_DOTENV"):
        return []
    here = Path.cwd()
    found = ([each / name for each in (here, *here.parents)] for name in (".env", ".flaskenv"))
    return [path for paths in found for path in [next(filter(Path.is_file, paths), None)] if path]


def _refuse_of_others(path: Path) -> None:
    """Raise ConfigurationError for a file that somebody else may write: it names programs."""
    try:
        found = path.stat()
    except OSError:
        return
    trusted = (0, os.geteuid(), ROOT.stat().st_uid)  # the last one could change the code as well
    if found.st_uid not in trusted or found.st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"{path} may be written by somebody else",
            detail="Settings name programs, which would run with your rights.",
            hint="Run the command in another folder, set FLASK_SKIP_DOTENV=1, or mend the file's"
            " owner and mode.",
        )


def _read(env: FileAwareEnv) -> Settings:
    instance_dir = _folder(env, "BACKSTOP_INSTANCE_DIR", ROOT / "instance", mode=0o711)
    return Settings(
        database_url=env.str("DATABASE_URL", None) or None,
        drill_url=env.str("BACKSTOP_DRILL_URL", None) or None,
        drill_on_live=_matching(env, "BACKSTOP_DRILL_ON_LIVE", _ON_OFF, "on or off") == "on",
        drill_timeout=_seconds(env, "BACKSTOP_DRILL_TIMEOUT", 86_400),
        restore_timeout=_seconds(env, "BACKSTOP_RESTORE_TIMEOUT", 86_400),
        drill_amcheck=_matching(env, "BACKSTOP_DRILL_AMCHECK", _ON_OFF, "on or off") != "off",
        restore_url=env.str("BACKSTOP_RESTORE_URL", None) or None,
        secret_key=_secret_key(env, instance_dir),
        listen=_listen(env, "BACKSTOP_LISTEN") or "127.0.0.1:3000",
        hosts=_hosts(env),
        instance_dir=instance_dir,
        backup_dir=_path(env, "BACKSTOP_BACKUP_DIR") or ROOT / "backups",
        catalogue_url=_catalogue_url(env, instance_dir),
        queue_url=env.str("BACKSTOP_QUEUE_URL", None) or f"sqlite:///{instance_dir / 'queue.db'}",
        admin_username=env.str("BACKSTOP_ADMIN_USERNAME", None) or "admin",
        admin_password=env.str("BACKSTOP_ADMIN_PASSWORD", None) or None,
        pg_bin_dir=_path(env, "BACKSTOP_PG_BIN_DIR"),
        compression=_matching(
            env, "BACKSTOP_COMPRESSION", _COMPRESSION, "METHOD[:LEVEL], for example zstd:3 or gzip"
        ),
        count_rows=_matching(env, "BACKSTOP_COUNT_ROWS", _ON_OFF, "on or off") != "off",
        lock_timeout=_seconds(env, "BACKSTOP_LOCK_TIMEOUT", 30),
        stall_timeout=_seconds(env, "BACKSTOP_STALL_TIMEOUT", 300),
        dump_timeout=_seconds(env, "BACKSTOP_DUMP_TIMEOUT", 86_400),
        scrub_every=_seconds(env, "BACKSTOP_SCRUB_EVERY", 30 * 86_400),
        keep_replaced=_seconds(env, "BACKSTOP_KEEP_REPLACED", 7 * 86_400),
        max_jobs=_number(env, "BACKSTOP_MAX_JOBS", 4, least=1, most=100),
        workers=_number(env, "BACKSTOP_WORKERS", 2, least=1, most=32),
        worker_stop=_matching(env, "BACKSTOP_WORKER_STOP", _WORKER_STOP, "interrupt or wait")
        or "interrupt",
        api_wait=_number(env, "BACKSTOP_API_WAIT", 50, least=0, most=3600),
        upload_limit=_number(env, "BACKSTOP_UPLOAD_LIMIT", 100, least=1, most=100_000),
        trusted_proxies=_number(env, "BACKSTOP_TRUSTED_PROXIES", 0, least=0, most=10),
        metrics_token=_metrics_token(env),
        metrics_listen=_listen(env, "BACKSTOP_METRICS_LISTEN"),
        log_format=_matching(env, "BACKSTOP_LOG_FORMAT", _LOG_FORMAT, "text or json") or "text",
        alarm_max_age=_or_off(_seconds, env, "BACKSTOP_ALARM_MAX_AGE", 26 * 3600),
        alarm_free_space=_or_off(_bytes, env, "BACKSTOP_ALARM_FREE_SPACE", "1GiB"),
        alarm_smaller=_or_off(_percent, env, "BACKSTOP_ALARM_SMALLER", "50%"),
        alarm_slower=_or_off(_percent, env, "BACKSTOP_ALARM_SLOWER", "300%"),
        alarm_fewer_tables=_or_off(_percent, env, "BACKSTOP_ALARM_FEWER_TABLES", "90%"),
    )


def _number(env: FileAwareEnv, name: str, default: int, *, least: int, most: int) -> int:
    value: int = env.int(name, default) if env.str(name, None) else default
    if not least <= value <= most:
        raise ValueError(f"{name} must lie between {least} and {most}")
    return value


_DURATIONS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400}
_SIZES = {"MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


def _in_units(raw: str, units: dict[str, int]) -> int:
    """The number that is written with one of these units; 0 where it is not."""
    match = re.fullmatch(r"(\d{1,12})\s*([A-Za-z%]*)", raw.strip())
    return int(match[1]) * units.get(match[2], 0) if match else 0


def _seconds(env: FileAwareEnv, name: str, default: int) -> int:
    value = _in_units(env.str(name, None) or str(default), _DURATIONS)
    if not 1 <= value <= 30 * 86_400:
        raise ValueError(f"{name} must be a duration such as 30, 30s, 5min or 24h")
    return value


def _bytes(env: FileAwareEnv, name: str, default: str) -> int:
    value = _in_units(env.str(name, None) or default, _SIZES)
    if not value:
        raise ValueError(f"{name} must be a size such as 500MiB, 20GiB or 1TiB")
    return value


def _percent(env: FileAwareEnv, name: str, default: str) -> int:
    value = _in_units(env.str(name, None) or default, {"%": 1})
    if not 1 <= value <= _MOST_PERCENT:
        raise ValueError(f"{name} must be a percentage such as {default}")
    return value


def _or_off(
    read: Callable[[FileAwareEnv, str, Any], int], env: FileAwareEnv, name: str, default: int | str
) -> int:
    """What `read` makes of the setting, or 0 where it is off."""
    return 0 if env.str(name, None) == "off" else read(env, name, default)


def _matching(env: FileAwareEnv, name: str, pattern: re.Pattern[str], form: str) -> str | None:
    value: str | None = env.str(name, None) or None
    if value is not None and not pattern.fullmatch(value):
        raise ValueError(f"{name} must look like {form}")
    return value


def _metrics_token(env: FileAwareEnv) -> str | None:
    given = env.str("BACKSTOP_METRICS_TOKEN", None) or None
    if given is not None and len(given) < _SHORTEST_TOKEN:
        raise ValueError(f"BACKSTOP_METRICS_TOKEN must have at least {_SHORTEST_TOKEN} characters")
    return given


def _listen(env: FileAwareEnv, name: str) -> str | None:
    value = _matching(env, name, _LISTEN, "HOST:PORT")
    if value is not None and int(value.rpartition(":")[2]) > _LARGEST_PORT:
        raise ValueError(f"{name}: the port must not be larger than {_LARGEST_PORT}")
    return value


def _hosts(env: FileAwareEnv) -> tuple[str, ...]:
    names = (env.str("BACKSTOP_HOSTS", None) or "").replace(",", " ").split()
    for name in names:
        if not _HOST.fullmatch(name):
            raise ValueError("BACKSTOP_HOSTS must be names or addresses, without ports")
    return tuple(name.strip("[]").lower() for name in names)


def _path(env: FileAwareEnv, name: str) -> Path | None:
    raw = env.str(name, None)
    return Path(raw).expanduser().absolute() if raw else None


def _folder(env: FileAwareEnv, name: str, default: Path, *, mode: int) -> Path:
    folder = _path(env, name) or default
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)  # not at the mercy of the umask
    except OSError as error:
        raise ValueError(f"{name}: {folder} cannot be made ({error.strerror})") from error
    return folder


def _secret_key(env: FileAwareEnv, instance_dir: Path) -> str:
    given = env.str("SECRET_KEY", None)
    if given:
        if len(given) < _SHORTEST_KEY:
            raise ValueError(f"SECRET_KEY must have at least {_SHORTEST_KEY} characters")
        return given
    return private_secret(instance_dir / "secret_key")


def private_secret(path: Path) -> str:
    """The secret in the file, made there first (mode 0600) if there is none.

    Two processes that start at once agree: the file gets its name only when
    it is whole, and the first name wins.
    """
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with open(partial, "x", opener=_owner_only, encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    return path.read_text(encoding="ascii").strip()


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _catalogue_url(env: FileAwareEnv, instance_dir: Path) -> str:
    url = env.str("BACKSTOP_CATALOGUE_URL", None) or f"sqlite:///{instance_dir / 'catalogue.db'}"
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("postgres", "postgresql"):
        url = f"postgresql+psycopg2://{rest}"
    elif scheme not in ("sqlite", "postgresql+psycopg2"):
        raise ValueError("BACKSTOP_CATALOGUE_URL must begin with sqlite:/// or postgresql://")
    try:
        make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("BACKSTOP_CATALOGUE_URL cannot be read") from None  # it has a password
    return url
