"""flask backup download."""

from pathlib import Path

from flask import Flask

from tests.cli.test_backup import Flask_backup, flask_backup, newest

__all__ = ["flask_backup"]


def test_download_copies_the_dump_and_never_overwrites(
    flask_backup: Flask_backup, app: Flask, tmp_path: Path
):
    flask_backup("create")
    name, target = newest(app), tmp_path / "copy.dump"
    assert flask_backup("download", name, "-o", str(target)).exit_code == 0
    stored = (app.extensions["backstop.settings"].backup_dir / name).read_bytes()
    assert target.read_bytes() == stored
    again = flask_backup("download", name, "-o", str(target))
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert flask_backup("download", name, "-o", "-").stdout_bytes == stored
    nowhere = flask_backup("download", name, "-o", str(tmp_path / "no" / "copy.dump"))
    assert nowhere.exit_code == 1
    assert "cannot be written" in nowhere.stderr


def test_a_changed_dump_is_not_downloaded(flask_backup: Flask_backup, app: Flask, tmp_path: Path):
    flask_backup("create")
    dump = app.extensions["backstop.settings"].backup_dir / newest(app)
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    result = flask_backup("download", newest(app), "-o", str(tmp_path / "copy"))
    assert result.exit_code == 1
    assert "was changed since it was made" in result.stderr
    assert list(tmp_path.glob("*copy*")) == []
