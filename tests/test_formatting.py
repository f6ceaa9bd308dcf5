"""How values are shown to people."""

from typing import Any

import pytest

from app.formatting import left_text, progress_text

TOLD: dict[str, Any] = {
    "phase": "dumping",
    "table": "public.orders",
    "tablesDone": 3,
    "tablesTotal": 21,
    "bytesWritten": 13 * 1024**2,
    "secondsLeft": 125.0,
}


def test_progress_is_told_in_words():
    told = "Dumping public.orders, 3 of 21 tables done, 13.0 MiB written"
    assert progress_text(TOLD) == told
    assert progress_text(TOLD | {"bytesWritten": 0}) == told.removesuffix(", 13.0 MiB written")
    assert progress_text(TOLD | {"table": "", "phase": "checking"}).startswith("Checking, 3 of")


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\nb", "a\x07b"])
def test_a_table_s_name_cannot_command_the_terminal(name: str):
    assert "a\N{REPLACEMENT CHARACTER}" in progress_text(TOLD | {"table": name})
    assert progress_text(TOLD | {"table": name}).isprintable()


def test_what_is_left_is_told_where_it_can_be_guessed():
    assert left_text(TOLD) == "about 2 min 5 s left"
    assert left_text(TOLD | {"secondsLeft": None}) == ""
