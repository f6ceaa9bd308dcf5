"""Where a database is and how to sign in: URLs, libpq's parameters, password files."""

import getpass
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from app import locks
from app.errors import ConfigurationError
from app.programs.masking import LONG_ENOUGH

_SCHEMES = ("postgres", "postgresql")
_PASSFILE = "pgpass-"

# Settings of our programs that override those of the database and the role, by the first
# major version that knows them.
_UNDISTURBED = {
    0: "-c default_transaction_read_only=off"
    " -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0",
    14: "-c idle_session_timeout=0",
    17: "-c transaction_timeout=0",
}


@dataclass(frozen=True)
class Conninfo:
    """A database: libpq's parameters by name, and the password."""

    parameters: Mapping[str, str]
    password: str = field(default="", repr=False)
    server: str = ""  # "host:port", as shown to people
    passfile: Path | None = None  # a permanent password file for people
    notices: tuple[str, ...] = ()  # parameters dropped from the URL, and why

    @property
    def database(self) -> str:
        """The name of the database that we ask the server for."""
        return self.parameters.get("dbname") or self.parameters.get("user") or ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The password in each form in which it could appear."""
        if not self.password:
            return ()
        return tuple(dict.fromkeys((self.password, quote(self.password, safe=""))))

    def dsn(self, **changes: str | int | None) -> str:
        """A connection string without the password; None leaves a parameter out.

        Each value is quoted: the name of a database may look like a connection string.
        """
        return str(make_dsn(None, **dict(self.parameters) | changes))


def undisturbed(info: Conninfo, major: int, *, quotes: str = "off") -> Conninfo:
    """The same for a program, with settings that override those of the database and the role."""
    options = [info.parameters.get("options", ""), f"-c quote_all_identifiers={quotes}"]
    options += [text for since, text in _UNDISTURBED.items() if major >= since]
    return replace(info, parameters={**info.parameters, "options": " ".join(options).strip()})


def parse_url(url: str, *, called: str = "DATABASE_URL") -> Conninfo:
    """Parse a libpq URL, also in the forms of Prisma and SQLAlchemy; errors name it as `called`.

    Parameters that libpq does not know (`schema`, `connection_limit`, …) are dropped with
    a notice. Raises ConfigurationError, which never quotes the URL.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.partition("+")[0] not in _SCHEMES:
        raise _no_url(scheme, called)
    plain, dropped = _without_foreign_parameters(rest, called)
    try:
        parameters = parse_dsn(plain)
    except (psycopg2.ProgrammingError, UnicodeDecodeError):
        raise _unreadable(called) from None  # their messages would quote the password
    _refuse_misread_password(plain, parameters, called)
    _refuse_services(parameters)
    parameters["dbname"] = _database(parameters)
    password = parameters.pop("password", "")
    if password:
        parameters.pop("passfile", None)  # it would override the password
    if "sslpassword" in parameters or "\n" in password or "\r" in password:
        raise ConfigurationError(
            f"{called} contains a secret that cannot be passed on safely",
            hint="sslpassword and passwords with line breaks are not supported.",
        )
    notices = tuple(f"{called}: {name} is unknown to libpq and was ignored" for name in dropped)
    if 0 < len(password) < LONG_ENOUGH:
        notices += (f"{called}: a password of {LONG_ENOUGH} characters or more is masked better",)
    return Conninfo(parameters, password, server=_server(parameters), notices=notices)


def url_of_neighbour(info: Conninfo, dbname: str) -> str:
    """The URL of another database by the same way and role; it contains the password."""
    parameters = {**info.parameters, "dbname": dbname}
    if info.password:
        parameters["password"] = info.password
    return f"postgresql:///?{urlencode(parameters, quote_via=quote)}"


def _no_url(scheme: str, called: str) -> ConfigurationError:
    hint = "It looks like postgresql://user:password@host:5432/database."
    if scheme.startswith("jdbc:"):
        hint = "Leave out jdbc: and write user and password before the host. " + hint
    elif scheme[:1] in ("'", '"'):
        hint = "Leave out the quotes around it. " + hint
    return ConfigurationError(f"{called} is not a PostgreSQL URL", hint=hint)


