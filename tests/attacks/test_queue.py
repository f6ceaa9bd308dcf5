"""Who can write to the queue makes no worker do anything."""

import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from huey.registry import Message

from app.keys import derived_key
from app.models import Status, Trigger
from app.queue import QUEUES, Queue, SignedMessages, count_waiting, queue
from app.services.backups import listing
from app.services.backups import service as backups

pytestmark = pytest.mark.usefixtures("context")


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


def a_message(name: str, *args: str, key: bytes) -> bytes:
    return SignedMessages(key).serialize(
        Message(**dict.fromkeys(Message._fields) | {"id": "i", "name": name, "args": args})
    )


@pytest.mark.parametrize("attacked", QUEUES, ids=lambda each: each.name)
def test_a_pickle_in_the_queue_is_not_read(
    attacked: Queue, worker: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    proof = tmp_path / "pwned"
    with caplog.at_level(logging.WARNING, "app.queue"):
        attacked.storage.enqueue(pickle.dumps(Touch(proof)))
        attacked.storage.add_to_schedule(pickle.dumps(Touch(proof)), attacked._get_timestamp())
        made = backups.queue_backup(trigger=Trigger.API, created_by="ann")
        assert backups.wait_for_backup(made.id, 60).is_completed  # the workers go on
        for each in QUEUES:
            while each.pending_count():
                each.dequeue()
    assert not proof.exists()
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith(f"message rejected queue={attacked.name} bytes=")


def test_a_message_that_is_signed_otherwise_is_not_obeyed(app: Any):
    made = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    queue.storage.flush_queue()
    name = "app.services.backups.service.run_backup"
    ours = a_message(name, made.id, key=queue.serializer._key)
    theirs = a_message(name, made.id, key=derived_key("another key", "another purpose"))
    body = json.dumps(["i", name, [made.id]]).encode()
    for forged in (theirs, body, ours[:-3], ours[:64] + body, ours[1:], b"", b"\x80", b"0" * 64):
        queue.storage.enqueue(forged)
    assert queue.dequeue() is None
    queue.storage.enqueue(ours)
    assert queue.dequeue().args == [made.id]
    assert listing.get_backup(made.filename).status is Status.PENDING


def test_a_job_that_waits_is_queued_once():
    made = backups.queue_backup(trigger=Trigger.API, created_by="ann")
    queue.storage.enqueue(b"noise")
    for _ in range(3):
        backups.wake_worker(made)
    assert count_waiting() == 2
