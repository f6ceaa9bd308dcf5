"""The life of one backup: lock, dump, check, publish, and the row last."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime
from threading import Event

from app.config import settings
from app.errors import AppError, ConfigurationError, Interrupted
from app.extensions import db, writing
from app.models import DatabaseBackup
from app.postgres.command import Line, Log
from app.postgres.conninfo import client_environment
from app.postgres.dump import Limits, dump, read_header, read_whole
from app.postgres.snapshot import Snapshot, hold_snapshot
from app.postgres.tools import Toolchain, choose_toolchain, find_toolchains
from app.services import claims
from app.services.databases import (
    DatabaseName,
    configured_database,
    database_name,
    private_dir,
    storage,
)
from app.services.manifests import Proof, build_manifest, read_manifest
from app.storages import Staged, sha256_of

_TICK = 0.25  # seconds

logger = logging.getLogger(__name__)


def run_claimed(backup_id: str, on_line: Line | None = None) -> None:
    """Run a backup that this process has claimed, to COMPLETED or FAILED.

    Errors of the backup end up on its row; what ends this process is recorded
    there too and raised again.
    """
    log = Log()

    def heard(line: str) -> None:
        log.add(line)
        if on_line is not None:
            on_line(line)

    try:
        proof = _make(backup_id, heard)
    except AppError as error:
        record_failure(backup_id, error, log.text())
    except BaseException:
        record_failure(
            backup_id,
            Interrupted(
                "the backup was interrupted",
                detail="Its process was ended, or met a defect that its log tells.",
                hint="Start the backup again.",
            ),
            log.text(),
        )
        raise
    else:
        record_success(backup_id, proof, log.text())


def record_failure(
    backup_id: str, error: AppError, log: str = "", *, judged: datetime | None = None
) -> None:
    """Say on the row that there is no dump, and why; a row that has ended stays as it is.

    With the lease that somebody else `judged`, only while it is still the
    same: its runner may have renewed it.
    """
    with writing() as session:
        backup = session.get(DatabaseBackup, backup_id, with_for_update=True)
        if backup is None or not backup.is_pending:
            return
        if judged is not None and backup.lease_until != judged:
            return
        backup.fail(error)
        if log:
            backup.log = log
        filename = backup.filename
    logger.warning("backup failed filename=%s error=%r", filename, error.message)


def record_success(backup_id: str, proof: Proof, log: str = "") -> None:
    """Say on the row that the dump is published; the last step of a backup.

    Also where the row says FAILED: a runner that was taken for dead while it
    slept may have published after all, and what counts is the whole file.
    """
    with writing() as session:
        backup = session.get(DatabaseBackup, backup_id, with_for_update=True)
        if backup is None or backup.is_completed:
            return
        backup.size, backup.sha256 = proof.size, proof.sha256
        backup.oldest_reader = proof.oldest_reader
        backup.complete()
        if log:
            backup.log = log
        filename, notes = backup.filename, backup.notes
        manifest = build_manifest(backup, proof)
    logger.info("backup completed filename=%s size=%d", filename, proof.size)
    if read_manifest(storage().manifest(filename))["notes"] != notes:
        storage().replace_manifest(filename, manifest)  # they were edited meanwhile


def _make(backup_id: str, heard: Line) -> Proof:
    backup = db.session.get_one(DatabaseBackup, backup_id)
    filename, wanted = backup.filename, DatabaseName(backup.server, backup.database)
    db.session.commit()  # no transaction of the catalogue stays open meanwhile
    _refuse_another_database(wanted)
    info = configured_database()
    lease = claims.Lease(backup_id)
    lease.check()
    with hold_snapshot(info, application_name=f"backstop {filename}") as snapshot:
        toolchain = choose_toolchain(
            find_toolchains(settings().pg_bin_dir), snapshot.server_version
        )
        compression = toolchain.compression(settings().compression)
        _record_versions(backup_id, snapshot, toolchain, compression)
        staged = storage().stage(filename)

        def tick() -> None:
            lease.check()
            snapshot.check()

        try:
            with client_environment(info, private_dir()) as environment:
                dump(
                    toolchain,
                    info,
                    staged.path,
                    snapshot=snapshot.id,
                    compression=compression,
                    limits=_limits(),
                    environment=environment | {"PGAPPNAME": f"backstop {filename}"},
                    on_line=heard,
                    on_tick=tick,
                )
            proof = _check(toolchain, staged, tick)
            _publish(backup_id, staged, proof, snapshot, lease)
        finally:
            storage().discard(staged)
    return proof


def _refuse_another_database(wanted: DatabaseName) -> None:
    """DATABASE_URL may have been changed since the backup was asked for."""
    if wanted != database_name():
        raise ConfigurationError(
            f'this worker is not set up for database "{wanted.database}" on {wanted.server}',
            detail=f'Its DATABASE_URL names "{database_name().database}" on'
            f" {database_name().server}.",
            hint="Give web and worker the same DATABASE_URL, and start the backup again.",
        )


def _limits() -> Limits:
    chosen = settings()
    return Limits(chosen.lock_timeout, chosen.stall_timeout, chosen.dump_timeout)


def _record_versions(
    backup_id: str, snapshot: Snapshot, toolchain: Toolchain, compression: str
) -> None:
    with writing() as session:
        backup = session.get_one(DatabaseBackup, backup_id)
        backup.server_version = str(snapshot.server_version)
        backup.tool_version = str(toolchain.version)
        backup.compression = compression


def _check(toolchain: Toolchain, staged: Staged, on_tick: Callable[[], None]) -> Proof:
    """Read the dump whole, twice at once: by pg_restore and for its SHA-256."""
    given_up = Event()

    def go_on() -> None:
        if given_up.is_set():
            raise Interrupted("the check was given up")

    with (
        storage().open_staged(staged) as file,
        ThreadPoolExecutor(1, thread_name_prefix="checksum") as pool,
    ):
        header = read_header(file)
        size = file.seek(0, 2)
        file.seek(0)
        reading = pool.submit(sha256_of, file, on_block=go_on)
        try:
            read_whole(toolchain, staged.path, on_tick=on_tick)
            while not reading.done():
                on_tick()
                wait([reading], timeout=_TICK)
        except BaseException:
            given_up.set()
            raise
        return Proof(size, reading.result(), header.oldest_reader)


def _publish(
    backup_id: str, staged: Staged, proof: Proof, snapshot: Snapshot, lease: claims.Lease
) -> None:
    """Only a dump whose lock and claim were held to the end gets its final name."""
    snapshot.check(now=True)
    lease.check(now_at_once=True)
    backup = db.session.get_one(DatabaseBackup, backup_id)
    manifest = build_manifest(backup, proof)
    db.session.commit()
    storage().publish(staged, manifest)
