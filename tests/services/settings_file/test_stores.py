"""Stores in the settings' document."""

import pytest

from app.errors import InvalidInput, NotFound
from app.models import ReadBack
from app.services.databases.lookup import get_database
from app.services.retention import policies
from app.services.retention.rules import DAY, Policy
from app.services.settings_file import document as service
from app.services.stores import lookup
from app.services.stores.credentials import opened

pytestmark = pytest.mark.usefixtures("context")

CANARY = "canary-secret"
AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
STORE = f"""
[[stores]]
name = "offsite"
url = "s3://bucket/prefix/?region=eu-central-1"
credentials = '''
access_key_id = AKIA
secret_access_key = {CANARY}
'''
recipients = ["{AGE}"]
databases = ["crm"]
read_back = "sample"
takes_catalogue = "never"
bytes_per_second = 10000000
state = "paused"

[[databases]]
name = "crm"
url = "postgresql://u@h/crm"
"""


def bring(text: str, **how: bool) -> list[str]:
    return service.import_settings(service.from_text(text), by="ann", **how)


def exported() -> str:
    return service.as_text(service.export_settings())


def test_a_store_comes_and_goes_as_text_without_its_credentials():
    assert bring(STORE) == ['database "crm" added', 'store "offsite" added']
    assert bring(STORE) == []
    store = lookup.get_store("offsite")
    assert (store.address, store.is_paused, store.takes_all, store.read_back) == (
        "s3://bucket/prefix?region=eu-central-1",
        True,
        False,
        ReadBack.SAMPLE,
    )
    text = exported()
    assert CANARY not in text
    assert opened(store).address.place == "bucket"
    assert bring(text) == []
    assert bring(text, exact=True) == []
    assert lookup.get_store("offsite").credentials == store.credentials


def test_what_is_given_changes_and_the_rest_stays():
    bring(STORE)
    changed = bring('[[stores]]\nname = "offsite"\nstate = "active"\ndatabases = []')
    assert changed == ['store "offsite" changed: state, databases']
    store = lookup.get_store("offsite")
    assert (store.is_paused, store.takes_all, store.recipients) == (False, True, [AGE])


def test_an_exact_document_pauses_stores_and_forgets_no_copies():
    bring(STORE)
    bring('[[stores]]\nname = "offsite"\nstate = "active"')
    assert service.import_settings({"stores": []}, by="ann", exact=True) == [
        'store "offsite" paused'
    ]
    assert lookup.get_store("offsite").is_paused
    assert service.import_settings({"stores": []}, by="ann", exact=True) == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "url is missing"),
        ({"url": f"s3://a:{CANARY}@bucket"}, "contains credentials"),
        ({"url": "s3://bucket", "credentials": CANARY}, "cannot be read"),
        ({"url": "s3://bucket", "recipients": [1]}, "a list of texts"),
        ({"url": "s3://bucket", "recipients": [CANARY]}, "not a public key"),
        ({"url": "s3://bucket", "databases": ["none"]}, "no database is named"),
        ({"url": "s3://bucket", "state": "gone"}, "not a state"),
        ({"url": "s3://bucket", "read_back": "seldom"}, "read back"),
        ({"url": "s3://bucket", "takes_catalogue": "seldom"}, "the catalogue is exported"),
        ({"url": "s3://bucket", "bytes_per_second": 1}, "the limit"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_name_of_the_store(fields: dict, why: str):
    document = {"stores": [{"name": "offsite"} | fields]}
    with pytest.raises((InvalidInput, NotFound), match=f'store "offsite": .*{why}') as refused:
        service.import_settings(document, by="ann")
    assert CANARY not in refused.value.in_words()
    assert lookup.list_stores() == []


def test_retention_in_a_store_comes_and_goes_with_it():
    policy = """
        [[store_retention]]
        name = "offsite"
        database = "crm"
        keep_monthly = 24
        keep_within = "7d"

        [[store_retention]]
        name = "offsite"
        keep_last = 3
    """
    assert bring(STORE + policy)[-2:] == [
        'retention in "offsite" of crm added',
        'retention in "offsite" added',
    ]
    crm, store = get_database("crm"), lookup.get_store("offsite")
    assert policies.get_policy(crm, store) == Policy(keep_monthly=24, keep_within=7 * DAY)
    assert policies.get_policy(crm).is_empty
    assert policies.get_standing(crm, store).waits  # until an admin confirms it
    text = exported()
    assert bring(text, exact=True) == []
    assert bring(STORE + policy.replace("24", "12")) == [
        'retention in "offsite" of crm changed: keep_monthly'
    ]
    assert bring("store_retention = []", exact=True) == [
        'retention in "offsite" removed',
        'retention in "offsite" of crm removed',
    ]
    with pytest.raises(InvalidInput, match='retention in "nowhere"'):
        bring('[[store_retention]]\nname = "nowhere"\nkeep_last = 1')
    with pytest.raises(InvalidInput, match='retention in "offsite" of gone'):
        bring('[[store_retention]]\nname = "offsite"\ndatabase = "gone"\nkeep_last = 1')


def test_a_rule_of_zero_is_switched_off_and_then_nothing_changes():
    policy = '[[store_retention]]\nname = "offsite"\nkeep_last = 5'
    bring(STORE + policy)
    off = f'{policy}\nkeep_daily = 0\nkeep_within = "0h"'
    assert bring(off) == []
    off = off.replace("keep_last = 5", "keep_last = 0\nkeep_yearly = 1")
    assert bring(off) == ['retention in "offsite" changed: keep_last, keep_yearly']
    assert bring(off) == []
    assert policies.get_policy(None, lookup.get_store("offsite")) == Policy(keep_yearly=1)
