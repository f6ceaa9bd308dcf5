"""Every error that Backstop raises on purpose.

    AppError
    ├── NotFound            no such backup, admin or page
    ├── Conflict            something else is in the way
    │   └── ObjectExists    a store has an object of this key already
    ├── InvalidInput        invalid input
    │   └── WrongPassword   the password was requested again, and is wrong
    ├── NotSignedIn         nobody is signed in, or the password is wrong
    ├── Forbidden           the request is refused, for everybody
    ├── TooManyAttempts     sign-in is throttled for a while
    ├── Busy                too many requests, or a slow machine
    ├── ConfigurationError  a setting or the machine is wrong
    ├── PostgresError       PostgreSQL or one of its programs failed
    │   ├── ConnectError    no connection to the server
    │   ├── ToolError       no suitable pg_dump or pg_restore
    │   ├── DumpError       pg_dump failed, or its dump is damaged
    │   ├── RestoreError    the backup cannot be restored
    │   └── NotPossible     the server lacks something that the backup needs
    ├── StorageError        the storage of the dumps, or a store of copies, failed
    │   ├── ObjectMissing   the file is not there
    │   ├── ObjectLocked    the store keeps an object from being removed
    │   ├── StorageFull     no space left
    │   ├── StoreDenied     a store refuses the credentials, or the right
    │   └── StoreUnreachable  a store does not answer, or not now
    ├── NotifierError       a notifier did not accept a message
    ├── VerificationError   a file was changed
    └── Interrupted         the runner was stopped, or lost its claim

Texts follow PostgreSQL's style: the message is lower case, one line, factual; detail and
hint are sentences. None of them contains a secret.
"""

import re
from datetime import datetime

#: Messages of PostgreSQL and libpq about temporary problems, in the C locale.
_PASSING = re.compile(
    r"connection refused|connection timed out|timeout expired|no answer within"
    r"|could not receive|could not send"
    r"|connection .*(was lost|broke|closed|reset)|closed the connection|terminating connection"
    r"|connection slots|too many clients|too many connections|starting up|shutting down"
    r"|in recovery mode|lock timeout|could not obtain lock|deadlock detected|did not move"
    r"|network is unreachable|no route to host|temporary failure in name resolution",
    re.IGNORECASE,
)


class AppError(Exception):
    """An error for users: what happened, details, and what to do."""

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    @property
    def is_passing(self) -> bool:
        """Whether the problem may be temporary, so that another attempt makes sense."""
        return False

    def in_words(self) -> str:
        """The error as printed on the terminal: lines of Error, Detail and Hint."""
        lines = [f"Error: {self.message}"]
        if self.detail:
            lines.append(f"Detail: {self.detail}")
        if self.hint:
            lines.append(f"Hint: {self.hint}")
        return "\n".join(lines)


class NotFound(AppError):
    """No such thing."""


class Conflict(AppError):
    """Something else is in the way; try again later."""

    @property
    def is_passing(self) -> bool:
        """It is temporary."""
        return True


class ObjectExists(Conflict):
    """A store has an object of this key already."""

    @property
    def is_passing(self) -> bool:
        """It stays."""
        return False


class InvalidInput(AppError):
    """The input is invalid."""


class WrongPassword(InvalidInput):
    """The password was requested again, and is wrong."""


class NotSignedIn(AppError):
    """Nobody is signed in, or name or password are wrong."""


class Forbidden(AppError):
    """The request is understood and refused."""


class TooManyAttempts(AppError):
    """Sign-in is refused for a while."""

    def __init__(
        self, message: str, *, retry_after: int, since: datetime | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after  # seconds
        self.since = since  # when the throttle began, if known


class Busy(AppError):
    """Too many requests, or a slow machine; try again soon."""

    def __init__(self, message: str, *, retry_after: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after  # seconds

    @property
    def is_passing(self) -> bool:
        """It is temporary."""
        return True


class ConfigurationError(AppError):
    """A setting is wrong, or the machine lacks something."""


class PostgresError(AppError):
    """PostgreSQL or one of its programs failed."""

    @property
    def is_passing(self) -> bool:
        """Whether it is about a connection or a lock; a wrong password is permanent."""
        return _PASSING.search(f"{self.message} {self.detail}") is not None


class ConnectError(PostgresError):
    """No connection to the server."""


class ToolError(PostgresError):
    """No suitable pg_dump or pg_restore."""


class DumpError(PostgresError):
    """pg_dump failed, or its dump is damaged."""


class RestoreError(PostgresError):
    """A backup cannot be restored; the database it was to replace is unchanged."""


class NotPossible(PostgresError):
    """The server lacks something that the backup needs; this proves nothing about the backup."""


class StorageError(AppError):
    """The storage of the dumps, or a store of copies, failed."""


class ObjectMissing(StorageError):
    """The file is not there."""


class ObjectLocked(StorageError):
    """A store keeps an object from being removed: retention, or a legal hold."""


class StorageFull(StorageError):
    """No space left on the storage."""


class StoreDenied(StorageError):
    """A store refuses the credentials, or what was asked of it."""


class StoreUnreachable(StorageError):
    """A store does not answer, or not now."""

    @property
    def is_passing(self) -> bool:
        """It is temporary, as far as anybody knows."""
        return True


class NotifierError(AppError):
    """A notifier or a heartbeat monitor did not accept a message."""


class VerificationError(AppError):
    """A file differs from its facts in the catalogue or manifest."""


class Interrupted(AppError):
    """The runner of a job was stopped, or lost its claim."""

    @property
    def is_passing(self) -> bool:
        """Another runner may succeed."""
        return True
