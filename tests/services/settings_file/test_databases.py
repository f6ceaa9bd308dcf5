"""Many databases in the settings' document, and what belongs to each of them."""

import re

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.errors import Conflict, InvalidInput
from app.extensions import db
from app.models import State
from app.services.databases import lookup
from app.services.databases import service as databases
from app.services.proofs import assertions
from app.services.retention import policies
from app.services.schedules import service as schedules
from app.services.settings_file import document as service

pytestmark = pytest.mark.usefixtures("context")

CRM = """
[[schedules]]
name = "nightly"
database = "crm"
task = "backup"
cron = "0 3 * * *"

[[databases]]
name = "crm"
url = "postgresql://ann:canary-password@db1:5432/crm"
compression = "zstd:3"
without_rows_of = ["public.events"]
max_age = 93600

[[assertions]]
name = "orders"
database = "crm"
statement = "SELECT 1 = 1"

[[assertions]]
name = "orders"
statement = "SELECT true"

[[retention]]
name = "crm"
keep_daily = 7
"""


def bring(text: str, **how: bool) -> list[str]:
    return service.import_settings(service.from_text(text), by="ann", **how)


def exported() -> str:
    return service.as_text(service.export_settings())


def database(name: str, **fields: object) -> service.Document:
    url = f"postgresql://ann:canary-password@db1:5432/{name}"
    return {"databases": [{"name": name, "url": url} | fields]}


def test_databases_are_added_before_what_belongs_to_them():
    assert bring(CRM) == [
        'database "crm" added',
        'assertion "orders" of crm added',
        'assertion "orders" added',
        'retention of "crm" added',
        'schedule "nightly" of crm added',
    ]
    assert bring(CRM) == []
    crm = lookup.get_database("crm")
    assert (crm.compression, crm.without_rows_of, crm.max_age) == (
        "zstd:3",
        ["public.events"],
        93_600,
    )
    assert assertions.get_assertion_named("orders", crm).statement == "SELECT 1 = 1"
    assert assertions.get_assertion_named("orders").statement == "SELECT true"
    assert policies.get_policy(crm).keep_daily == 7
    assert policies.get_policy().is_empty
    names = ["daily scrub", "nightly", "weekly drill"]
    assert [schedule.name for schedule in schedules.list_schedules(crm)] == names


def test_an_export_of_many_is_imported_without_a_change_and_has_no_url():
    bring(CRM)
    databases.pause_database("crm", by="ann")
    text = exported()
    assert "canary" not in text
    assert "url" not in text
    assert 'state = "paused"' in text
    for exact in (False, True):
        assert bring(text, exact=exact) == []
    assert exported() == text


def test_a_dry_run_adds_no_database():
    text = exported()
    assert len(bring(CRM, dry_run=True)) == 5
    assert exported() == text


def test_the_default_database_is_left_out_and_may_be_named():
    default = lookup.default_database().name
    bring('[[assertions]]\nname = "orders"\nstatement = "SELECT true"')
    assert "database =" not in exported()
    named = f'[[assertions]]\nname = "orders"\ndatabase = "{default}"\nstatement = "SELECT true"'
    assert bring(named, exact=True) == []
    with pytest.raises(InvalidInput, match='"orders" occurs twice'):
        bring(f'{named}\n[[assertions]]\nname = "orders"\nstatement = "SELECT false"')


def test_exact_retires_a_database_and_leaves_what_belongs_to_it():
    text = exported()
    bring(CRM)
    assert bring(text, exact=True) == ['database "crm" retired']
    crm = lookup.get_database("crm")
    assert crm.state is State.RETIRED
    assert len(assertions.list_assertions(crm)) == 1
    assert bring(text, exact=True) == []
    retired = exported()
    assert 'state = "retired"' in retired
    assert bring(retired, exact=True) == []


def test_exact_concerns_all_databases_that_are_not_retired():
    bring(CRM)
    changes = bring("assertions = []\nretention = []", exact=True)
    assert sorted(changes) == [
        'assertion "orders" of crm removed',
        'assertion "orders" removed',
        'retention of "crm" removed',
    ]


