"""A bucket for tests of stores as people manage them."""

import secrets
from collections.abc import Iterator

import pytest

from tests.stores.servers import Place, a_localbucket


@pytest.fixture(scope="module")
def localbucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with a_localbucket(tmp_path_factory.mktemp("localbucket")) as place:
        yield place


@pytest.fixture
def prefix() -> str:
    """Where one test works: nothing is there."""
    return f"panel/{secrets.token_hex(4)}"