def _refuse_services(parameters: Mapping[str, str]) -> None:
    """A service file could name another database than the one we show."""
    if "service" in parameters or "PGSERVICE" in os.environ:
        raise ConfigurationError(
            "services of libpq (service=, PGSERVICE) are not supported",
            detail="A service file could lead to a database that is neither shown nor compared.",
            hint="Write host, user and database into the URL.",
        )


def _database(parameters: Mapping[str, str]) -> str:
    """The name of the database by the rules of libpq: else PGDATABASE, else the user."""
    user = parameters.get("user") or os.environ.get("PGUSER") or getpass.getuser()
    return parameters.get("dbname") or os.environ.get("PGDATABASE") or user


def _unreadable(called: str) -> ConfigurationError:
    return ConfigurationError(
        f"{called} cannot be read",
        hint="Write special characters in the password percent-encoded:"
        " @ is %40, / is %2F, % is %25.",
    )


def _refuse_misread_password(url: str, parameters: Mapping[str, str], called: str) -> None:
    """Refuse a URL in which a raw / or @ of the password was read as host or database.

    Those are shown to people, and would show a part of the password.
    """
    authority, _ = _split_user(url.removeprefix("postgresql://"))[1].split("?", 1)
    ports = parameters.get("port", "").split(",")
    if "@" in authority or not all(port.isdigit() or not port for port in ports):
        raise _unreadable(called)


def _split_user(rest: str) -> tuple[str, str]:
    """User and password, and the rest: as in libpq, at the first @ before a slash."""
    head = rest.partition("/")[0]
    if "@" not in head:
        return "", rest
    user, _, following = rest.partition("@")
    return f"{user}@", following


def _without_foreign_parameters(rest: str, called: str) -> tuple[str, list[str]]:
    """The URL with only the parameters that libpq knows, and the names of the others."""
    user, following = _split_user(rest)
    base, _, query = following.partition("?")
    pairs = [pair for pair in query.split("&") if pair]
    known = [pair for pair in pairs if _is_known(pair)]
    foreign = [pair for pair in pairs if pair not in known]
    if not all(re.fullmatch(r"[A-Za-z_][\w.-]*(=[^@/]*)?", pair) for pair in foreign):
        raise _unreadable(called)  # rather a part of a password
    dropped = [pair.partition("=")[0] for pair in foreign]
    return f"postgresql://{user}{base}?{'&'.join(known)}", dropped


def _is_known(pair: str) -> bool:
    name = pair.partition("=")[0]
    for attempt in (pair, f"{name}=0"):  # libpq knows only one value of ssl
        try:
            parse_dsn(f"postgresql:///?{attempt}")
        except (psycopg2.ProgrammingError, UnicodeDecodeError):
            continue
        return True
    return False


def _server(parameters: Mapping[str, str]) -> str:
    host = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST")
    port = parameters.get("port") or os.environ.get("PGPORT") or "5432"
    return f"{host or 'local socket'}:{port}"


@contextmanager
def client_environment(info: Conninfo, private_dir: Path) -> Iterator[dict[str, str]]:
    """The environment for one client program, with its own password file.

    The file is in `private_dir` with mode 0600, as libpq demands, and is removed at the
    end. Without a password libpq uses ~/.pgpass or PGPASSFILE as usual.
    """
    if not info.password:
        yield {}
        return
    private_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = private_dir / f"{_PASSFILE}{secrets.token_hex(8)}"
    with os.fdopen(locks.create_locked(path), "w", encoding="utf-8") as file:
        try:
            file.write(_passfile_line(info.password))
            file.flush()
            yield {"PGPASSFILE": str(path), "PGPASSWORD": ""}
        finally:
            path.unlink(missing_ok=True)


def write_passfile(path: Path, password: str) -> None:
    """Create a password file for any server, mode 0600."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_passfile_line(password))


def remove_stale_passfiles(private_dir: Path) -> None:
    """Remove the password files of killed runs."""
    for path in private_dir.glob(f"{_PASSFILE}*"):
        with suppress(OSError):  # of another user, or the folder is not writable
            locks.remove_unlocked(path)


def _passfile_line(password: str) -> str:
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"
