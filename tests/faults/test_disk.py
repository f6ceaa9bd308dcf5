"""The disk is full, at every step that writes; or it cannot be written at all.

As root on a small disk in memory, which is filled while a backup runs; a
limit on the size of files serves everybody.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.lab import PATIENCE, Lab, log_of
from tests.faults.middle import failed, locked, told, waiting_backup

pytestmark = pytest.mark.faults

only_root = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can mount a small disk"
)

PAGE = 4096
BIG = """
    CREATE TABLE orders AS SELECT n, md5(n::text) FROM generate_series(1, 40000) n;
    CREATE TABLE customers AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n;
"""


@contextmanager
def small_disk(folder: Path, options: str = "") -> Iterator[Path]:
    """A disk of 64 MiB in memory, mounted over the folder."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size=64m{options}", "backstop-faults", folder]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        # Our own process may have the catalogue open; the disk goes when it lets go.
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, *, but: int = 0) -> Path:
    """A file that leaves so many bytes free."""
    filler = disk / "filler"
    found = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - but)
    return filler


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(BIG)


def test_a_limit_on_the_size_of_files_is_told_as_such(lab: Lab):
    lab.make_backup()
    words = ["prlimit", "--fsize=400000", sys.executable, "-m", "flask", "backup", "create"]
    row = failed(lab, lab.start_program(words))
    assert row.error_message == "the dump is larger than the limit on the size of a file", told(row)
    assert "ulimit" in row.error_hint
    lab.check()


@only_root
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_disk_that_is_full_while_dumping_is_told_as_such(lab: Lab, jobs: str):
    with small_disk(lab.backups):
        lab.make_backup()
        with locked(lab.database) as locker:
            create = waiting_backup(lab, BACKSTOP_DUMP_JOBS=jobs)
            filler = fill(lab.backups, but=100 * PAGE)
            locker.release()
            row = failed(lab, create)
        assert row.error_message == "no space is left where the dump is written"
        assert "Free some space" in row.error_hint
        filler.unlink()
        lab.check()


@only_root
@pytest.mark.parametrize("what", ["bytes", "names"])
def test_a_disk_that_is_full_when_the_manifest_is_written_leaves_no_dump(lab: Lab, what: str):
    """Room for the dump, to the page, and none for what comes after it."""
    with small_disk(lab.backups, options=",nr_inodes=100"):
        first = lab.make_backup()
        pages = -(-(lab.backups / first).stat().st_size // PAGE)
        with locked(lab.database) as locker:
            create = waiting_backup(lab)
            begun = sum(path.stat().st_blocks * 512 for path in lab.partials.iterdir())
            left: list[Path] = []
            if what == "bytes":
                left.append(fill(lab.backups, but=pages * PAGE - begun))
            else:
                for number in range(os.statvfs(lab.backups).f_ffree):
                    left.append(lab.backups / f"filler-{number}")
                    left[-1].touch()
            locker.release()
            row = failed(lab, create)
        assert "cannot be published" in row.error_message, told(row)
        assert "No space left" in row.error_detail
        assert "Free some space" in row.error_hint
        for each in left:
            each.unlink()
        lab.check()


@only_root
def test_a_disk_that_is_full_when_the_catalogue_commits_loses_nothing(lab: Lab, sqlite_template):
    instance = lab.settings.instance_dir
    with small_disk(instance):
        shutil.copy(sqlite_template, instance / "catalogue.db")
        lab.make_backup()
        with locked(lab.database) as locker:
            create = waiting_backup(lab)
            filler = fill(instance)
            locker.release()
            assert create.wait(PATIENCE) == 1, log_of(create)
        assert "Error: " in log_of(create)
        assert "full" in log_of(create)
        assert "Hint: " in log_of(create)
        assert "Traceback" not in log_of(create)
        refused = lab.flask("backup", "create")
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        filler.unlink()
        lab.check()
        lab.close()


@only_root
def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_lost(lab: Lab):
    with small_disk(lab.backups):
        lab.make_backup()
        subprocess.run(["mount", "-o", "remount,ro", lab.backups], check=True)
        row = failed(lab, lab.start("backup", "create"))
        assert "cannot be written" in row.error_message
        assert "Read-only file system" in row.error_detail
        assert "BACKSTOP_BACKUP_DIR" in row.error_hint
        subprocess.run(["mount", "-o", "remount,rw", lab.backups], check=True)
        lab.check()


def test_a_folder_that_is_taken_away_meanwhile_fails_the_run(lab: Lab):
    away = lab.backups.with_name("away")
    lab.make_backup()
    with locked(lab.database) as locker:
        create = waiting_backup(lab)
        lab.backups.rename(away)
        locker.release()
        row = failed(lab, create)
    assert row.error_message, told(row)
    shutil.rmtree(lab.backups, ignore_errors=True)
    away.rename(lab.backups)
    lab.check()


def test_a_file_in_place_of_the_folder_is_told(lab: Lab):
    lab.backups.write_text("not a folder")
    row = failed(lab, lab.start("backup", "create"))
    assert "cannot be written" in row.error_message, told(row)
    assert row.error_hint
    lab.backups.unlink()
    lab.check()
