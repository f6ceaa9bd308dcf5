"""What services found, in words."""

from dataclasses import replace

import pytest
from flask import Flask, g

from app.describing import cron_text, left_text, progress_text
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


@pytest.mark.parametrize(
    ("cron", "english", "german"),
    [
        ("0 3 * * *", "At 03:00 every day", "Täglich um 03:00"),
        ("*/15 * * * *", "Every 15th minute of every hour", "Alle 15 Minuten"),
        ("5 * * * *", "At minute 5 of every hour", "Stündlich zur Minute 5"),
        ("30 22 * * 1-5", "At 22:30 on Monday through Friday", "Montag–Freitag um 22:30"),
        ("0 5 * * 0,3", "At 05:00 on Sunday and Wednesday", "Sonntag, Mittwoch um 05:00"),
        ("0 4 1 * *", "At 04:00 on the first day of every month", "Am 1. jedes Monats um 04:00"),
        ("0 0 1 1 *", "At 00:00 on January 1", "0 0 1 1 *"),
        ("0 */6 * * *", "At minute 0 past every sixth hour", "0 */6 * * *"),
    ],
)
def test_a_cron_expression_is_told_in_words(panel: Flask, cron: str, english: str, german: str):
    with panel.test_request_context():
        assert cron_text(cron) == english
        g.viewer_language = "de"
        assert cron_text(cron) == german
