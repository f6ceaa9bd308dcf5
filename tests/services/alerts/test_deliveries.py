"""Messages: claimed once, tried again with patience, recorded, and no secret in sight."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select

from app.extensions import db, writing
from app.models import Delivery, DeliveryStatus, Fact, Notifier
from app.models.types import now
from app.sealing import seal
from app.services.alerts import deliveries
from app.services.alerts.deliveries import BACK_OFF, Message
from tests.listeners import Listener, listening

pytestmark = pytest.mark.usefixtures("context")


@pytest.fixture(scope="module")
def right() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture(scope="module")
def wrong() -> Iterator[Listener]:
    with listening(500) as listener:
        yield listener


def notifier(name: str, url: str = "json://127.0.0.1:1", **values: str) -> None:
    with writing() as session:
        session.add(Notifier(id=name, name=name, url=seal(url), target=name, **values))


def queued(key: str, at: datetime) -> None:
    with writing() as session:
        told = Message(key, Fact.DISK_LOW, "failure", f"title {key}", "text", "db:5432", "shop")
        deliveries.queue(session, [told], at)


def row(key: str = "a") -> Delivery:
    db.session.expire_all()
    return db.session.scalars(select(Delivery).filter_by(key=key)).one()


def test_one_that_is_not_taken_is_tried_for_a_day_and_then_given_up(wrong: Listener):
    notifier("bad", wrong.url)
    at = began = now()
    queued("a", at)
    for number in range(len(BACK_OFF) + 1):
        assert deliveries.claim_due(at - timedelta(seconds=1), 8) == []
        (claimed,) = deliveries.claim_due(at, 8)
        assert claimed == row().id
        # Only the first is really sent; the others fail before they get that far.
        if number == 1:
            with writing() as session:
                session.get_one(Notifier, "bad").url = "not what we have sealed"
        deliveries.attempt(claimed, at)
        assert row().attempts == number + 1
        at = row().next_attempt_at
    assert (row().status, row().lease_until) == (DeliveryStatus.FAILED, None)
    assert row().ended_at is not None
    assert timedelta(hours=20) < row().ended_at - began < timedelta(hours=24)
    assert "SECRET_KEY is not the one" in row().last_error
    assert deliveries.claim_due(at + timedelta(days=9), 8) == []


def test_what_the_server_answered_is_recorded_without_secrets(wrong: Listener):
    notifier("bad", wrong.url)
    queued("a", now())
    deliveries.attempt(deliveries.claim_due(now(), 8)[0], now())
    assert row().status is DeliveryStatus.QUEUED
    assert "500" in row().last_error
    assert "canary" not in row().last_error


def test_the_end_of_our_patience_is_recorded_and_it_is_tried_again():
    at = now()
    with listening(hangs=True) as silent:
        notifier("silent", f"{silent.url}?rto=600")
        queued("a", at)
        deliveries.attempt(deliveries.claim_due(at, 8)[0], at, seconds=1)
    assert (row().status, row().attempts) == (DeliveryStatus.QUEUED, 1)
    assert row().last_error.startswith("no answer within 1 s")
    assert row().next_attempt_at == at + timedelta(minutes=1)


def test_two_processes_never_send_the_same(app: Flask):
    notifier("one")
    for number in range(3):
        notifier(f"n{number}")
    at = now()
    queued("a", at)
    claimed: list[str] = []
    ready = threading.Barrier(4)

    def claim() -> None:
        with app.app_context():
            ready.wait()
            claimed.extend(deliveries.claim_due(at, 8))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(claimed) == len(set(claimed)) == 4


def test_a_lease_that_is_over_is_taken_up_by_another(right: Listener):
    notifier("right", right.url)
    at = now()
    queued("a", at)
    assert deliveries.claim_due(at, 8)  # and its process dies
    assert deliveries.claim_due(at + timedelta(seconds=60), 8) == []
    (claimed,) = deliveries.claim_due(at + timedelta(seconds=91), 8)
    deliveries.attempt(claimed, at)
    assert (row().status, row().attempts, row().last_error) == (DeliveryStatus.SENT, 2, "")


def test_of_each_notifier_one_message_is_under_way():
    notifier("slow")
    notifier("other")
    at = now()
    for number in range(10):
        queued(f"{number}", at + timedelta(milliseconds=number))
    later = at + timedelta(seconds=1)
    first = deliveries.claim_due(later, 8)
    assert {db.session.get_one(Delivery, each).key for each in first} == {"0"}
    assert len(first) == 2
    assert deliveries.claim_due(later, 8) == []
    assert deliveries.claim_due(at + timedelta(minutes=5), 1) != []


def test_words_are_those_of_the_templates(right: Listener):
    plain = Notifier(title="", body="")
    own = Notifier(title="[$level] $database: $title", body="$text\n$fact on $server, $$5")
    message = Message("k", Fact.DISK_LOW, "failure", "a\nb", "text\r\nmore $x", "db:1", "sh\top")
    at = datetime.fromisoformat("2026-11-23T12:59:30.123+00:00")
    assert deliveries.written(plain, message, at) == (
        "Backstop: a b",
        "text \nmore $x\n2026-11-23T12:59:30.123Z",
    )
    assert deliveries.written(own, message, at) == (
        "[failure] sh op: a b",
        "text \nmore $x\ndisk-low on db:1, $5",
    )


def test_the_same_is_queued_once_and_old_ones_are_forgotten():
    notifier("n")
    at = now()
    queued("a", at - timedelta(days=31))
    with writing():
        row().status = DeliveryStatus.SENT
    queued("b", at - timedelta(days=31))
    deliveries.forget_old(at)
    assert [each.key for each, _ in deliveries.list_deliveries()] == ["b"]  # it still waits
    with pytest.raises(Exception, match=r"(?i)unique"):
        queued("b", at)
    assert db.session.scalar(select(func.count()).select_from(Delivery)) == 1


def test_those_of_a_deleted_notifier_go_with_it():
    notifier("n")
    queued("a", now())
    claimed = deliveries.claim_due(now(), 8)[0]
    with writing() as session:
        session.delete(session.get_one(Notifier, "n"))
    deliveries.attempt(claimed, now())  # nothing is left of it
    assert deliveries.list_deliveries() == []
