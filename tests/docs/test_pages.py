"""README and docs: every link leads somewhere, every page is linked, nothing is said twice."""

import re
import tomllib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from app.config import ROOT

DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LONG = 60  # characters; shorter sentences may well stand twice


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose_of(page: Path) -> str:
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """As forges make them: lower case, without punctuation, with dashes for blanks."""
    headings = (
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        for heading in _HEADING.findall(prose_of(page))
    )
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def links_of(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Each link within the repository: as written, its file and its anchor."""
    for link in _LINK.findall(prose_of(page)):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield link, (page.parent / path).resolve() if path else page, anchor


def sentences_of(page: Path) -> Iterator[str]:
    """Each long sentence of a paragraph, an item or a cell, without its line breaks."""
    parts = re.split(r"\n\s*\n|^ *(?:-|\d+\.) |^#+ |\|", prose_of(page), flags=re.MULTILINE)
    for part in parts:
        for sentence in re.split(r"(?<=[.:;?!]) ", " ".join(part.split())):
            if len(sentence) > _LONG:
                yield sentence


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path):
    broken = [
        link
        for link, target, anchor in links_of(page)
        if not target.exists() or (anchor and anchor not in anchors_of(target))
    ]
    assert broken == []


def test_every_page_is_reached_from_the_index():
    reached, new = {INDEX}, [INDEX]
    while new:
        targets = {target for _, target, _ in links_of(new.pop()) if target.suffix == ".md"}
        new += targets - reached
        reached |= targets
    assert [name_of(page) for page in DOCS.rglob("*.md") if page not in reached] == []


def test_every_page_is_in_the_index():
    listed = {target for _, target, _ in links_of(INDEX)} | {INDEX}
    assert [name_of(page) for page in DOCS.rglob("*.md") if page not in listed] == []


def test_no_sentence_stands_twice():
    said = sorted(
        (sentence, name_of(page))
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for sentence in sentences_of(page)
    )
    groups = ((sentence, [page for _, page in them]) for sentence, them in groupby(said, first))
    assert {sentence: pages for sentence, pages in groups if len(pages) > 1} == {}


def first(pair: tuple[str, str]) -> str:
    return pair[0]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_numbered_lists_count_on(page: Path):
    for paragraph in re.split(r"\n\n+", prose_of(page)):
        numbers = [int(number) for number in re.findall(r"^(\d+)\. ", paragraph, re.MULTILINE)]
        if paragraph.startswith("1. "):
            assert numbers == list(range(1, len(numbers) + 1)), paragraph


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


def test_every_page_that_the_panel_names_is_there():
    named = {
        page
        for source in (ROOT / "app").rglob("*")
        if source.suffix in (".py", ".html")
        for page in re.findall(r"\bdocs/[\w/-]+\.md", source.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


def test_every_file_that_the_docs_name_is_there():
    named = {
        path.rstrip("/.")
        for page in DOCS.rglob("*.md")
        for path in re.findall(r"`((?:app|bench|docs|tests)/[\w/.-]*)`", prose_of(page))
    }
    assert len(named) > 30
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_picture_of_the_house_has_every_layer():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    picture = (DOCS / "contributing.md").read_text(encoding="utf-8")
    (house,) = (text for text in _FENCED.findall(picture) if "app/services/" in text)
    (rooms,) = (contract["layers"] for contract in contracts if "containers" in contract)
    drawn = [line.strip() for line in house.splitlines()]
    missing = [room for room in rooms if not any(line.startswith(f"{room} ") for line in drawn)]
    assert missing == []
