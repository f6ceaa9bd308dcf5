"""Which texts the pages can show: marked ones, and those that services give them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir

from app import errors
from app.postgres.hints import HINTS
from app.wording import ENOUGH, WORDS

APP = Path(__file__).parent.parent

Found = tuple[int, str, str | tuple[str, ...], list[str]]  # line, function, text, comments

_METHODS = [
    ("templates/**.html", "jinja2"),
    ("**.py", "app.translations.extraction:texts_of_calls"),
]
_NOT_SHOWN = (
    "cli",
    "api",
    "translations",
    "embedded",
    "rescue",
)  # folders whose texts no page shows
_OPTIONS = {"templates/**.html": {"trimmed": "true", "silent": "false"}}
_KEYWORDS: dict[str, Any] = {
    "_": None,
    "gettext": None,
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
}

#: Calls that make what pages show, and which of their arguments are texts.
_ERRORS = {name for name in vars(errors) if name[0].isupper()}
_CALLS = {"Step", "Finding", "Todo", "ok", "warning", "problem"}
_TEXTS = ("detail", "hint", "told")  # by name


def extract() -> Catalog:
    """All texts, without translations."""
    found = Catalog(charset="utf-8")
    for filename, _, message, comments, context in extract_from_dir(
        APP, _METHODS, _OPTIONS, _KEYWORDS, directory_filter=_is_shown
    ):
        found.add(message, None, [(filename, 0)], auto_comments=comments, context=context)
    for text in (*WORDS, *(hint for _, hint in HINTS)):
        found.add(text)
    return found


def _is_shown(folder: str) -> bool:
    return Path(folder).name not in _NOT_SHOWN


def texts_of_calls(
    file: IO[bytes], _keywords: object, _tags: object, **_options: object
) -> Iterator[Found]:
    """The marked texts, and those of errors, findings and steps; f-strings become templates."""
    module = ast.parse(file.read())
    constants = {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            if _name(node) == "ngettext" and isinstance(node.args[0], ast.Constant):
                texts = tuple(ast.literal_eval(argument) for argument in node.args[:2])
                yield node.lineno, "ngettext", texts, []
            for argument in _arguments(node):
                for text in _texts(argument, constants):
                    yield node.lineno, "", text, []


def _arguments(call: ast.Call) -> list[ast.expr]:
    name = _name(call)
    named = [keyword.value for keyword in call.keywords if keyword.arg in _TEXTS]
    if name in _ERRORS or name in ("_", "_l"):
        return [*call.args[:1], *named]
    is_logger = isinstance(call.func, ast.Attribute)
    if name == "Todo":
        return call.args[:1]
    return [*call.args, *named] if name in _CALLS and not is_logger else []


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _texts(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    match node:
        case ast.Constant(value=str() as text):
            if re.search("[A-Za-z]{2}", text):
                yield text
        case ast.JoinedStr():
            template = _template(node, constants)
            if len(re.sub(r"\{\w+\}|[^A-Za-z]", "", template)) >= ENOUGH:
                yield template
        case ast.IfExp(body=body, orelse=other):
            yield from _texts(body, constants)
            yield from _texts(other, constants)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _texts(value, constants)
        case ast.Name(id=name) if name in constants and name.isupper():
            yield from _texts(constants[name], {})


def _template(joined: ast.JoinedStr, constants: dict[str, ast.expr]) -> str:
    """An f-string with a name for each of its values."""
    template, names = "", []
    for part in joined.values:
        if isinstance(part, ast.Constant):
            template += str(part.value)
            continue
        value = part.value if isinstance(part, ast.FormattedValue) else part
        constant = constants.get(value.id) if isinstance(value, ast.Name) else None
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
            template += constant.value
            continue
        words = re.findall(
            r"[a-z_]*[a-z][a-z_]*", re.sub(r"'[^']*'", "", ast.unparse(value)).lower()
        )
        name = next((word.strip("_") for word in reversed(words) if word.strip("_")), "value")
        while name in names:
            name += "_"
        names.append(name)
        template += "{" + name + "}"
    return template
