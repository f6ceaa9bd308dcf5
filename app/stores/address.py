"""Where a store is: a URL without secrets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from app.errors import InvalidInput

#: The options of each kind; those of rclone depend on its backend.
OPTIONS: Mapping[str, frozenset[str]] = {
    "file": frozenset(),
    "s3": frozenset({"endpoint", "region", "path_style"}),
    "gs": frozenset({"endpoint"}),
    "az": frozenset({"endpoint"}),
    "sftp": frozenset({"host_key", "identity_file"}),
    "rclone": frozenset(),
}
FORMS: Mapping[str, str] = {
    "file": "file:///mnt/nas/backups",
    "s3": "s3://bucket/prefix?region=eu-central-1",
    "gs": "gs://bucket/prefix",
    "az": "az://account/container/prefix",
    "sftp": "sftp://user@host:22/path?host_key=ssh-ed25519%20AAAA…",
    "rclone": "rclone://webdav/path?url=https://cloud.example.com/dav",
}
_FORM = f"A store's URL looks like {', '.join(FORMS.values())}."
_PLACES: Mapping[str, str] = {
    "file": r"",
    "s3": r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}",
    "gs": r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}",
    "az": r"[a-z0-9]{3,24}/[a-z0-9][a-z0-9-]{2,62}",
    "sftp": r"[A-Za-z0-9_][A-Za-z0-9_.+-]*@(?:[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])"
    r"(?::[0-9]{1,5})?",
    "rclone": r"[a-z0-9]{2,40}",
}
_SEGMENT = re.compile(r"[A-Za-z0-9_.@+=,-]+")  # of a prefix in a service of objects
_OPTION = re.compile(r"[a-z][a-z0-9_]{0,60}")
_SECRET = re.compile(r"pass|secret|token|credential|access_key|account_key|sas|_pem|^key$|bearer")
_SEPARATE = "Give the password or key separately: an address is shown and logged."


@dataclass(frozen=True)
class StoreAddress:
    """A store's address; made by `parse_store_url`. As text, it is a URL without secrets."""

    kind: str  # one of OPTIONS
    place: str  # a bucket, account/container, user@host:port, or rclone's backend; "" for file
    prefix: str  # without slashes around it; for file and sftp an absolute path
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        path = quote(self.prefix, safe="/@+=,~") if self.prefix else ""
        slash = "/" if path and not path.startswith("/") else ""
        query = "&".join(
            f"{name}={quote(value, safe='/:@,')}" for name, value in sorted(self.options.items())
        )
        return f"{self.kind}://{self.place}{slash}{path}{'?' if query else ''}{query}"

    def path(self, key: str) -> str:
        """The key as the service knows it."""
        return f"{self.prefix}/{key}" if self.prefix else key


def parse_store_url(url: str) -> StoreAddress:
    """Parse a store's URL. Raises InvalidInput, which never quotes it: it may hold a secret."""
    kind, separator, rest = url.strip().partition("://")
    if not separator or kind not in OPTIONS:
        raise InvalidInput("this is not the URL of a store", hint=_FORM)
    form = f"It looks like {FORMS[kind]}."
    location, _, query = rest.partition("?")
    if "#" in rest or not rest.isprintable():
        raise InvalidInput("the URL of the store has a character too much", hint=form)
    place, path = _split(kind, location)
    user, at, _ = place.rpartition("@")
    if ":" in user or (at and kind != "sftp"):
        raise InvalidInput("the URL of the store contains credentials", hint=_SEPARATE)
    if not re.fullmatch(_PLACES[kind], place):
        raise InvalidInput("the URL of the store does not say where it is", hint=form)
    return StoreAddress(kind, place, _prefix(kind, path, form), _options(kind, query))


def _split(kind: str, location: str) -> tuple[str, str]:
    place, slash, path = location.partition("/")
    if kind == "az":
        container, slash, path = path.partition("/")
        place = f"{place}/{container}"
    return place, unquote(f"{slash}{path}")


def _prefix(kind: str, path: str, form: str) -> str:
    segments = [segment for segment in path.split("/") if segment]
    plain = kind in ("file", "sftp", "rclone")
    for segment in segments:
        is_valid = segment.isprintable() if plain else _SEGMENT.fullmatch(segment)
        if segment in (".", "..") or not is_valid:
            raise InvalidInput("the path in the URL of the store is not valid", hint=form)
    if kind in ("file", "sftp"):
        if not segments:
            raise InvalidInput("the URL of the store lacks a path", hint=form)
        return "/" + "/".join(segments)
    return "/".join(segments)


def _options(kind: str, query: str) -> dict[str, str]:
    """The options of a query; a plus is one, since base64 contains it."""
    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, raw = pair.partition("=")
        value = unquote(raw)
        if _SECRET.search(name.lower()):
            raise InvalidInput("the URL of the store contains a secret", hint=_SEPARATE)
        known = OPTIONS[kind]
        if not _OPTION.fullmatch(name) or (kind != "rclone" and name not in known):
            allowed = ", ".join(sorted(known)) or "none"
            raise InvalidInput(
                "the URL of the store has an unknown option", hint=f"{kind} allows: {allowed}."
            )
        if name in options or not value or not value.isprintable():
            raise InvalidInput(f"the option {name} in the URL of the store is not valid")
        options[name] = value
    _check_endpoint(options)
    return options


def _check_endpoint(options: Mapping[str, str]) -> None:
    if "endpoint" in options and not re.fullmatch(
        r"https?://[A-Za-z0-9._\[\]:-]+(?:/[A-Za-z0-9._-]+)*/?", options["endpoint"]
    ):
        raise InvalidInput(
            "the endpoint in the URL of the store is not valid",
            hint="It looks like https://minio.example.com:9000.",
        )
    if options.get("path_style", "true") not in ("true", "false"):
        raise InvalidInput("path_style in the URL of the store is true or false")
