"""Each catalogue has every text that pages show, as a translator would leave it."""

import re
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from app.config import ROOT
from app.translations.__main__ import FOLDER, texts_of
from app.translations.extraction import extract
from app.viewer import LANGUAGES

TRANSLATED = [language for language in LANGUAGES if language != "en"]

_PLACES = re.compile(r"%\(\w+\)s|(?<!%)\{\w+\}")
_TAGS = re.compile(r"</?\w[^>]*>")
_MARKED = re.compile(
    r"\{#.*?#\}|\{% trans.*?endtrans %\}|\{%.*?%\}|\{\{.*?\}\}|<(pre|code)\b.*?</\1>", re.DOTALL
)

#: What is the same in every language.
_NAMES = {"Backstop", "API", "URL", "SHA", "pg_dump", "backup", "delete"}


@pytest.fixture(scope="module")
def texts() -> Catalog:
    return extract()


def path_of(language: str) -> Path:
    return FOLDER / language / "LC_MESSAGES" / "messages.po"


@pytest.fixture(scope="module", params=TRANSLATED)
def catalogue(request: pytest.FixtureRequest) -> Catalog:
    with path_of(request.param).open("rb") as file:
        return read_po(file, request.param)


def ids_of(message: Message) -> tuple[str, ...]:
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def test_a_catalogue_has_the_texts_of_the_code_and_no_others(catalogue: Catalog, texts: Catalog):
    """`make translations` brings it up to date."""
    found, wanted = (
        {(each.context, *ids_of(each)) for each in all_} for all_ in (catalogue, texts)
    )
    assert found == wanted
    assert not catalogue.obsolete


def test_every_text_is_translated_and_none_is_guessed(catalogue: Catalog):
    untranslated = [each.id for each in catalogue if each.id and not all(texts_of(each))]
    assert untranslated == []
    assert [each.id for each in catalogue if each.id and each.fuzzy] == []


def test_a_translation_has_the_values_and_tags_of_its_text(catalogue: Catalog):
    for message in catalogue:
        if not message.id:
            continue
        for pattern in (_PLACES, _TAGS):
            wanted = {tuple(sorted(pattern.findall(text))) for text in ids_of(message)}
            for text in texts_of(message):
                found = tuple(sorted(pattern.findall(text)))
                assert found in wanted, f"{message.id}: {text}"


def test_a_translation_begins_and_ends_as_its_text(catalogue: Catalog):
    """Parts of a sentence keep the space, and a full stop or none, around them."""
    for message in catalogue:
        for text, translated in zip(ids_of(message), texts_of(message), strict=False):
            if text:
                assert translated[0].isspace() == text[0].isspace(), text
                assert (translated[-1] == ".") == (text[-1] == "."), text


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_compiled_catalogue_fits_its_source(language: str):
    path = path_of(language)
    with path.open("rb") as file:
        catalogue = read_po(file, language)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    assert path.with_suffix(".mo").read_bytes() == compiled.getvalue()


TEMPLATES = sorted((ROOT / "app" / "templates").rglob("*.html"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_text_of_a_template_is_left_unmarked(path: Path):
    bare = _MARKED.sub(" ", path.read_text())
    shown = re.findall(r'(?:aria-label|placeholder|title|data-label|alt)="([^"]*)"', bare)
    shown.append(re.sub(r"<!doctype[^>]*>|<[^>]*>", " ", bare))
    words = {word for text in shown for word in re.findall(r"[A-Za-z_]{3,}", text)}
    assert words - _NAMES == set()
