"""Keys of copies that are made here."""

import logging

import pytest

from app.errors import Conflict
from app.extensions import writing
from app.models import Store
from app.services.stores import service
from app.services.stores.keys import (
    drill_identities,
    forget_drill_key,
    make_drill_key,
    make_recovery_key,
)
from app.services.stores.lookup import get_store
from app.services.stores.service import Asking
from tests.conftest import on_catalogues

pytestmark = [pytest.mark.usefixtures("context"), on_catalogues("sqlite")]


@pytest.fixture
def nas(context: None) -> Store:
    return service.add_store("nas", "file:///mnt/nas", asking=Asking(is_asked=False), by="ann")


def test_a_drill_key_is_sealed_and_one_of_several_recipients(
    nas: Store, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    with pytest.raises(Conflict, match="copies in nas are not encrypted"):
        make_drill_key("nas", by="ann")
    recovery = make_recovery_key("nas", by="ann")
    store = make_drill_key("nas", by="ann")
    (drill,) = drill_identities(store)
    assert store.recipients == [recovery.recipient.key, drill.recipient.key]
    assert drill.secret not in store.drill_key
    assert drill.secret not in caplog.text
    with pytest.raises(Conflict, match="has a drill key already"):
        make_drill_key("nas", by="ann")

    store = forget_drill_key("nas", by="ann")
    assert (store.recipients, store.drill_key) == ([recovery.recipient.key], "")
    assert drill_identities(store) == ()
    with pytest.raises(Conflict, match="has no drill key"):
        forget_drill_key("nas", by="ann")


def test_the_last_recipient_is_not_forgotten(nas: Store):
    make_recovery_key("nas", by="ann")
    store = make_drill_key("nas", by="ann")
    (drill,) = drill_identities(store)
    service.edit_store("nas", service.Changes(recipients=(drill.recipient.key,)), by="ann")
    with pytest.raises(Conflict, match="has no other recipient"):
        forget_drill_key("nas", by="ann")
    assert get_store("nas").recipients == [drill.recipient.key]


def test_one_of_another_secret_key_can_be_forgotten(nas: Store):
    recovery = make_recovery_key("nas", by="ann")
    make_drill_key("nas", by="ann")

    with writing() as session:
        session.get_one(Store, nas.id).drill_key = "gAAAAA-of-another-key"
    store = forget_drill_key("nas", by="ann")
    assert store.drill_key == ""
    assert store.recipients[0] == recovery.recipient.key
