"""Answers of the API, compared with its OpenAPI document."""

from typing import Any

from flask import Flask
from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from app.api.openapi import build_document


def document_of(app: Flask) -> dict[str, Any]:
    """The document that this application would give an admin."""
    with app.test_request_context():
        return build_document()


def operation_of(app: Flask, document: dict[str, Any], method: str, path: str) -> Any:
    """What the document says of a call; None if no route would take it."""
    try:
        rule, _ = app.url_map.bind("").match(path, method, return_rule=True)
    except HTTPException:
        return None
    template = rule.rule.replace("<", "{").replace(">", "}")
    return document["paths"][template]["get" if method == "HEAD" else method.lower()]


def check_answer(app: Flask, document: dict[str, Any], answer: TestResponse) -> None:
    """Fail if the document does not have this answer: its call, its status, each of its keys."""
    call = f"{answer.request.method} {answer.request.path}"
    operation = operation_of(app, document, answer.request.method, answer.request.path)
    if operation is None:
        return
    responses = operation["responses"]
    assert str(answer.status_code) in responses, f"{call}: {answer.status_code}"
    if not answer.is_json or answer.request.method == "HEAD":
        return
    response = responses[str(answer.status_code)]
    if "$ref" in response:
        response = document["components"]["responses"]["Problem"]
    schema = response["content"][answer.mimetype]["schema"]
    validator = Draft202012Validator(schema | {"components": document["components"]})
    problems = [
        f"{error.json_path}: {error.message}" for error in validator.iter_errors(answer.json)
    ]
    assert not problems, f"{call}: {problems}"
