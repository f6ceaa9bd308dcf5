"""The task queue: huey, bound to its storage in create_app.

The queue only wakes a worker; the catalogue says what there is to do. A task
is a service function with the decorator `queue.task()`, and takes ids.
"""

import sqlite3
from typing import Any

from flask import Flask
from huey import Huey, storage
from huey.exceptions import HueyException
from huey.storage import BlackHoleStorage, PostgresStorage, RedisStorage, SqliteStorage

from app.errors import ConfigurationError

#: Storage and the name of its argument, by the URL's scheme. The shared ones
#: need a driver (redis, psycopg) that is not among our own libraries.
_STORAGES = {
    "sqlite": (SqliteStorage, "filename"),
    "redis": (RedisStorage, "url"),
    "rediss": (RedisStorage, "url"),
    "postgresql": (PostgresStorage, "dsn"),
}


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


class Queue(Huey):  # type: ignore[misc]  # huey has no types
    """huey whose tasks run inside the application."""

    def init_app(self, app: Flask, url: str) -> None:
        """Open the queue at `url`: sqlite:///PATH, redis://… or postgresql://…

        Raises ConfigurationError where that cannot be.
        """
        self.app = app
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

    def execute(self, task: Any, timestamp: Any = None) -> Any:
        with self.app.app_context():
            return super().execute(task, timestamp)


queue = Queue("backstop", results=False, storage_class=BlackHoleStorage)
