"""Folders, their rights, and the key."""

import os
from pathlib import Path

import pytest
from flask import Flask

from app.config import settings as current_settings
from app.services.health.doctor import Finding, State, machine
from tests.servers import only_by_root
from tests.services.health.doctor.conftest import OK, PROBLEM, WARNING, changed, found

pytestmark = pytest.mark.usefixtures("context")


def test_a_backup_folder_will_be_made(app: Flask, tmp_path: Path):
    with changed(app, backup_dir=tmp_path / "not" / "yet"):
        line = found("backup folder")
        assert line.state is OK
        assert "will be made" in line.told
        assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("mode", "state"),
    [
        (0o700, OK),
        (0o711, OK),
        (0o750, WARNING),
        (0o755, WARNING),
        (0o702, PROBLEM),
        (0o777, PROBLEM),
    ],
)
def test_the_backup_folder_should_be_for_us_alone(mode: int, state: State):
    folder = current_settings().backup_dir
    folder.mkdir()
    folder.chmod(mode)
    line = found("backup folder")
    assert line.state is state
    assert ("chmod" in line.hint) is (state is not OK)
    assert list(folder.iterdir()) == []


def test_a_group_may_write_only_if_it_is_the_users_own(tmp_path: Path):
    tmp_path.chmod(0o770)
    about = tmp_path.stat()
    own = os.stat_result((*about[:4], 1000, 1000, *about[6:]))
    shared = os.stat_result((*about[:4], 1000, 100, *about[6:]))
    assert not machine._others_may_write(own)
    assert machine._others_may_write(shared)


@only_by_root
def test_folders_of_another_user_are_a_problem():
    folder = current_settings().backup_dir
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    line = found("backup folder")
    assert line.state is PROBLEM
    assert "belongs to uid 12345" in line.told


def test_a_file_in_the_place_of_a_folder_is_a_problem():
    current_settings().backup_dir.write_text("")
    assert "is not a folder" in found("backup folder").told


def test_a_folder_that_cannot_be_written_is_a_problem(app: Flask):
    with changed(app, backup_dir=Path("/proc/sys")):
        line = found("backup folder")
    assert line.state is PROBLEM
    assert "/proc/sys cannot be written" in line.told
    assert line.hint


def test_a_folder_that_cannot_be_made_is_a_problem(app: Flask, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with changed(app, backup_dir=tmp_path / "file" / "backups"):
        line = found("backup folder")
    assert line.state is PROBLEM
    assert "cannot be made" in line.told


@pytest.mark.parametrize(("mode", "state"), [(0o711, OK), (0o755, OK), (0o777, PROBLEM)])
def test_the_instance_folder_may_be_entered_but_not_written_by_others(mode: int, state: State):
    current_settings().instance_dir.chmod(mode)
    assert found("instance folder").state is state


def test_a_key_from_the_environment_is_fine():
    assert found("secret key") == Finding(
        "secret key", OK, "from SECRET_KEY or the file that SECRET_KEY_FILE names"
    )


@pytest.mark.parametrize(
    ("mode", "state"), [(0o600, OK), (0o400, OK), (0o640, PROBLEM), (0o604, PROBLEM)]
)
def test_a_key_in_a_file_is_for_us_alone(mode: int, state: State):
    key = current_settings().instance_dir / "secret_key"
    key.write_text(f"{current_settings().secret_key}\n")
    key.chmod(mode)
    line = found("secret key")
    assert line.state is state
    assert current_settings().secret_key not in str(line)
    assert (f"chmod 600 {key}" in line.hint) is (state is PROBLEM)