@pytest.mark.parametrize("kind", ["schedules", "assertions", "retention"])
def test_an_entry_of_an_unknown_or_retired_database_is_named(kind: str):
    bring(CRM)
    section = service.export_settings()[kind]
    entries = [entry for entry in section if "crm" in (entry.get("database"), entry["name"])]
    databases.retire_database("crm", by="ann")
    with pytest.raises(Conflict, match=r'".+" of crm: crm is retired|of "crm": crm is retired'):
        service.import_settings({kind: entries}, by="ann")
    for entry in entries:
        entry["name" if kind == "retention" else "database"] = "gone"
    with pytest.raises(InvalidInput, match=r"gone\"?: no database is named 'gone'"):
        service.import_settings({kind: entries}, by="ann")


def test_states_are_applied_and_a_paused_one_can_come_back():
    bring(CRM)
    for state in ("paused", "active", "retired", "paused", "retired", "active"):
        text = f'[[databases]]\nname = "crm"\nstate = "{state}"'
        assert bring(text) == ['database "crm" changed: state']
        assert bring(text) == []
        assert lookup.get_database("crm").state.value == state


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state": "idle"}, "not a state of a database: 'idle'"),
        ({"url": "mysql://ann:canary-password@db1/crm"}, "the connection URL"),
        ({"url": ""}, "url is missing"),
        ({"without_rows_of": [1]}, "without_rows_of must be a list of names"),
        ({"without_rows_of": ["events"]}, "'events' is not the name of a table"),
        ({"max_age": 2**31}, "max_age must be at most"),
        ({"max_age": -1}, "must not be negative"),
        ({"compression": "best"}, "the compression must look like"),
    ],
)
def test_a_wrong_database_is_named_without_its_secret(fields: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match='database "crm": .*' + re.escape(message)) as refused:
        service.import_settings(database("crm", **fields), by="ann")
    assert "canary" not in f"{refused.value.message} {refused.value.detail} {refused.value.hint}"
    assert "crm" not in [database.name for database in lookup.list_databases()]


def test_urls_are_checked_before_anything_is_locked(monkeypatch: pytest.MonkeyPatch):
    locked = []
    check = service.check_url
    monkeypatch.setattr(
        service, "check_url", lambda url: locked.append(db.session().in_transaction()) or check(url)
    )
    service.import_settings(database("crm"), by="ann")
    assert locked == [False]


def test_a_name_on_the_server_means_the_default_database_in_retention():
    default = lookup.default_database()
    databases.edit_database(default.name, databases.Changes(name="main"), by="ann")
    bring(f'[[retention]]\nname = "{default.dbname}"\nkeep_last = 3')
    assert policies.get_policy().keep_last == 3
    assert '[[retention]]\nname = "main"' in exported()


def test_without_a_default_database_the_file_names_each():
    bring(CRM)
    service.import_settings(database("erp"), by="ann")
    databases.retire_database(lookup.default_database().name, by="ann")
    assert bring(exported(), exact=True) == []
    with pytest.raises(InvalidInput, match='assertion "late": which database'):
        bring('[[assertions]]\nname = "late"\nstatement = "SELECT true"')


one = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["", "zstd:3", "gzip"]),
        "without_rows_of": st.lists(st.sampled_from(["public.a", "public.b", " s.c "])),
        "skips_counting": st.booleans(),
        "dump_jobs": st.integers(0, 64),
        "max_age": st.integers(0, 10**6),
        "state": st.sampled_from(["active", "paused", "retired"]),
    }
)


@hypothesis_settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    wanted=st.dictionaries(st.sampled_from(["crm", "erp", "web"]), one),
    owners=st.lists(st.sampled_from(["crm", "erp", "web"]), unique=True),
)
def test_any_databases_survive_the_way_through_a_file(
    wanted: dict[str, dict[str, object]], owners: list[str]
):
    document: service.Document = {"databases": [], "assertions": [], "retention": []}
    for name, fields in wanted.items():
        document["databases"] += database(name, **fields)["databases"]
        if name in owners and fields["state"] != "retired":
            document["assertions"].append(
                {"name": "same", "database": name, "statement": f"SELECT '{name}' <> ''"}
            )
            document["retention"].append({"name": name, "keep_last": 3})
    default = {"name": lookup.default_database().name}
    document["databases"].append(default)
    service.import_settings(document, by="ann", exact=True)
    assert service.import_settings(document, by="ann", exact=True) == []
    text = exported()
    assert bring(text) == bring(text, exact=True) == []
    assert exported() == text
    for name, fields in wanted.items():
        assert lookup.get_database(name).state.value == fields["state"]
