"""The OpenAPI document lacks no route, method, field or status."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.config import ROOT
from tests.api.documented import check_answer, document_of

API = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
WRONG = [{}]  # of no type that any field takes


@pytest.fixture(scope="module")
def document(ann: FlaskClient) -> dict[str, Any]:
    return ann.get("/api/openapi.json").get_json()


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each method, path that a client could ask, and operation."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), re.sub(r"\{\w+\}", "nothing", path), operation


def test_it_is_for_admins(panel: Flask, document: dict[str, Any]):
    assert panel.test_client().get("/api/openapi.json").status_code == 401
    assert document["openapi"] == "3.1.0"
    (cookie,) = document["components"]["securitySchemes"].values()
    assert cookie["name"] == panel.config["SESSION_COOKIE_NAME"]


def test_it_is_valid(document: dict[str, Any]):
    OpenAPIV31SpecValidator(document).validate()
    ids = [operation["operationId"] for _, _, operation in operations_of(document)]
    assert len(ids) == len(set(ids))


def test_it_has_every_route_and_method(panel: Flask, document: dict[str, Any]):
    routes = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in panel.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    documented = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert sorted(documented) == sorted(routes)


def test_only_the_sign_in_needs_no_session(panel: Flask, document: dict[str, Any]):
    for method, path, operation in operations_of(document):
        answer = panel.test_client().open(path, method=method)
        assert (answer.status_code == 401) is bool(operation["security"]), (method, path)


def test_it_has_every_field_of_a_body(ann: FlaskClient, document: dict[str, Any]):
    for method, path, operation in operations_of(document):
        body = operation.get("requestBody", {"content": {}})["content"]
        if "application/json" in body:
            name = body["application/json"]["schema"]["$ref"].rpartition("/")[2]
            schema = document["components"]["schemas"][name]
            fields, needed = set(schema["properties"]), set(schema.get("required", ()))
            refused = refused_by(ann.open(path, method=method, json=dict.fromkeys(fields, WRONG)))
            assert set(refused) == fields, (method, path)
            assert "Unknown field." not in refused.values(), (method, path)
            missing = refused_by(ann.open(path, method=method, json={"nothing": 1}))
            assert set(missing) == needed | {"nothing"}, (method, path)
            assert operation["requestBody"]["required"] is bool(needed), (method, path)


def test_it_has_every_field_of_a_query(ann: FlaskClient, document: dict[str, Any]):
    for method, path, operation in operations_of(document):
        fields = [each for each in operation["parameters"] if each["in"] == "query"]
        query = {each["name"]: "nothing" for each in fields} | {"unknown": "1"}
        if fields:
            refused = refused_by(ann.open(path, method=method, query_string=query))
            unknown = [name for name, words in refused.items() if words == "Unknown field."]
            assert unknown == ["unknown"], (method, path)
            needed = {each["name"] for each in fields if each["required"]}
            missing = refused_by(ann.open(path, method=method, query_string={"unknown": "1"}))
            assert set(missing) == needed | {"unknown"}, (method, path)


def refused_by(answer: Any) -> dict[str, str]:
    """What is said of each field of a request."""
    assert answer.status_code == 422, answer.text
    said = re.split(r"(?<!one )\b(\w+): ", answer.get_json()["detail"])[1:]
    return dict(zip(said[::2], said[1::2], strict=True))


def test_every_field_of_an_answer_has_a_type(document: dict[str, Any]):
    def untyped(part: Any, place: str = "") -> Iterator[str]:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            if key == "properties":
                yield from (f"{place}/{name}" for name in value if not value[name])
            if isinstance(value, dict | list):
                yield from untyped(value, f"{place}/{key}")

    assert list(untyped(document)) == []


def test_it_has_every_status_that_the_reference_has(document: dict[str, Any]):
    """A table of statuses is about all calls of its section."""
    compared, statuses = 0, {}  # by the anchor of the section
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            call = f"{method.upper()} " + re.sub(r"\{\w+\}", r"<\\w+>", path)
            (anchor,) = re.findall(rf"^\| \[`{call}`\]\(#(.*?)\)", API, re.MULTILINE)
            statuses[anchor] = statuses.get(anchor, set()) | set(operation["responses"])
    for section in re.split(r"^#{2,3} ", API, flags=re.MULTILINE):
        anchor = section.partition("\n")[0].lower().replace(" ", "-")
        listed = ", ".join(re.findall(r"^\| ([0-9, ]+) \|", section, re.MULTILINE))
        if anchor in statuses and listed:
            assert set(listed.split(", ")) <= statuses.pop(anchor), anchor
            compared += 1
    assert compared > 10


def test_an_answer_that_it_lacks_is_noticed(panel: Flask, ann: FlaskClient):
    document = document_of(panel)
    answer = ann.get("/api/admin/assertions")
    check_answer(panel, document, answer)
    responses = document["paths"]["/api/admin/assertions"]["get"]["responses"]
    schema = responses["200"]["content"]["application/json"]["schema"]
    schema["properties"]["found"] = schema["properties"].pop("assertions")
    with pytest.raises(AssertionError, match="'assertions' was unexpected"):
        check_answer(panel, document, answer)
    del responses["200"]
    with pytest.raises(AssertionError, match="GET /api/admin/assertions: 200"):
        check_answer(panel, document, answer)
