"""The bench computes what it says, and its smallest measure runs from end to end."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.config import ROOT
from app.postgres.conninfo import Conninfo
from bench.__main__ import run
from bench.harness import Aim, Claim, Rounds, Spread, Taken, Way, interleaved
from bench.measures import MEASURES
from bench.world import Scale, World

CLAIM = Claim("a thing", "ours", "theirs")


def test_a_spread_is_the_median_with_both_ends():
    assert Spread.of([5.0, 1.0, 9.0, 2.0]) == Spread(3.5, 1.0, 9.0)


def test_ways_take_turns_and_another_one_begins_each_round():
    ran: list[str] = []

    def way(name: str) -> Way:
        def act() -> Taken:
            ran.append(name)
            return {"s": len(ran)}

        return act

    rounds = interleaved({name: way(name) for name in "abc"}, 3)
    assert "".join(ran) == "abcbcacab"
    assert rounds.values("a", "s") == [1, 6, 8]


def test_a_ratio_is_taken_within_each_round():
    rounds = Rounds(
        {"ours": [{"s": 1}, {"s": 30}, {"s": 3}], "bare": [{"s": 2}, {"s": 10}, {"s": 3}]}
    )
    row = CLAIM.row(rounds, "ours", "bare")
    assert row.value == Spread(1.0, 0.5, 3.0)
    assert (row.ours.median, row.rounds) == (3, 3)


def test_a_difference_keeps_its_unit():
    rounds = Rounds({"ours": [{"MB": 5}, {"MB": 7}], "bare": [{"MB": 4}, {"MB": 4}]})
    row = Claim("memory", "ours", "theirs", Aim(2.0, "MB"), "MB").row(rounds, "ours", "bare")
    assert (row.value, row.is_met) == (Spread(2.0, 1.0, 3.0), True)


@pytest.mark.parametrize(
    ("aim", "words", "met", "missed"),
    [
        (Aim(0.9), "≤ 0.9 ×", 0.9, 0.91),
        (Aim(0.7, is_least=True), "≥ 0.7 ×", 0.7, 0.69),
        (Aim(10, "MB"), "≤ 10 MB", -3, 11),
    ],
)
def test_an_aim_is_met_or_missed(aim: Aim, words: str, met: float, missed: float):
    assert (aim.in_words(), aim.is_met_by(met), aim.is_met_by(missed)) == (words, True, False)


def test_the_quickest_way_is_that_of_the_least_median():
    rounds = Rounds({"-j1": [{"s": 1}, {"s": 9}, {"s": 9}], "-j2": [{"s": 5}, {"s": 5}, {"s": 5}]})
    assert rounds.quickest("-j1", "-j2") == "-j2"


def test_the_smallest_measure_writes_both_files(
    server: Conninfo, passable_dir: Path, tmp_path: Path
):
    with ExitStack() as stack:
        world = World(passable_dir / "bench", Scale(megabytes=1, rounds=1), stack)
        world.folder.mkdir()
        world.server = server
        markdown, as_json = run(world, ["small"], tmp_path)
    content = json.loads(as_json.read_text())
    (row,) = content["rows"]
    assert row["value"]["median"] == row["ours"]["median"] - row["theirs"]["median"]
    assert content["setting"]["server"].startswith("PostgreSQL 17")
    assert f"| {row['claim']['name']} |" in markdown.read_text()


def test_every_measure_is_documented():
    page = (ROOT / "docs/explanation/performance.md").read_text(encoding="utf-8")
    assert [name for name in MEASURES if f"`{name}`" not in page] == []
