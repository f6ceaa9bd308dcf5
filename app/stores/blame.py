"""What a store's words mean: one of our errors with a hint, without secrets."""

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import (
    ObjectLocked,
    ObjectMissing,
    StorageError,
    StorageFull,
    StoreDenied,
    StoreUnreachable,
)
from app.programs.masking import masked

_LONGEST = 500  # characters of what a service says


@dataclass(frozen=True)
class _Cause:
    pattern: str  # of the service's words
    kind: type[StorageError]
    what: str
    hint: str


_NETWORK_HINT = "Check the host, the port, and that a firewall lets this machine through."

# The first that matches counts.
_CAUSES = (
    _Cause(
        r"NoSuchBucket|ContainerNotFound|bucket does not exist",
        StorageError,
        "the bucket does not exist",
        "Check its name, or create it: Backstop creates none.",
    ),
    _Cause(
        r"PermanentRedirect|TemporaryRedirect|AuthorizationHeaderMalformed|IllegalLocation"
        r"|redirect without LOCATION|status code: 301|IncorrectEndpoint",
        StorageError,
        "the bucket is in another region",
        "Set region=… in the store's URL to the region of the bucket.",
    ),
    _Cause(
        r"ExpiredToken|TokenRefreshRequired|token has expired|Signature not valid in the specified",
        StoreDenied,
        "the credentials have expired",
        "Give new ones.",
    ),
    _Cause(
        r"RequestTimeTooSkewed|RequestExpired|request time and the current time is too large",
        StoreDenied,
        "the clock of this machine is wrong",
        "The service refuses requests of another time: set the clock, best by NTP.",
    ),
    _Cause(
        r"BlobImmutableDueToPolicy|BlobImmutableDueToLegalHold|retentionPolicyNotMet"
        r"|ObjectLocked|protected by object lock|WORM protected|under active hold",
        ObjectLocked,
        "the object is locked",
        "It can be removed when its retention has ended.",
    ),
    _Cause(
        r"InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|Unauthenticated"
        r"|InvalidToken|AuthFailure|InvalidClientTokenId|NoCredentials|Unable to locate credentials"
        r"|unable to authenticate|status code: 401|401 Unauthorized|invalid_grant",
        StoreDenied,
        "the credentials are wrong",
        "Check the key and its secret, and that they belong to this service.",
    ),
    _Cause(
        r"AccessDenied|AllAccessDisabled|AuthorizationFailure|AuthorizationPermissionMismatch"
        r"|status code: 403|403 Forbidden|PermissionDenied|[Pp]ermission denied"
        r"|InsufficientAccountPermissions",
        StoreDenied,
        "access is denied",
        "The credentials must allow to write, read, list and remove objects below the prefix.",
    ),
    _Cause(
        r"QuotaExceeded|StorageFull|InsufficientStorage|status code: 507|EntityTooLarge"
        r"|[Nn]o space left|disk quota|quota exceeded",
        StorageFull,
        "no space is left",
        "Free some space there, or keep fewer copies.",
    ),
    _Cause(
        r"certificate|InvalidContentType|handshake failure|SSLError|CERTIFICATE",
        StorageError,
        "the TLS connection failed",
        "Check the endpoint and its certificate: https or http, the name, the authority.",
    ),
    _Cause(
        r"knownhosts: key (?:is unknown|mismatch)|host key",
        StoreDenied,
        "the SSH host shows another key",
        "Ask the host's administrator whether its key was changed, and pin the new one only then.",
    ),
    _Cause(
        r"SlowDown|ServerBusy|InternalError|ServiceUnavailable|OperationTimedOut|OperationAborted"
        r"|ConditionalRequestConflict|TooManyRequests|status code: (?:50[0-4]|429)"
        r'|mkParentDir failed: .*"Failure"',  # another made it at the same moment
        StoreUnreachable,
        "the service has trouble",
        "Try again later.",
    ),
    _Cause(
        r"dns error|failed to lookup|no such host|Could not connect to the endpoint URL",
        StoreUnreachable,
        "there is no connection",
        _NETWORK_HINT,
    ),
    _Cause(
        r"TimedOut|[Tt]imed out|(?:Read|Connect)Timeout|no answer|Connection[A-Z]|BrokenPipe"
        r"|[Cc]onnection (?:refused|reset|lost|error|broken|was closed|closed)|IncompleteMessage"
        r"|[Uu]nexpected ?E[Oo][Ff]|error sending request|request or response body"
        r"|Content-Range header not present",
        StoreUnreachable,
        "it does not answer, or the connection broke",
        _NETWORK_HINT,
    ),
)
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>|expecting '([a-z0-9-]+)'")


def store_error(doing: str, words: str, secrets: Iterable[str] = ()) -> StorageError:
    """The error of a service's words; `doing` begins its message."""
    said = _said(words)
    detail = masked(_sentence(said), secrets)
    for cause in _CAUSES:
        if re.search(cause.pattern, f"{said} {_status(words)}"):
            region = _REGION.search(words)
            hint = cause.hint
            if region and "region=…" in hint:
                hint = hint.replace("region=…", f"region={region[1] or region[2]}")
            return cause.kind(f"{doing}: {cause.what}", detail=detail, hint=hint)
    return StorageError(doing, detail=detail, hint="The service's own log may say more.")


def _said(words: str) -> str:
    """A service's code and message; where it has none, what failed and the root of that."""
    code = re.search(r"<Code>(.*?)</Code>", words, re.DOTALL)
    message = re.search(r"<Message>(.*?)</Message>", words, re.DOTALL)
    if code:
        return f"{code[1]}: {message[1]}" if message else code[1]
    told, _, debug = words.partition("\n\nDebug source")
    roots = re.findall(r"\b(TimedOut|Connection[A-Z]\w+|UnknownIssuer|InvalidContentType)\b", debug)
    return f"{told} ({roots[-1]})" if roots else told


def _status(words: str) -> str:
    status = re.search(r"status code: [0-9]+", words)
    return status[0] if status else ""


def _sentence(said: str) -> str:
    """What was said in one line, without URLs, which may be signed."""
    text = " ".join(re.sub(r"https?://\S+", "…", said).split())
    kept = "".join(character for character in text if character.isprintable())[:_LONGEST]
    return f"{kept.rstrip('.')}."


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AWAY = (errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def file_error(doing: str, error: OSError) -> StorageError:
    """The error of a store that is a folder."""
    detail = f"{error.strerror or type(error).__name__}."
    if error.errno in _FULL:
        return StorageFull(
            f"{doing}: no space is left", detail=detail, hint="Free some space there."
        )
    if error.errno in _DENIED:
        return StoreDenied(
            f"{doing}: access is denied", detail=detail, hint="Check the folder's owner and rights."
        )
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return StorageError(
            f"{doing}: a link or a file is in the way of a folder",
            detail=detail,
            hint="Links are not followed out of a store: remove it.",
        )
    if error.errno in _AWAY:
        return StoreUnreachable(
            f"{doing}: the file system does not answer", detail=detail, hint="Check the mount."
        )
    return StorageError(doing, detail=detail, hint="Check the folder and its file system.")


def missing(key: str) -> ObjectMissing:
    """The error of an object that is not there; the key is one of ours."""
    return ObjectMissing(f"{key} is not in the store")
