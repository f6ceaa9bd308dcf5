"""The task queues: huey, bound to its storage in create_app.

A queue only wakes a worker; the catalogue says what there is to do. A task is a
service function with the decorator of a queue, and takes ids. There are several,
each with threads of its own, so that what takes hours holds up nothing else.

Messages are JSON with an HMAC under a key made of SECRET_KEY: who can write to
the queue, but does not know that, can make no worker do anything.
"""

import hashlib
import hmac
import json
import logging
import sqlite3
from typing import Any

from flask import Flask
from huey import Huey, storage
from huey.exceptions import HueyException
from huey.registry import Message
from huey.storage import BlackHoleStorage, PostgresStorage, RedisStorage, SqliteStorage

from app.errors import ConfigurationError
from app.keys import derived_key

logger = logging.getLogger(__name__)

#: Storage and the name of its argument, by the URL's scheme. The shared ones
#: need a driver (redis, psycopg) that is not among our own libraries.
_STORAGES = {
    "sqlite": (SqliteStorage, "filename"),
    "redis": (RedisStorage, "url"),
    "rediss": (RedisStorage, "url"),
    "postgresql": (PostgresStorage, "dsn"),
}

_PURPOSE = "backstop: messages of the queue, 1"
_LONGEST = 10_000  # bytes of a message; ours have some 200

#: What a queue that cannot be reached raises; the drivers of the shared ones may be missing.
FAILURES: tuple[type[Exception], ...] = tuple(
    each
    for each in (
        HueyException,
        sqlite3.Error,
        OSError,
        storage.ConnectionError,  # of redis, whose errors are no OSError
        storage.TimeoutError,
        getattr(storage.psycopg, "Error", None),
    )
    if each is not None
)


class Rejected(Exception):
    """A message that we have not written."""


class SignedMessages:
    """Turns tasks into signed JSON and back, in place of huey's pickles."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def serialize(self, message: Message) -> bytes:
        """Of a task its id, name and arguments; we use nothing else of huey's."""
        told = [message.id, message.name, list(message.args)]
        body = json.dumps(told, separators=(",", ":")).encode()
        return self._sign(body) + body

    def deserialize(self, raw: bytes) -> Message:
        """Raises Rejected for what was not written by `serialize` with this key."""
        signature, body = bytes(raw)[:64], bytes(raw)[64:_LONGEST]
        if not hmac.compare_digest(signature, self._sign(body)):
            raise Rejected
        task_id, name, args = json.loads(body)
        others = dict.fromkeys(Message._fields)
        return Message(**others | {"id": task_id, "name": name, "args": args, "retries": 0})

    def _sign(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).hexdigest().encode()


class Queue(Huey):  # type: ignore[misc]  # huey has no types
    """huey whose tasks run inside the application."""

    def __init__(self, name: str) -> None:
        super().__init__(name, results=False, storage_class=BlackHoleStorage)

    def init_app(self, app: Flask, url: str, secret_key: str) -> None:
        """Open the queue at `url`: sqlite:///PATH, redis://… or postgresql://…

        Raises ConfigurationError where that cannot be.
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
                hint="Is the instance folder ours, writable, and its disk not full?"
                if scheme == "sqlite"
                else "Is its server running, and the URL right?",
            ) from error

    def dequeue(self) -> Any:
        """The next task; a message that somebody else has written is dropped, with a line."""
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
        """Whether a task with this id waits for a worker."""
        for raw in self.storage.enqueued_items():
            try:
                if job_id in self.serializer.deserialize(raw).args:
                    return True
            except (Rejected, ValueError, TypeError):
                continue
        return False

    def read_schedule(self, *_: Any) -> list[Any]:
        """Nothing of ours is put off, so whatever lies there is not ours."""
        return []

    def is_revoked(self, *_: Any, **__: Any) -> bool:
        """Nothing of ours is ever revoked: the catalogue says what is cancelled."""
        return False

    def execute(self, task: Any, timestamp: Any = None) -> Any:
        with self.app.app_context():
            return super().execute(task, timestamp)


queue = Queue("backstop")  # backups
restores_queue = Queue("backstop-restores")
proofs_queue = Queue("backstop-proofs")  # drills, and dumps that are taken in

QUEUES = (queue, restores_queue, proofs_queue)


def init_queues(app: Flask, url: str, secret_key: str) -> None:
    """Bind all queues to the application. Raises ConfigurationError."""
    for each in QUEUES:
        each.init_app(app, url, secret_key)


def count_waiting() -> int:
    """Tasks that wait for a worker, whatever they do. Raises one of FAILURES."""
    return sum(each.pending_count() for each in QUEUES)
