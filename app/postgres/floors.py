"""Known weaknesses of PostgreSQL versions."""

from app.postgres.tools import Version

#: Older major versions get no more fixes: 14 had its last on 2026-11-12
#: (https://www.postgresql.org/support/versioning/).
OLDEST_SUPPORTED = 15

#: The first fixed minor version of each affected major version
#: (https://www.postgresql.org/support/security/). CVE-2026-18408, fixed in 18.6,
#: 17.11, 16.15 and 15.19, is left out: it affects plain output, which we do not use.
_FIXED = {
    "CVE-2025-8714": {17: 6, 16: 10, 15: 14},
    "CVE-2025-8715": {17: 6, 16: 10, 15: 14},
    "CVE-2026-6477": {18: 4, 17: 10, 16: 14, 15: 18},  # a hostile server against pg_dump
}


def weakness_of(version: Version) -> str:
    """Why this version should not be used, as the end of a sentence; empty for a good one.

    Programs and servers of one minor version are released together.
    """
    if version.major < OLDEST_SUPPORTED:
        return f"PostgreSQL {version.major} is out of support"
    lacking = [
        name for name, fixed in _FIXED.items() if version.minor < fixed.get(version.major, 0)
    ]
    return f"it lacks the fixes of {', '.join(lacking)}" if lacking else ""
