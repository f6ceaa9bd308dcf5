"""The audit's chain: what is written stays, and what does not is found."""

import hashlib
import json
import logging
import threading
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from app.errors import InvalidInput, VerificationError
from app.extensions import db
from app.models import ActOutcome, Trigger
from app.models.types import now
from app.services.audit import log as audit
from app.services.audit import search as audit_search
from app.services.audit.acting import Act

HOSTILE = "a\nlevel=ERROR b\r\x1b[2J\0\u2028\u202e\ud800\"'<b>"


def act(action: str = "backup.delete", **known: Any) -> Act:
    return Act(action=action, face=Trigger.API, **{"actor": "ann", "origin": "127.0.0.1", **known})


def several(number: int) -> None:
    for each in range(number):
        audit.record(act(subject=f"file {each + 1}"))


def raw(statement: str) -> None:
    db.session.execute(text(statement))
    db.session.commit()


def past_the_panel(*statements: str) -> None:
    """As somebody who may do everything with the catalogue, and puts the triggers back."""
    if db.engine.dialect.name == "postgresql":
        raw("ALTER TABLE audit_entries DISABLE TRIGGER audit_entries_append_only")
        for each in statements:
            raw(each)
        raw("ALTER TABLE audit_entries ENABLE TRIGGER audit_entries_append_only")
        return
    triggers = db.session.execute(
        text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    ).all()
    for name, _ in triggers:
        raw(f"DROP TRIGGER {name}")
    for each in statements:
        raw(each)
    for _, sql in triggers:
        raw(sql)


def lines() -> list[dict[str, Any]]:
    exported = "".join(audit_search.export_lines())
    assert exported.isascii()
    return [json.loads(each) for each in exported.splitlines()]


def broken(head: str = "") -> str:
    with pytest.raises(VerificationError) as told:
        audit.verify(head)
    return told.value.detail


