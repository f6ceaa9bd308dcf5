"""One server of each kind for all tests of a process, and a place of its own for each test."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.stores import Store
from tests.stores.servers import Place, a_localbucket, a_moto_server, an_azurite, an_sftp_server

KINDS = ("file", "localbucket", "moto", "azurite", "sftp")


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("nas")
    return Place(f"file://{folder}", folder=folder)


@pytest.fixture(scope="session")
def localbucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with a_localbucket(tmp_path_factory.mktemp("localbucket")) as place:
        yield place


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with a_moto_server(tmp_path_factory.mktemp("moto") / "server") as place:
        yield place


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with an_azurite(tmp_path_factory.mktemp("azurite") / "server") as place:
        yield place


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with an_sftp_server(tmp_path_factory.mktemp("sftp") / "sshd") as place:
        yield place


@pytest.fixture
def prefix() -> str:
    """Where one test works: nothing is there."""
    return f"panel/{secrets.token_hex(4)}"


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, prefix: str) -> Place:
    """Each kind of store in turn."""
    found: Place = request.getfixturevalue(request.param)
    if request.param == "file":  # its folder must exist
        (Path(found.folder or "") / prefix).mkdir(parents=True)
    return found


@pytest.fixture
def store(place: Place, prefix: str) -> Store:
    return place.open(prefix)
