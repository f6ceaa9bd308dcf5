"""Which versions of PostgreSQL are known to be weak."""

import pytest

from app.postgres.floors import weakness_of
from app.postgres.tools import Version

OLD = "CVE-2025-8714, CVE-2025-8715, CVE-2026-6477"


@pytest.mark.parametrize(
    "version",
    [(18, 4), (18, 6), (17, 10), (17, 11), (16, 14), (15, 18), (15, 20), (19, 0), (20, 1)],
)
def test_nothing_is_known_against_a_patched_version(version: tuple[int, int]):
    assert weakness_of(Version(*version)) == ""


@pytest.mark.parametrize("version", [(18, 3), (17, 9), (17, 6), (16, 13), (15, 17), (15, 14)])
def test_below_the_newer_floor_its_fix_is_lacking(version: tuple[int, int]):
    assert weakness_of(Version(*version)) == "it lacks the fixes of CVE-2026-6477"


@pytest.mark.parametrize("version", [(17, 5), (16, 9), (16, 2), (15, 13), (15, 0)])
def test_below_the_older_floor_all_fixes_are_lacking(version: tuple[int, int]):
    assert weakness_of(Version(*version)) == f"it lacks the fixes of {OLD}"


@pytest.mark.parametrize("version", [(14, 99), (13, 0), (9, 6)])
def test_an_old_major_is_out_of_support_whatever_its_minor(version: tuple[int, int]):
    assert weakness_of(Version(*version)) == f"PostgreSQL {version[0]} is out of support"
