"""How values are shown to people."""

from dataclasses import replace

import pytest

from app.describing import left_text, progress_text
from app.services.jobs.progress import Progress

DUMPING = Progress(
    phase="dumping",
    table="public.orders",
    tables_done=3,
    tables_total=21,
    bytes_written=13 * 1024**2,
    seconds_left=125.0,
)


def test_progress_is_told_in_words():
    words = "Dumping public.orders, 3 of 21 tables done, 13.0 MiB written"
    assert progress_text(DUMPING) == words
    assert progress_text(replace(DUMPING, bytes_written=0)) == words.removesuffix(
        ", 13.0 MiB written"
    )
    checking = replace(DUMPING, table="", phase="checking")
    assert progress_text(checking).startswith("Checking, 3 of")


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\nb", "a\x07b"])
def test_a_table_s_name_cannot_command_the_terminal(name: str):
    words = progress_text(replace(DUMPING, table=name))
    assert "a\N{REPLACEMENT CHARACTER}" in words
    assert words.isprintable()


def test_what_is_left_is_told_where_it_can_be_guessed():
    assert left_text(DUMPING) == "about 2 min 5 s left"
    assert left_text(replace(DUMPING, seconds_left=None)) == ""
