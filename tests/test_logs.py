"""How the log is written."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import logs

HOSTILE = "x\n2026-11-23 level=INFO logger=app backup deleted\x1b[2J\u2028y"


@pytest.fixture
def written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What a record looks like on the standard error output."""

    def write(log_format: str, template: str, *values: Any, **more: Any) -> str:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        logs.configure(log_format)
        logging.getLogger("app.services.backups.queue").warning(template, *values, **more)
        return capsys.readouterr().err

    return write


def test_a_long_record_is_short_where_a_person_reads_it(
    written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    short = {"extra": {"short": "audit 7 ann"}}
    assert written("text", "audit %s", "id=7 hash='…'", **short).endswith("audit id=7 hash='…'\n")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert written("text", "audit %s", "id=7 hash='…'", **short).endswith(" audit 7 ann\n")
    assert "hash" in written("json", "audit %s", "id=7 hash='…'", **short)


def test_text_is_one_line_of_facts(written: Callable[..., str]):
    line = written("text", "backup queued filename=%s by=%r", "b.dump", "ann")
    moment, facts = line.split(" level=")
    assert moment.endswith("Z")
    assert abs(datetime.fromisoformat(moment) - datetime.now(UTC)) < timedelta(minutes=1)
    assert (
        facts
        == "WARNING logger=app.services.backups.queue backup queued filename=b.dump by='ann'\n"
    )


def test_json_has_each_fact_as_a_key(written: Callable[..., str]):
    told = json.loads(written("json", "%s failed filename=%s size=%d", "backup", "b.dump", 7))
    moment = told.pop("time")
    assert moment.endswith("Z")
    assert datetime.fromisoformat(moment).tzinfo is not None
    assert told == {
        "filename": "b.dump",
        "size": 7,
        "level": "WARNING",
        "logger": "app.services.backups.queue",
        "message": "backup failed",
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("template", ["notes edited notes=%s", "said %s", "by=%s at the end"])
def test_no_value_begins_a_line_or_commands_a_terminal(
    written: Callable[..., str], log_format: str, template: str
):
    line = written(log_format, template, HOSTILE)
    assert line.endswith("\n")
    assert line[:-1].isprintable()


def test_what_is_no_fact_stays_in_the_message(written: Callable[..., str]):
    for template, values, message in (
        ("100 %", (), "100 %"),
        ("a=%s b", ("x",), "a=x b"),
        ("of %(n)s", ({"n": 1},), "of 1"),
    ):
        assert json.loads(written("json", template, *values))["message"] == message


def test_a_traceback_passes_for_no_other_record(written: Callable[..., str]):
    def fail() -> None:
        raise ValueError(HOSTILE)

    try:
        fail()
    except ValueError:
        text = written("text", "turn failed", exc_info=True)
        told = json.loads(written("json", "turn failed", exc_info=True))
    first, *others = text.splitlines()
    assert first.endswith("turn failed")
    assert others
    assert all(each.startswith("    ") and each.isprintable() for each in others)
    assert told["message"] == "turn failed"
    assert HOSTILE in told["traceback"]
