"""Bring the catalogues up to date with the code: new texts come in, and all are compiled."""

import sys
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from app.translations.extraction import extract
from app.viewer import LANGUAGES

FOLDER = Path(__file__).parent


def texts_of(message: Message) -> tuple[str, ...]:
    """The translation: one text, or one for each plural form."""
    string = message.string or ""
    return (string,) if isinstance(string, str) else tuple(string)


def main() -> None:
    """Update and compile the catalogue of each language but English."""
    texts = extract()
    for language in LANGUAGES:
        if language == "en":
            continue
        path = FOLDER / language / "LC_MESSAGES" / "messages.po"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("rb") as file:
            catalogue = read_po(file, language)
        catalogue.update(texts, no_fuzzy_matching=True, update_creation_date=False)
        _set_header(catalogue, LANGUAGES[language])
        catalogue.obsolete.clear()
        with path.open("wb") as file:
            write_po(
                file, catalogue, omit_header=False, sort_output=True, no_location=True, width=98
            )
        with path.with_suffix(".mo").open("wb") as file:
            write_mo(file, catalogue)
        missing = sum(not all(texts_of(message)) for message in catalogue if message.id)
        sys.stdout.write(f"{path}: {len(catalogue)} texts, {missing} without a translation\n")


def _set_header(catalogue: Catalog, language: str) -> None:
    """Nothing in it changes without need: branches would conflict there."""
    catalogue.header_comment = f"# The texts of Backstop's pages: {language}."
    catalogue.project, catalogue.version = "Backstop", ""
    catalogue.msgid_bugs_address = catalogue.last_translator = ""
    catalogue.language_team = language
    catalogue.revision_date = catalogue.creation_date
    catalogue.fuzzy = False


if __name__ == "__main__":
    main()
