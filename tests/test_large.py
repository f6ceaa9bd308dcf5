"""Beyond four gigabytes sizes, ranges and rows are still right."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from app.config import settings as current_settings
from app.models import Trigger
from app.services.backups import service as backups
from app.services.proofs.records import list_proofs
from tests.conftest import Database, signed_in

ROWS = 4_300
MIB = 1024 * 1024


@pytest.mark.slow
def test_a_dump_beyond_four_gibibytes_is_right(
    make_app: Callable[..., Flask], new_database: Callable[..., Database], tmp_path: Path
):
    # One MiB a row that the server keeps small, and that a dump without
    # compression writes out.
    database = new_database()
    database.run("CREATE TABLE large (n int PRIMARY KEY, filling text NOT NULL)")
    database.run(
        "INSERT INTO large SELECT n, repeat(md5(n::text), 32768) FROM generate_series(1, %s) n",
        ROWS,
    )
    app = make_app(database_url=database.url, compression="none", dump_timeout=1200)
    with app.app_context():
        backup = backups.create_backup(trigger=Trigger.CLI, created_by="tester")
        assert backup.is_completed, backup.error_detail
        dump = current_settings().backup_dir / backup.filename
        (read,) = list_proofs(backup.id)
        assert (read.is_passed, read.evidence["rows"]) == (True, ROWS)
    try:
        assert backup.size == dump.stat().st_size > 4 * 1024 * MIB
        admin = signed_in(app)
        listed = admin.get("/api/admin/backup").json["backups"][0]
        assert (listed["size"], listed["fileExists"]) == (backup.size, True)
        with dump.open("rb") as file:
            for start in (2 * 1024 * MIB - 5, 4 * 1024 * MIB - 5, backup.size - 10):
                answer = admin.get(
                    f"/api/admin/backup/{backup.filename}",
                    headers={"Range": f"bytes={start}-{start + 9}"},
                    buffered=True,
                )
                file.seek(start)
                assert answer.data == file.read(10)
                assert answer.headers["Content-Range"] == (
                    f"bytes {start}-{start + 9}/{backup.size}"
                )
    finally:
        dump.unlink()