def test_each_entry_is_chained_to_the_one_before_as_documented(context: None):
    assert audit.verify() == (0, audit.NO_HASH)
    several(3)
    previous = audit.NO_HASH
    for row in lines():
        told = dict(row)
        own = told.pop("hash")
        canonical = json.dumps(told, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(canonical.encode()).hexdigest() == own
        assert row["previousHash"] == previous
        previous = own
    assert audit.verify() == (3, previous)
    assert audit.verify(lines()[1]["hash"].upper()) == (3, previous)


def test_the_catalogue_itself_refuses_a_change(context: None):
    several(1)
    for verb in ("UPDATE audit_entries SET detail = 'x'", "DELETE FROM audit_entries"):
        with pytest.raises(DatabaseError, match="never changed or deleted"):
            raw(verb)
        db.session.rollback()
    assert audit.verify()[0] == 1


def test_a_guard_that_is_gone_is_told(context: None):
    several(2)
    if db.engine.dialect.name == "postgresql":
        name = "audit_entries_append_only"
        raw(f"ALTER TABLE audit_entries DISABLE TRIGGER {name}")
        told = broken()
        raw(f"ALTER TABLE audit_entries ENABLE TRIGGER {name}")  # for other tests
    else:
        name = "audit_entries_no_delete"
        raw(f"DROP TRIGGER {name}")
        told = broken()
    assert told == f"All entries are as recorded, but their table lacks the trigger {name}."


def test_no_entry_is_replaced_past_the_guards(context: None):
    several(2)
    if db.engine.dialect.name == "sqlite":
        with pytest.raises(DatabaseError, match="never changed or deleted"):
            raw(f"INSERT OR REPLACE {_COPY.format(to=1, of=2).removeprefix('INSERT')}")
        db.session.rollback()
    assert audit.verify()[0] == 2


_COPY = (
    "INSERT INTO audit_entries SELECT {to}, at, actor, face, origin, action, subject, outcome,"
    " detail, previous_hash, hash FROM audit_entries WHERE id = {of}"
)
_SET = "UPDATE audit_entries SET {} WHERE id = {}"
_DELETE = "DELETE FROM audit_entries WHERE id {}"
DAMAGES = [
    ([_SET.format("actor = 'bob'", 3)], "Entry 3 was changed or replaced"),
    ([_SET.format("at = 'soon'", 3)], "Entry 3 was changed or replaced"),
    ([_SET.format("hash = previous_hash", 5)], "Entry 5 was changed or replaced"),
    ([_DELETE.format("= 1")], "Entry 1 is missing before entry 2"),
    ([_DELETE.format("IN (3, 4)")], "Entries from 3 on are missing"),
    ([_DELETE.format("= 3"), _SET.format("id = 3", 4)], "Entry 3 was changed or replaced"),
    (
        [_SET.format("id = 9", 2), _SET.format("id = 2", 3), _SET.format("id = 3", 9)],
        "Entry 2 was changed or replaced",
    ),
    ([_COPY.format(to=6, of=5)], "Entry 6 was changed or replaced"),
    ([_COPY.format(to=0, of=5)], "Entry 0 was inserted"),
]


def test_the_first_entry_that_is_not_as_recorded_is_told(context: None):
    for statements, told in DAMAGES:
        several(5)
        assert audit.verify()[0] == 5
        past_the_panel(*statements)
        assert broken().startswith(told), statements
        past_the_panel("DELETE FROM audit_entries")


def test_an_entry_that_was_made_anew_with_its_hash_breaks_the_next(context: None):
    several(3)
    forged = {**lines()[1], "actor": "nobody"}
    own = {key: value for key, value in forged.items() if key != "hash"}
    canonical = json.dumps(own, sort_keys=True, separators=(",", ":"))
    new = hashlib.sha256(canonical.encode()).hexdigest()
    past_the_panel(f"UPDATE audit_entries SET actor = 'nobody', hash = '{new}' WHERE id = 2")
    assert broken().startswith("Entry 3 does not follow entry 2")


def test_a_cut_off_end_is_found_with_a_head_that_was_kept(context: None):
    several(4)
    _, head = audit.verify()
    past_the_panel("DELETE FROM audit_entries WHERE id = 4")
    assert audit.verify()[0] == 3
    assert "the given hash" in broken(head)
    several(1)
    assert "the given hash" in broken(head)
    for wrong in ("abc", "x" * 64):
        with pytest.raises(InvalidInput):
            audit.verify(wrong)


def test_twenty_writers_at_once_make_one_chain(app: Flask):
    begin, went_wrong = threading.Barrier(20), []

    def write(number: int) -> None:
        with app.app_context():
            begin.wait(30)
            try:
                for each in range(5):
                    audit.record(act(subject=f"{number}.{each}"))
            except Exception as error:  # noqa: BLE001 - told by the test
                went_wrong.append(error)
            db.session.remove()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert went_wrong == []
    with app.app_context():
        assert audit.verify()[0] == 100
        subjects = [each["subject"] for each in lines()]
        assert sorted(subjects) == sorted(f"{n}.{e}" for n in range(20) for e in range(5))


def test_what_names_can_hold_breaks_no_line(context: None, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "app.services.audit.log"):
        audit.record(act(HOSTILE, actor=HOSTILE, origin=HOSTILE, subject=HOSTILE, detail=HOSTILE))
        audit.record(act(actor="ü" * 10_000, subject="\n" * 10_000, detail="x" * 10_000))
    assert [record.getMessage().isprintable() for record in caplog.records] == [True, True]
    hostile, long = lines()
    for key in ("actor", "origin", "subject", "detail", "action"):
        assert hostile[key].startswith(r"a\nlevel=ERROR b\r\x1b[2J\x00\u2028\u202e\ud800")
    assert (len(long["actor"]), len(long["subject"]), len(long["detail"])) == (255, 255, 1000)
    assert audit.verify()[0] == 2
    assert (
        len(audit_search.list_entries(audit_search.read_filters({"actor": HOSTILE})).entries) == 1
    )


def test_a_refusal_that_repeats_itself_is_recorded_once(context: None):
    since = now()
    for _ in range(3):
        audit.record(act(outcome=ActOutcome.REFUSED, detail="no", quiet_since=since))
        audit.record(act(outcome=ActOutcome.REFUSED, detail="no", quiet_since=since, origin="::1"))
    audit.record(act(outcome=ActOutcome.REFUSED, detail="too much", quiet_since=since))
    audit.record(act(outcome=ActOutcome.DONE, detail="no", quiet_since=since))
    audit.record(act(outcome=ActOutcome.REFUSED, detail="no"))
    assert audit.verify()[0] == 5


def test_filters_and_pages(context: None):
    several(3)
    audit.record(act("restore.undo", actor="bob", outcome=ActOutcome.FAILED, detail="Straße 50%"))
    audit.record(act("backups.other", actor="bob"))

    def found(**asked: str) -> list[int]:
        filters = audit_search.read_filters(asked)
        return [each.id for each in audit_search.list_entries(filters).entries]

    assert found() == [5, 4, 3, 2, 1]
    assert found(actor="bob") == [5, 4]
    assert found(action="backup") == [3, 2, 1]
    assert found(action="restore.undo") == found(outcome="failed") == found(q="STRAßE 50%") == [4]
    assert found(q="STRA") == [4]
    assert found(q="%") == [4]
    today = lines()[0]["at"][:10]
    assert found(**{"from": today, "to": today}) == [5, 4, 3, 2, 1]
    assert found(to="2026-01-01") == found(**{"from": "2999-01-01T00:00+02:00"}) == []
    first = audit_search.list_entries(limit=2)
    assert ([each.id for each in first.entries], first.next_before) == ([5, 4], 4)
    last = audit_search.list_entries(limit=3, before=first.next_before)
    assert ([each.id for each in last.entries], last.next_before) == ([3, 2, 1], None)
    for wrong in ({"from": "yesterday"}, {"to": "0001-01-01T00:00+23:00"}, {"outcome": "good"}):
        with pytest.raises(InvalidInput):
            found(**wrong)
    for wrong in ("x", "-1", "9" * 30, "1\n"):
        with pytest.raises(InvalidInput):
            audit_search.list_entries(before=wrong)
