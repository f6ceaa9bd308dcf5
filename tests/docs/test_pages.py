"""README and docs: every link leads somewhere, and nothing is said twice."""

import re
from pathlib import Path

import pytest

from app.config import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LONG = 60  # characters; shorter lines may well stand twice


def prose_of(page: Path) -> str:
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """As forges make them: lower case, without punctuation, with dashes for blanks."""
    plain = (
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", each) for each in _HEADING.findall(prose_of(page))
    )
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path):
    broken = []
    for link in _LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_sentence_stands_twice(page: Path):
    seen: set[str] = set()
    twice = []
    for line in prose_of(page).splitlines():
        if len(line) > _LONG and line in seen:
            twice.append(line)
        seen.add(line)
    assert twice == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_numbered_lists_count_on(page: Path):
    for paragraph in re.split(r"\n\n+", prose_of(page)):
        numbers = [int(each) for each in re.findall(r"^(\d+)\. ", paragraph, re.MULTILINE)]
        if paragraph.startswith("1. "):
            assert numbers == list(range(1, len(numbers) + 1)), paragraph
