"""Compare two databases without any of Backstop's own census: by plain pg_dump, and by rows."""

import re
import subprocess

from app.postgres.definitions import settled
from app.postgres.tools import Toolchain
from tests.conftest import Database

# What differs from call to call, and what every new database brings along.
_NOT_ITS_OWN = re.compile(
    r"--|\\(un)?restrict|\\connect"
    r"|(CREATE EXTENSION IF NOT EXISTS|COMMENT ON EXTENSION) plpgsql "
)
_VIEWS = """
    SELECT format('%I.%I', schemaname, matviewname) FROM pg_matviews WHERE ispopulated ORDER BY 1
"""
_HASH = "SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM {} t"
_ROW = """
    SELECT pg_get_userbyid(datdba), encoding, datcollate, datctype, datconnlimit, datistemplate,
           dattablespace, shobj_description(oid, 'pg_database')
    FROM pg_database WHERE datname = current_database()
"""


def seen(toolchain: Toolchain, database: Database) -> list[str]:
    """Everything that pg_dump -C writes of a database, in lines, and what it leaves out."""
    written = subprocess.run(
        [toolchain.pg_dump, "--create", "-d", database.url],
        capture_output=True,
        text=True,
        check=True,
        env={"PGOPTIONS": "-c default_transaction_read_only=off", "LC_ALL": "C"},
    ).stdout
    name = re.escape(database.name.replace('"', '""'))
    written = re.sub(rf'(?<!\w)"?{name}"?(?!\w)', "THE_DATABASE", settled(written))
    lines = [line for line in written.splitlines() if line and not _NOT_ITS_OWN.match(line)]
    views = [f"{view} {database.run(_HASH.format(view))}" for (view,) in database.run(_VIEWS)]
    # The order in which they were set means nothing.
    lines.sort(key=lambda line: line if line.startswith("ALTER DATABASE ") else "")
    return [*lines, *views, repr(database.run(_ROW))]
