"""Settings as one document: taken whole or not at all, and twice as good as once."""

import re
from datetime import timedelta

import pytest
from flask.ctx import AppContext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.errors import Conflict, InvalidInput
from app.extensions import db
from app.models import Task
from app.services.alerts import notifiers
from app.services.databases.lookup import default_database
from app.services.proofs import assertions
from app.services.retention import policies
from app.services.schedules import service as schedules
from app.services.settings_file import document as service

TEXT = """
[[assertions]]
name = "orders"
statement = '''
SELECT count(*) > 0
FROM orders'''

[[assertions]]
name = "Büro \\"x\\""
statement = "SELECT true"
"""


def bring(text: str, **how: bool) -> list[str]:
    return service.import_settings(service.from_text(text), by="ann", **how)


def kept() -> dict[str, str]:
    return {each.name: each.statement for each in assertions.list_assertions()}


def test_a_file_is_taken_once_and_changes_nothing_twice(context: AppContext):
    assert bring(TEXT) == ['assertion "orders" added', 'assertion "Büro "x"" added']
    assert kept() == {"orders": "SELECT count(*) > 0\nFROM orders", 'Büro "x"': "SELECT true"}
    assert bring(TEXT) == []
    changed = TEXT.replace("SELECT true", "SELECT 1 = 1")
    assert bring(changed) == ['assertion "Büro "x"" changed: statement']
    assert bring(changed) == []
    assert assertions.get_assertion_named("orders").created_by == "ann"


def test_what_is_exported_is_what_is_imported(context: AppContext):
    bring(TEXT)
    text = service.as_text(service.export_settings())
    assert bring(text) == []
    for each in assertions.list_assertions():
        assertions.remove_assertion(each.id, by="ann")
    bring(text)
    assert service.as_text(service.export_settings()) == text


def test_what_is_not_named_stays_unless_the_file_is_exact(context: AppContext):
    bring(TEXT)
    one = TEXT[: TEXT.rindex("[[")]
    assert bring(one) == []
    assert bring(one, exact=True, dry_run=True) == ['assertion "Büro "x"" removed']
    assert len(kept()) == 2
    assert bring("", exact=True) == []  # a kind that is left out is not spoken of
    assert bring(one, exact=True) == ['assertion "Büro "x"" removed']
    assert list(kept()) == ["orders"]


def test_a_dry_run_keeps_nothing(context: AppContext):
    assert len(bring(TEXT, dry_run=True)) == 2
    assert kept() == {}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            '[[assertions]]\nname = "late"\nstatement = ""',
            'assertion "late": the statement is empty',
        ),
        ('[[assertions]]\nname = "late"', 'assertion "late": statement is missing'),
        ('[[assertions]]\nname = "orders"\nstatement = "x"', '"orders" occurs twice'),
        ('[[assertions]]\nname = "late"\nstatement = 7', "entry 3: statement must be text"),
        ('[[assertions]]\nname = "late"\nsql = "x"', 'entry 3: unknown field "sql"'),
        ('[[assertions]]\nname = ["late"]', "entry 3: the name is missing"),
        ('[[assertions]]\nname = "a\\u001b[2J"', "entry 3: the name is missing"),
        ("[passwords]\nroot = 1", 'unknown kind of setting: "passwords"'),
        ("[[", "the settings are not valid TOML"),
        ("a = " + "[" * 5_000, "the settings are not valid TOML"),
        ("# " + "x" * service.MAX_SIZE, "must not be longer"),
    ],
)
def test_of_a_wrong_file_nothing_is_kept(more: str, told: str, context: AppContext):
    with pytest.raises(InvalidInput, match=re.escape(told)):
        bring(TEXT + more)
    assert kept() == {}


def test_a_list_must_be_a_list(context: AppContext):
    with pytest.raises(InvalidInput, match="assertions must be a list"):
        bring("assertions = 7")


def test_of_too_many_none_is_kept(context: AppContext):
    many = "".join(
        f'[[assertions]]\nname = "{each}"\nstatement = "SELECT true"\n'
        for each in range(assertions.MAX_ASSERTIONS + 1)
    )
    with pytest.raises(Conflict, match="the limit of 100 assertions is reached"):
        bring(many)
    assert kept() == {}


names = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=100
)
statements = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200).filter(
    lambda text: text.replace("\r\n", "\n").strip()
)


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(wanted=st.dictionaries(names, statements, max_size=5))
def test_any_text_survives_the_way_through_a_file(wanted: dict[str, str], context: AppContext):
    entries = [{"name": name, "statement": text} for name, text in wanted.items()]
    bring(service.as_text({"assertions": entries}) if entries else "assertions = []", exact=True)
    assert bring(service.as_text(service.export_settings())) == []
    assert kept().keys() == wanted.keys()


EVERYTHING = """
[[notifiers]]
name = "ops"
url = "json://user:hunter2hunter2@127.0.0.1:9/hook"
facts = ["backup-failed"]
title = "$title"

[[retention]]
name = "DATABASE"
keep_daily = 7
keep_within = "36h"
"""


