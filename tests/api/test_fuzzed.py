"""Calls that nobody would think of get the answers that the OpenAPI document promises."""

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, CheckContext, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.test_downloads import planted
from tests.conftest import panel_in, signed_in

# Those that reach out to what the text of an address names, or sign us out.
_LEFT_OUT = r"/(sessions?|login|logout|password|databases|stores|notifiers|settings)"
LIST = "/api/admin/backup"


def no_failure_of_ours(_context: CheckContext, response: Response, _case: Case) -> None:
    """502 and 503 tell of a server or a dump; 500 of a mistake in the panel."""
    assert response.status_code != 500, response.text


_CHECKS = (
    no_failure_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Flask]:
    with panel_in(tmp_path_factory.mktemp("fuzzed"), sqlite_template) as app:
        yield app


@pytest.fixture(scope="module")
def document(fuzzed: Flask) -> schemathesis.BaseSchema:
    client = signed_in(fuzzed)
    name = fuzzed.config["SESSION_COOKIE_NAME"]
    cookie = client.get_cookie(name)
    assert cookie is not None
    session = f"{name}={cookie.value}"

    def signed(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """The panel, for requests that could not carry a cookie."""
        return fuzzed(environ | {"HTTP_COOKIE": session}, start)

    whole = schemathesis.openapi.from_wsgi("/api/openapi.json", signed)
    # The client does not close the file of a download.
    downloads = {"path": f"{LIST}/{{filename}}", "method": "GET"}
    return whole.exclude(path_regex=_LEFT_OUT).exclude(**downloads)


def test_each_call_answers_as_documented(fuzzed: Flask, document: schemathesis.BaseSchema):
    wrong: dict[str, str] = {}
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) > 50
    for operation in operations:

        @settings(
            max_examples=4,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy())
        def check(case: Case) -> None:
            if "filename" in case.path_parameters:  # of one that is there, or the rest is not asked
                case.path_parameters["filename"] = planted(fuzzed)
            case.call_and_validate(checks=_CHECKS)

        try:
            check()
        except (AssertionError, ExceptionGroup) as error:
            wrong[operation.label] = "".join(traceback.format_exception_only(error))
    assert wrong == {}, "\n".join(wrong.values())
