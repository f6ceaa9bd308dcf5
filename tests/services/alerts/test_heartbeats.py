"""A monitor elsewhere is told start, success and failure: the last word counts."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from app.errors import InvalidInput
from app.extensions import db, writing
from app.models import Delivery, DeliveryStatus
from app.models.types import now
from app.sealing import unseal
from app.services.alerts import deliveries
from app.services.alerts.heartbeats import Beat, Heartbeat, queue_heartbeat, sealed_url
from tests.listeners import listening

pytestmark = pytest.mark.usefixtures("context")


def queued(url: str, beat: Beat, at: datetime, text: str = "") -> None:
    with writing() as session:
        heartbeat = Heartbeat("schedule", sealed_url(url), beat, f"{beat.name} {at}", text)
        queue_heartbeat(session, heartbeat, at)


def send_due(at: datetime) -> int:
    claimed = deliveries.claim_due(at, 8)
    for each in claimed:
        deliveries.attempt(each, at)
    return len(claimed)


def found() -> list[tuple[str, DeliveryStatus]]:
    db.session.expire_all()
    rows = db.session.scalars(select(Delivery).order_by(Delivery.created_at))
    return [(each.title, each.status) for each in rows]


def test_each_beat_arrives_and_a_failure_brings_its_log():
    at = now()
    with listening() as monitor:
        url = f"http://{monitor.at}/ping/canary-uuid"
        for number, (beat, text) in enumerate(
            [(Beat.START, ""), (Beat.SUCCESS, ""), (Beat.START, ""), (Beat.FAIL, "x" * 20_000)]
        ):
            queued(url, beat, at + timedelta(seconds=number), text)
            assert send_due(at + timedelta(seconds=number)) == 1
    paths = [path.removeprefix("/ping/canary-uuid") for path, _ in monitor.heard]
    assert paths == ["/start", "", "/start", "/fail"]
    assert [len(body) for _, body in monitor.heard] == [0, 0, 0, 10_000]
    assert {status for _, status in found()} == {DeliveryStatus.SENT}
    assert all(name == "heartbeat" for _, name in deliveries.list_deliveries())


def test_a_monitor_that_is_away_hears_the_last_word_later_but_no_late_start():
    at = now()
    with listening(503) as monitor:
        url = f"http://{monitor.at}/canary-uuid"
        queued(url, Beat.START, at)
        send_due(at)
        assert found() == [("start", DeliveryStatus.FAILED)]
        queued(url, Beat.FAIL, at + timedelta(seconds=1))
        send_due(at + timedelta(seconds=1))
        queued(url, Beat.START, at + timedelta(seconds=2))
        queued(url, Beat.SUCCESS, at + timedelta(seconds=3))
        monitor.answers = 200
        assert send_due(at + timedelta(seconds=4)) == 1
        assert send_due(at + timedelta(days=1)) == 0
    assert [path for path, _ in monitor.heard[-1:]] == ["/canary-uuid"]
    assert found() == [("start", DeliveryStatus.FAILED), ("", DeliveryStatus.SENT)]
    assert "canary" not in repr([each.last_error for each in db.session.scalars(select(Delivery))])


@pytest.mark.parametrize(
    "url",
    ["", "ftp://h/x", "https://", "https:///x", "file:///etc/passwd", "https://h/a b", "https://h:x/",
     "https://h/\nx", "https://h/" + "a" * 2000, "json://h/x", "https://[::1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(InvalidInput, match="not a valid URL of a heartbeat monitor"):
        sealed_url(url)


def test_an_address_is_kept_encrypted():
    sealed = sealed_url("  https://hc-ping.com/canary-uuid ")
    assert "canary" not in sealed
    assert unseal(sealed) == "https://hc-ping.com/canary-uuid"
