"""A migration that has landed is never changed: some catalogues have run it as it was."""

import hashlib
from pathlib import Path

import pytest

from app.config import ROOT

VERSIONS = ROOT / "migrations" / "versions"

#: As sha256sum writes it: a new migration adds its own line.
LANDED = {
    name: checksum
    for line in Path(__file__).with_name("landed.sha256").read_text().splitlines()
    for checksum, name in [line.split()]
}


@pytest.mark.parametrize("name", LANDED)
def test_a_landed_migration_is_as_it_was(name: str):
    found = hashlib.sha256((VERSIONS / name).read_bytes()).hexdigest()
    assert found == LANDED[name], f"{name} has landed: write a new migration instead"


def test_every_migration_is_frozen():
    assert sorted(LANDED) == sorted(each.name for each in VERSIONS.glob("[0-9]*.py"))
