"""The rules about notifiers: what is taken, what is kept, and what comes out again."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy import text

from app.errors import ConfigurationError, Conflict, InvalidInput, NotFound, NotifierError
from app.extensions import db
from app.models import DeliveryStatus, Fact
from app.models.types import now
from app.sealing import seal, unseal
from app.services.alerts import deliveries
from app.services.alerts import notifiers as service
from tests.listeners import Listener, listening

pytestmark = pytest.mark.usefixtures("context")

URL = "json://ann:canary-pw@hooks.example.org/canary-path"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are about names: each look at a URL costs half a second."""
    monkeypatch.setattr(service.carriers, "check", lambda url: "json://hooks.example.org (JSON)")


def create(name: str = "ops", **values: object) -> str:
    return service.create_notifier(name, **{"url": URL} | values, created_by="ann").id


def test_a_url_is_kept_encrypted_and_only_its_host_is_told():
    made = service.get_notifier(create())
    assert (made.target, made.facts, made.enabled) == (
        "json://hooks.example.org (JSON)",
        None,
        True,
    )
    kept = db.session.execute(text("SELECT * FROM notifiers")).all()
    assert "canary" not in repr(kept)
    assert unseal(made.url) == URL
    assert seal(URL) != seal(URL)  # nobody can compare


def test_another_secret_key_is_told_and_breaks_nothing(make_app: Callable[..., Flask]):
    notifier_id = create()
    with make_app(secret_key="another one, just as long").app_context():
        assert [each.name for each in service.list_notifiers()] == ["ops"]
        with pytest.raises(ConfigurationError, match="cannot be decrypted") as lost:
            unseal(service.get_notifier(notifier_id).url)
        assert "enter the secret again" in lost.value.hint
        with pytest.raises(NotifierError, match="not sent") as unsent:
            service.send_test(notifier_id, now(), by="ann")
        assert "SECRET_KEY" in unsent.value.detail
        service.edit_notifier(notifier_id, url=URL, by="ann")
        assert unseal(service.get_notifier(notifier_id).url) == URL


@pytest.mark.usefixtures("checked")
def test_they_are_edited_listed_by_name_and_removed():
    second, first = create("b"), create("  a  ", facts=["disk-low", "backup-failed"])
    assert [each.name for each in service.list_notifiers()] == ["a", "b"]
    assert service.get_notifier(first).facts == ["backup-failed", "disk-low"]
    service.edit_notifier(first, facts=None, title="$title!", enabled=False, by="bob")
    found = service.get_notifier_named("a")
    assert (found.facts, found.title, found.enabled, found.created_by) == (
        None, "$title!", False, "ann",
    )  # fmt: skip
    assert not found.wants(Fact.DISK_LOW)
    with pytest.raises(Conflict, match='a notifier "a" already'):
        create("a")
    with pytest.raises(Conflict, match='a notifier "b" already'):
        service.edit_notifier(first, name="b", by="ann")
    service.remove_notifier(first, by="ann")
    for look in (service.get_notifier, service.get_notifier_named):
        with pytest.raises(NotFound):
            look(first)
    assert [each.id for each in service.list_notifiers()] == [second]


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": " "}, "the name must have"),
        ({"name": "a\nb"}, "the name must have"),
        ({"name": "n" * 101}, "the name must have"),
        ({"url": "  "}, "the URL is empty"),
        ({"url": "json://a\nb"}, "the URL must have"),
        ({"url": "json://" + "a" * 2000}, "the URL must have"),
        ({"facts": ["backup-failed", "<b>"]}, "not a valid fact: '<b>'"),
        ({"title": "$title\nBcc: x"}, "the title must have"),
        ({"title": "t" * 201}, "the title must have"),
        ({"title": "$secret"}, "the title has an unknown placeholder"),
        ({"body": "100 $"}, "the body has an unknown placeholder"),
        ({"body": "${title.__class__}"}, "the body has an unknown placeholder"),
        ({"body": "a\0"}, "the body must have"),
    ],
)
def test_what_cannot_be_meant_is_not_kept(values: dict[str, object], told: str):
    with pytest.raises(InvalidInput) as refused:
        create(**{"name": "ops"} | values)
    assert refused.value.message.startswith(told)
    assert service.list_notifiers() == []


@pytest.mark.usefixtures("checked")
def test_there_is_an_end_to_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service, "MAX_NOTIFIERS", 1)
    create("a")
    with pytest.raises(Conflict, match="the limit of 1 notifiers is reached"):
        create("b")


@pytest.fixture(scope="module")
def right() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def test_a_test_is_sent_and_recorded_and_not_tried_again(right: Listener):
    notifier_id = create(url=right.url, facts=[], enabled=False)
    service.send_test(notifier_id, now(), by="ann")
    assert right.titles == ["Backstop: a test"]
    right.answers = 500
    with pytest.raises(NotifierError, match="the test was not sent") as unsent:
        service.send_test(notifier_id, now(), by="ann")
    right.answers = 200
    right.heard.clear()
    assert "500" in unsent.value.detail
    found = [(each.status, each.fact, name) for each, name in deliveries.list_deliveries()]
    assert sorted(found, key=lambda each: each[0].value) == [
        (DeliveryStatus.FAILED, "test", "ops"),
        (DeliveryStatus.SENT, "test", "ops"),
    ]
