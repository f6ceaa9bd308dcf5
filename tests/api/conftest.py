"""Every answer that a test of the API gets is one that the OpenAPI document has."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.api.documented import check_answer, document_of


@pytest.fixture(scope="module", autouse=True)
def answers_are_documented() -> Iterator[None]:
    """Compare them as they come."""
    original: Any = FlaskClient.open
    documents: list[dict[str, Any]] = []  # the same for each application

    def checked(client: FlaskClient, *args: Any, **options: Any) -> TestResponse:
        answer = original(client, *args, **options)
        if answer.request.path.startswith("/api/admin"):
            if not documents:
                documents.append(document_of(client.application))
            check_answer(client.application, documents[0], answer)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlaskClient, "open", checked)
        yield
