"""A folder of somebody else, in which root runs a command of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import ROOT

ROOTS_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")


def doctor(folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "COV"))}
    own = {
        "BACKSTOP_INSTANCE_DIR": str(folder / "instance"),
        "BACKSTOP_BACKUP_DIR": str(folder / "backups"),
        "DATABASE_URL": "postgresql://ann@127.0.0.1:1/shop",
    }
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", str(ROOT / "wsgi.py"), "doctor"],
        cwd=folder / "theirs" / "below",
        env=kept | own | more,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A program of theirs, and a file that has it run."""
    folder = tmp_path / "theirs"
    (folder / "below").mkdir(parents=True)
    (folder / "bin").mkdir()
    for name in ("pg_dump", "pg_restore", "psql"):
        program = folder / "bin" / name
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        program.chmod(0o755)
    (folder / ".env").write_text(f"BACKSTOP_PG_BIN_DIR={folder}/bin\n")
    return folder


@ROOTS_ALONE
@pytest.mark.parametrize("name", [".env", ".flaskenv"])
def test_a_file_of_somebody_else_has_no_program_run(tmp_path: Path, theirs: Path, name: str):
    file = (theirs / ".env").rename(theirs / name)
    os.chown(file, 65534, 65534)
    result = doctor(tmp_path)
    assert (result.returncode, result.stderr.count("Error:")) == (1, 1)
    assert f"{file} may be written by somebody else" in result.stderr
    assert not (tmp_path / "ran").exists()
    assert "BACKSTOP_PG_BIN_DIR" not in doctor(tmp_path, FLASK_SKIP_DOTENV="1").stdout
    assert not (tmp_path / "ran").exists()


def test_a_file_that_everybody_may_write_is_refused_too(tmp_path: Path, theirs: Path):
    (theirs / ".env").chmod(0o666)
    assert "may be written by somebody else" in doctor(tmp_path).stderr
    assert not (tmp_path / "ran").exists()


def test_a_file_of_ones_own_is_read(tmp_path: Path, theirs: Path):
    doctor(tmp_path)
    assert (tmp_path / "ran").exists()
