"""Every setting on a line of its own: its name, default, form and meaning.

Values come from the environment, otherwise from `.env` beside `wsgi.py`; the value
of `NAME` may be in the file that `NAME_FILE` names. A wrong value stops the start
with a message that names the setting.
"""

import os
import stat
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from environs import EnvError, FileAwareEnv
from flask import Flask, current_app

from app import readers as read
from app.errors import ConfigurationError
from app.keys import private_secret

ROOT = Path(__file__).resolve().parent.parent

WEB_THREADS = 8  # of waitress
UPLOAD_PART = 16 * 1024**2  # bytes; the largest body of a request
CANCEL_PATIENCE = 5.0  # seconds that a face waits for the end of what it has cancelled

_DAY = 86_400  # seconds


def _set(default: Any = None, reader: read.Reader = str) -> Any:
    """A setting: its default, perhaps made in the instance folder, and how its text is read."""
    return field(metadata={"default": default, "read": reader})


@dataclass(frozen=True)
class Settings:
    """The settings of one panel, checked; durations are in seconds."""

    # Where: the databases, and Backstop's own files.
    database_url: str | None = _set()  # the database to back up; None: the embedded sample
    drill_url: str | None = _set()  # a server for drills; None: one is made for each
    drill_on_live: bool = _set(False, read.on_or_off)  # also on the database's own server
    restore_url: str | None = _set()  # who loads restores; None: a role is made for each
    instance_dir: Path = _set(lambda root: root / "instance", read.path)  # also the sample
    backup_dir: Path = _set(lambda _: ROOT / "backups", read.path)  # the local storage
    catalogue_url: str = _set(lambda home: f"sqlite:///{home / 'catalogue.db'}", read.catalogue_url)
    queue_url: str = _set(lambda home: f"sqlite:///{home / 'queue.db'}")  # the task queue
    pg_bin_dir: Path | None = _set(None, read.path)  # client programs that take precedence
    # Who and how: the panel.
    secret_key: str = _set(lambda home: private_secret(home / "secret_key"), read.secret)
    admin_username: str = _set("admin")  # the first admin, made only while there is none
    admin_password: str | None = _set()  # None: generated and printed once
    listen: str = _set("127.0.0.1:3000", read.address)  # where waitress listens
    hosts: tuple[str, ...] = _set((), read.hosts)  # of the panel; none: any name
    trusted_proxies: int = _set(0, read.number(0, 10))  # reverse proxies in front
    api_wait: int = _set(50, read.number(0, 3600))  # longest wait of POST /api/admin/backup
    upload_limit: int = _set(100, read.number(1, 100_000))  # GiB; size of an imported dump
    metrics_token: str | None = _set(None, read.secret)  # for /metrics; None: no such page
    metrics_listen: str | None = _set(None, read.address)  # /metrics for all; None: nowhere
    log_format: str = _set("text", read.matching("text|json", "text or json"))
    # How backups and restores run.
    compression: str | None = _set(None, read.compression)  # None: the best the tool has
    dump_jobs: int | None = _set(
        None, read.number(1, read.MOST_DUMP_JOBS)
    )  # None: by size and cores
    count_rows: bool = _set(True, read.on_or_off)  # count each table's rows too
    lock_timeout: int = _set(30, read.seconds)  # how long a backup waits for a table's lock
    stall_timeout: int = _set(300, read.seconds)  # how long a dump may go without a byte
    dump_timeout: int = _set(_DAY, read.seconds)  # how long a dump may take in all
    drill_timeout: int = _set(_DAY, read.seconds)  # the same for a drill
    restore_timeout: int = _set(_DAY, read.seconds)  # the same for other restores
    sql_timeout: int = _set(3600, read.seconds)  # the same for the SQL of a schedule
    drill_amcheck: bool = _set(True, read.on_or_off)  # run pg_amcheck in drills
    scrub_every: int = _set(30 * _DAY, read.seconds)  # after how long a dump is read again
    keep_replaced: int = _set(7 * _DAY, read.seconds)  # how long a replace can be undone
    max_jobs: int = _set(200, read.number(1, 10_000))  # backups that may wait or run at once
    workers: int = _set(2, read.number(1, 32))  # backups that one worker runs at once
    server_backups: int = _set(1, read.number(1, 32))  # backups of one server that run at once
    copies: int = _set(2, read.number(1, 16))  # copies that one worker makes at once
    verify_copies: int = _set(10 * 1024**3, read.off_or(read.size))  # bytes read back a day
    worker_stop: str = _set("interrupt", read.matching("interrupt|wait", "interrupt or wait"))
    # When an alarm is raised; 0: never.
    alarm_max_age: int = _set(26 * 3600, read.off_or(read.seconds))  # of the newest good backup
    alarm_copy_age: int = _set(6 * 3600, read.off_or(read.seconds))  # of a backup without a copy
    alarm_free_space: int = _set(1024**3, read.off_or(read.size))  # bytes left for dumps
    alarm_smaller: int = _set(50, read.off_or(read.percent))  # per cent of the usual size
    alarm_slower: int = _set(300, read.off_or(read.percent))  # per cent of the usual time
    alarm_fewer_tables: int = _set(90, read.off_or(read.percent))  # per cent of the usual


def name_of(key: str) -> str:
    """The name of a setting in the environment."""
    name = key.upper()
    return name if name in ("DATABASE_URL", "SECRET_KEY") else f"BACKSTOP_{name}"


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
    found = ([folder / name for folder in (here, *here.parents)] for name in (".env", ".flaskenv"))
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
    settings = {setting.name: setting for setting in fields(Settings)}
    instance_dir = _value(env, settings.pop("instance_dir"), ROOT)
    _make_folder(instance_dir)
    values = {key: _value(env, setting, instance_dir) for key, setting in settings.items()}
    return Settings(instance_dir=instance_dir, **values)


def _value(env: FileAwareEnv, setting: Field[Any], instance_dir: Path) -> Any:
    name, default = name_of(setting.name), setting.metadata["default"]
    text = env.str(name, None)
    if not text:  # an empty setting counts as none
        return default(instance_dir) if callable(default) else default
    try:
        return setting.metadata["read"](text)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from error


def _make_folder(folder: Path) -> None:
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o711)  # not at the mercy of the umask
    except OSError as error:
        why = f"{folder} cannot be made ({error.strerror})"
        raise ValueError(f"{name_of('instance_dir')}: {why}") from error
