"""Every error that Backstop raises on purpose.

    AppError
    ├── NotFound            no such backup, admin or page
    ├── Conflict            something else is in the way just now
    ├── InvalidInput        what was asked for cannot be meant
    │   └── WrongPassword   who is signed in was asked for it once more
    ├── NotSignedIn         nobody is signed in, or the password is wrong
    ├── Forbidden           signed in or not, this request is not obeyed
    ├── TooManyAttempts     sign-in is throttled for a while
    ├── Busy                too much is asked at once, or the machine is slow
    ├── ConfigurationError  a setting or the machine is wrong
    ├── PostgresError       PostgreSQL or its programs said no
    │   ├── ConnectError    no connection to the server
    │   ├── ToolError       no fitting pg_dump or pg_restore
    │   └── DumpError       pg_dump failed, or its dump is not whole
    ├── StorageError        the place where dumps rest said no
    │   ├── ObjectMissing   the file is not there
    │   └── StorageFull     no space left
    ├── NotifierError       a notifier did not take a message
    ├── VerificationError   a file is not what it was
    └── Interrupted         the runner was told to stop, or lost its claim

Texts follow PostgreSQL's style: the message is lower case, one line, factual;
detail and hint are sentences. None of them ever carries a secret.
"""

import re
from datetime import datetime

#: PostgreSQL's and libpq's words, in plain C, for what may be over in a while.
_PASSING = re.compile(
    r"connection refused|timeout expired|no answer within|could not receive|could not send"
    r"|connection .*(was lost|broke|closed|reset)|closed the connection|terminating connection"
    r"|connection slots|too many clients|too many connections|starting up|shutting down"
    r"|in recovery mode|lock timeout|could not obtain lock|deadlock detected|did not move"
    r"|network is unreachable|no route to host|temporary failure in name resolution",
    re.IGNORECASE,
)


class AppError(Exception):
    """An error that a user can be told: what happened, more of it, what to do."""

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    @property
    def is_passing(self) -> bool:
        """Whether it may be over by itself in a while, so that trying again makes sense."""
        return False

    def in_words(self) -> str:
        """The error as the terminal prints it: Error, Detail and Hint lines."""
        lines = [f"Error: {self.message}"]
        if self.detail:
            lines.append(f"Detail: {self.detail}")
        if self.hint:
            lines.append(f"Hint: {self.hint}")
        return "\n".join(lines)


class NotFound(AppError):
    """No such thing."""


class Conflict(AppError):
    """Something else is in the way; trying again later can help."""

    @property
    def is_passing(self) -> bool:
        """It goes away."""
        return True


class InvalidInput(AppError):
    """What was asked for cannot be meant."""


class WrongPassword(InvalidInput):
    """Whoever is signed in was asked for the password once more, and gave another one."""


class NotSignedIn(AppError):
    """Nobody is signed in, or the name and password do not belong together."""


class Forbidden(AppError):
    """The request is understood and refused."""


class TooManyAttempts(AppError):
    """Sign-in is refused for a while."""

    def __init__(
        self, message: str, *, retry_after: int, since: datetime | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after  # seconds
        self.since = since  # when this while began, if that is known


class Busy(AppError):
    """Too much is asked at once, or the machine is slow; it can be asked again soon."""

    def __init__(self, message: str, *, retry_after: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after  # seconds

    @property
    def is_passing(self) -> bool:
        """It is over soon."""
        return True


class ConfigurationError(AppError):
    """A setting is wrong, or the machine lacks something."""


class PostgresError(AppError):
    """PostgreSQL or one of its programs said no."""

    @property
    def is_passing(self) -> bool:
        """Whether it is about a connection or a lock; a wrong password stays wrong."""
        return _PASSING.search(f"{self.message} {self.detail}") is not None


class ConnectError(PostgresError):
    """No connection to the server."""


class ToolError(PostgresError):
    """No pg_dump or pg_restore that fits."""


class DumpError(PostgresError):
    """pg_dump failed, or what it wrote is not whole."""


class RestoreError(PostgresError):
    """A backup could not be restored; what it was to replace is as it was."""


class NotPossible(PostgresError):
    """This server lacks what the backup needs; it says nothing about the backup."""


class StorageError(AppError):
    """The place where dumps rest said no."""


class ObjectMissing(StorageError):
    """The file is not there."""


class StorageFull(StorageError):
    """No space left on the storage."""


class NotifierError(AppError):
    """A notifier or a heartbeat monitor did not take a message."""


class VerificationError(AppError):
    """A file is not what the catalogue says."""


class Interrupted(AppError):
    """The runner of a backup was told to stop, or lost its claim."""

    @property
    def is_passing(self) -> bool:
        """Another runner may be luckier."""
        return True
