"""The task queues: huey, bound to its storage in create_app.

A queue only wakes a worker; the catalogue has the work. A task is a service function with
the decorator of a queue, and takes ids. Each of several queues has its own threads, so
that long tasks delay no others.

Messages are JSON, signed with a key derived from SECRET_KEY: without it nobody can make a
worker do anything.
"""

import hashlib
import hmac
import json
import logging
import sqlite3
from collections.abc import Callable
from typing import Any

from flask import Flask
from huey import Huey, storage
from huey.exceptions import HueyException
from huey.registry import Message
from huey.storage import BlackHoleStorage, PostgresStorage, RedisStorage, SqliteStorage

from app.errors import ConfigurationError
from app.keys import derived_key

logger = logging.getLogger(__name__)

#: The storage and the name of its argument, by the scheme of the URL. The shared ones need
#: a driver (redis, psycopg) that is not one of our requirements.
_STORAGES = {
    "sqlite": (SqliteStorage, "filename"),
    "redis": (RedisStorage, "url"),
    "rediss": (RedisStorage, "url"),
    "postgresql": (PostgresStorage, "dsn"),
}

_PURPOSE = "backstop: messages of the queue, 1"
_LONGEST = 10_000  # bytes of a message; ours have about 200

#: Errors of a queue that cannot be reached; drivers of shared queues may be missing.
FAILURES: tuple[type[Exception], ...] = tuple(
    error
    for error in (
        HueyException,
        sqlite3.Error,
        OSError,
        storage.ConnectionError,  # of redis
        storage.TimeoutError,
        getattr(storage.psycopg, "Error", None),
    )
    if error is not None
)


class Rejected(Exception):
    """A message that is not ours."""


class SignedMessages:
    """Turns tasks into signed JSON and back, instead of pickles."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def serialize(self, message: Message) -> bytes:
        """The id, name and arguments of a task; we use no other features of huey."""
        content = [message.id, message.name, list(message.args)]
        body = json.dumps(content, separators=(",", ":")).encode()
        return self._sign(body) + body

    def deserialize(self, raw: bytes) -> Message:
        """Read a message of `serialize`. Raises Rejected for a wrong signature."""
        signature, body = bytes(raw)[:64], bytes(raw)[64:_LONGEST]
        if not hmac.compare_digest(signature, self._sign(body)):
            raise Rejected
        task_id, name, args = json.loads(body)
        others = dict.fromkeys(Message._fields)
        return Message(**others | {"id": task_id, "name": name, "args": args, "retries": 0})

    def _sign(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).hexdigest().encode()


class Queue(Huey):  # type: ignore[misc]  # huey has no types
    """A huey queue whose tasks run in the context of the application."""

    def __init__(self, name: str) -> None:
        super().__init__(name, results=False, storage_class=BlackHoleStorage)

    def init_app(self, app: Flask, url: str, secret_key: str) -> None:
        """Open the queue at `url`: sqlite:///PATH, redis://… or postgresql://…

        Raises ConfigurationError if that is impossible.
        """
        self.app = app
        self.serializer = SignedMessages(derived_key(secret_key, _PURPOSE))
        scheme = url.partition("://")[0]
        if scheme not in _STORAGES:
            raise ConfigurationError(
                "BACKSTOP_QUEUE_URL must begin with sqlite:///, redis:// or postgresql://"
            )
        self.storage_class, argument = _STORAGES[scheme]
        self.storage_kwargs = {argument: url.removeprefix("sqlite:///")}
        try:
            self.storage = self.create_storage()
        except (HueyException, sqlite3.Error, OSError) as error:
            raise ConfigurationError(
                "the queue in BACKSTOP_QUEUE_URL cannot be opened",
                detail=f"{str(error).rstrip('.')}.",
                hint="Is the instance folder writable, and is its disk not full?"
                if scheme == "sqlite"
                else "Is its server running, and the URL right?",
            ) from error

    def dequeue(self) -> Any:
        """The next task; messages that are not ours are dropped, and logged."""
        while (raw := self.storage.dequeue()) is not None:
            try:
                return self.deserialize_task(raw)
            except (Rejected, ValueError, TypeError, HueyException) as error:
                logger.warning(
                    "message rejected queue=%s bytes=%d reason=%s",
                    *(self.name, len(raw), type(error).__name__),
                )
        return None

    def holds(self, job_id: str) -> bool:
        """Whether a task with this id is queued."""
        for raw in self.storage.enqueued_items():
            try:
                if job_id in self.serializer.deserialize(raw).args:
                    return True
            except (Rejected, ValueError, TypeError):
                continue
        return False

    def wake(self, run: Callable[[str], object], job_id: str) -> None:
        """Queue the task that runs a job, unless it is queued already.

        The row is what counts: if this fails, a worker finds it the next time it looks.
        """
        try:
            if not self.holds(job_id):
                run(job_id)
        except FAILURES as error:
            logger.warning("worker not woken job=%s error=%r", job_id, str(error))

    def read_schedule(self, *_: Any) -> list[Any]:
        """Return nothing: we schedule no tasks, so messages there are not ours."""
        return []

    def is_revoked(self, *_: Any, **__: Any) -> bool:
        """Return False: the catalogue has the cancellations."""
        return False

    def execute(self, task: Any, timestamp: Any = None) -> Any:
        with self.app.app_context():
            return super().execute(task, timestamp)


queue = Queue("backstop")  # backups
restores_queue = Queue("backstop-restores")
proofs_queue = Queue("backstop-proofs")  # drills and imports
copies_queue = Queue("backstop-copies")  # to and from stores

QUEUES = (queue, restores_queue, proofs_queue, copies_queue)


def init_queues(app: Flask, url: str, secret_key: str) -> None:
    """Bind all queues to the application. Raises ConfigurationError."""
    for task_queue in QUEUES:
        task_queue.init_app(app, url, secret_key)


def count_waiting() -> int:
    """The number of queued tasks. Raises one of FAILURES."""
    return sum(task_queue.pending_count() for task_queue in QUEUES)
