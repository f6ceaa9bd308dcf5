"""Turn the upload of a foreign dump into a backup that was read back completely."""

import re
from typing import Any

from app.config import settings
from app.errors import ToolError
from app.extensions import writing
from app.models import DatabaseBackup
from app.postgres.blocks import check_blocks
from app.postgres.foreign import contents_of
from app.postgres.tools import find_toolchains
from app.services.backups.manifests import build_manifest
from app.services.backups.read_back import ReadBack, read_back
from app.services.databases.configured import storage
from app.services.jobs.run import Run
from app.storages import Staged


def take_in(run: Run, filename: str) -> None:
    """Check the upload of this run, under the limits for a hostile archive, and publish it.

    Raises NotFound if the upload is gone, DumpError, ToolError, StorageError.
    """
    staged = storage().stage_upload(run.job_id, filename)
    try:
        run.phase, run.dumped_share = "checking", 0
        run.check(now_at_once=True)
        toolchains = find_toolchains(settings().pg_bin_dir)
        if not toolchains:
            raise ToolError("no pg_restore was found to read the dump with")
        with storage().open_staged(staged) as file:
            check_blocks(file, run.check)
        newest = max(toolchains, key=lambda toolchain: toolchain.version)
        read = read_back(run, staged, newest, contents=0, on_tick=run.check)
        _publish(run, staged, read)
    finally:
        storage().discard(staged)


def _publish(run: Run, staged: Staged, read: ReadBack) -> None:
    run.phase = "publishing"
    run.check(now_at_once=True)
    contents = contents_of(read.entries, read.rows)
    contents["rowBytes"] = sum(read.rows.bytes.values())
    evidence: dict[str, Any] = {
        "tables": len(contents["tables"]),
        "rows": sum(read.rows.rows.values()),
        "uncounted": [],
        "differences": [],
    }
    if contents["rowsOnly"]:
        evidence["differences"] = ["the dump has rows but no tables (pg_dump --data-only)"]
    contents["read"] = {"seconds": round(read.seconds, 3), "evidence": evidence}
    with writing() as session:
        backup = session.get_one(DatabaseBackup, run.job_id)
        backup.server_version = _version_in(read.header.server_version)
        backup.tool_version = _version_in(read.header.tool_version)
        backup.compression = read.header.compression
        backup.contents = contents
        manifest = build_manifest(backup, read.dump)
    storage().publish(staged, manifest)


def _version_in(text: str) -> str:
    """17.4 of "17.4 (Debian 17.4-1)"; empty for other text."""
    match = re.match(r"[0-9]{1,3}(\.[0-9]{1,5}){0,2}", text)
    return match[0] if match else ""