def test_nothing_is_locked_while_urls_are_checked(context: None, monkeypatch: pytest.MonkeyPatch):
    looked = []

    def look(url: str) -> str:
        looked.append(url)
        assert not db.session().in_transaction(), "a slow look holds up every other writer"
        return "json://hooks.example.org (JSON)"

    monkeypatch.setattr(notifiers.carriers, "check", look)
    entries = [{"name": f"n{n}", "url": f"json://host/{n}"} for n in range(3)]
    text = service.as_text({"notifiers": entries})
    assert len(bring(text, dry_run=True)) == len(looked) == 3
    assert len(bring(text)) == 3
    assert bring(text) == []  # and no look at what is as it was
    assert len(looked) == 6


def test_retention_and_notifiers_are_taken_but_no_secret_is_given(context: None):
    text = EVERYTHING.replace("DATABASE", default_database().name)
    assert len(bring(text)) == 2
    assert bring(text) == []
    given = service.as_text(service.export_settings())
    assert "hunter2" not in given
    assert '[[notifiers]]\nname = "ops"\n' in given
    assert bring(given) == []
    assert policies.get_policy().keep_daily == 7
    assert policies.get_policy().keep_within == timedelta(hours=36)
    other = text.replace("hunter2hunter2", "another")
    assert bring(other) == ['notifier "ops" changed: url']
    with pytest.raises(InvalidInput, match=r'"new": url is missing'):
        bring(given.replace('"ops"', '"new"'))
    with pytest.raises(InvalidInput, match='"other": no database is named'):
        bring('[[retention]]\nname = "other"\nkeep_last = 3')
    assert bring("notifiers = []\nretention = []", exact=True) == [
        'notifier "ops" removed',
        f'retention of "{default_database().name}" removed',
    ]
    assert policies.get_policy().is_empty


SCHEDULES = """
[[schedules]]
name = "nightly"
task = "backup"
cron = "0  3 * * *"
timezone = "Europe/Berlin"
notes = "{schedule}"

[[schedules]]
name = "weekly"
task = "drill"
cron = "5 4 * * 1"
enabled = false
"""


def test_schedules_are_taken_and_changed_and_a_wrong_one_is_not(context: AppContext):
    assert bring(SCHEDULES) == ['schedule "nightly" added', 'schedule "weekly" added']
    assert bring(SCHEDULES) == []
    nightly, weekly = schedules.list_schedules()
    assert (nightly.cron, nightly.timezone, nightly.enabled) == ("0 3 * * *", "Europe/Berlin", True)
    assert (weekly.task, weekly.timezone, weekly.next_due_at) == (Task.DRILL, "UTC", None)
    text = service.as_text(service.export_settings())
    assert bring(text) == []
    assert bring(text, exact=True) == []
    heartbeat = SCHEDULES + 'heartbeat_url = "https://hc-ping.com/canary"'
    assert bring(heartbeat) == ['schedule "weekly" changed: heartbeat_url']
    assert bring(heartbeat) == []
    assert "canary" not in service.as_text(service.export_settings())
    assert bring(text, exact=True) == []
    assert schedules.get_schedule_named("weekly").heartbeat
    changed = SCHEDULES.replace('"drill"', '"scrub"').replace("false", "true")
    assert bring(changed) == ['schedule "weekly" changed: task, enabled']
    assert schedules.get_schedule_named("weekly").next_due_at
    for wrong, told in (
        ('task = "vacuum"\ncron = "0 3 * * *"', "not a task of a schedule: 'vacuum'"),
        ('task = "drill"', "cron is missing"),
        ('task = "drill"\ncron = "0 3 * *"', "a cron expression has five fields"),
        ('task = "drill"\ncron = "0 3 * * *"\nenabled = "no"', "enabled must be true or false"),
        ('task = "drill"\ncron = "0 3 * * *"\ntimezone = "Mars"', "there is no time zone"),
    ):
        with pytest.raises(InvalidInput, match=re.escape(told)):
            bring(f'{SCHEDULES}\n[[schedules]]\nname = "late"\n{wrong}')
    assert len(schedules.list_schedules()) == 2
    assert bring("schedules = []", exact=True) == [
        'schedule "nightly" removed', 'schedule "weekly" removed',
    ]  # fmt: skip


def test_a_schedule_that_restores_is_exported_with_its_target_and_sql(context: AppContext):
    schedule = {"name": "staging", "task": "restore", "cron": "0 4 * * *", "target": "shop_staging"}
    document = {"schedules": [schedule | {"sql": "UPDATE a\nSET b = 1", "keep_last": 2}]}
    assert service.import_settings(document, by="ann") == ['schedule "staging" added']
    (exported,) = service.export_settings()["schedules"]
    assert document["schedules"][0].items() <= exported.items()
    assert service.import_settings({"schedules": [exported]}, by="ann") == []
    with pytest.raises(InvalidInput, match="belongs to the server"):
        service.import_settings({"schedules": [exported | {"target": "postgres"}]}, by="ann")
