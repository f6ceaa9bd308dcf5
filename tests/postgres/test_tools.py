"""Which programs are found, and which are chosen: the machine's own, and scripts."""

import os
import shutil
from pathlib import Path

import pytest

from app.errors import ConfigurationError, ToolError
from app.postgres import tools
from app.postgres.tools import Toolchain, Version, choose_toolchain, find_toolchains
from tests.servers import programs, toolchain


@pytest.fixture(autouse=True)
def ask_anew():
    """What an earlier test found out is forgotten."""
    tools._probe.cache_clear()


def a_program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def a_pair(folder: Path, version: str, restore_version: str = "") -> Path:
    """Programs that say no more than their version."""
    a_program(folder / "pg_dump", f"echo 'pg_dump (PostgreSQL) {version}'")
    a_program(folder / "pg_restore", f"echo 'pg_restore (PostgreSQL) {restore_version or version}'")
    return folder


def a_chain(version: str, *methods: str, folder: str = "/x") -> Toolchain:
    return Toolchain(Path(folder), Version(*map(int, version.split("."))), frozenset(methods))


# Versions


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("pg_dump (PostgreSQL) 17.10", (17, 10)),
        ("pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", (15, 20)),
        ("pg_dump (PostgreSQL) 18beta1", (18, 0)),
        ("pg_dump (PostgreSQL) 9.6.24", (9, 6)),
    ],
)
def test_a_version_is_read_from_what_programs_say(text: str, version: tuple[int, int]):
    assert Version.of_text(text) == version


@pytest.mark.parametrize("text", ["", "pg_dump: command not found", "mysqldump 8.0"])
def test_a_program_that_says_no_version_is_an_error(text: str):
    with pytest.raises(ToolError, match="does not print its version"):
        Version.of_text(text)


@pytest.mark.parametrize(
    ("number", "version"), [(170010, "17.10"), (100023, "10.23"), (90624, "9.6")]
)
def test_a_version_is_read_from_what_servers_say(number: int, version: str):
    assert str(Version.of_number(number)) == version


def test_versions_are_ordered_by_number():
    assert Version(9, 6) < Version(10, 0) < Version(15, 9) < Version(15, 10)


# Finding


def test_the_wheel_and_debian_s_are_found():
    found = {each.folder: each.version for each in find_toolchains()}
    assert found[programs(15)].major == 15
    assert found[programs(17)].major == 17


@pytest.mark.parametrize(
    ("major", "methods"),
    [
        (15, {"none", "gzip"}),
        (17, {"none", "gzip", "lz4", "zstd"}),
        (18, {"none", "gzip"}),
    ],
)
def test_what_a_program_can_compress_with_is_found_out(major: int, methods: set[str]):
    found = toolchain(major)
    assert found.version.major == major
    assert found.methods == methods
    assert found.pg_dump == programs(major) / "pg_dump"
    assert found.pg_restore == programs(major) / "pg_restore"


def test_programs_on_the_path_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a_pair(tmp_path / "bin", "42.1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert Version(42, 1) in [each.version for each in find_toolchains()]


def test_programs_in_the_usual_folders_are_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = a_pair(tmp_path / "postgresql" / "42" / "bin", "42.1")
    monkeypatch.setattr(tools, "_FOLDERS", (f"{tmp_path}/postgresql/*/bin",) * 2)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert [each.folder for each in find_toolchains()].count(folder) == 1


def test_a_machine_without_programs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tools, "_FOLDERS", ())
    monkeypatch.setattr(tools, "wheel_bin_dir", None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_toolchains() == []
    with pytest.raises(ToolError, match="no pg_dump was found") as refused:
        choose_toolchain([], Version(17, 0))
    assert "BACKSTOP_PG_BIN_DIR" in refused.value.hint


def test_a_folder_that_was_asked_for_is_the_only_one(tmp_path: Path):
    folder = a_pair(tmp_path, "42.1")
    assert [each.folder for each in find_toolchains(folder)] == [folder]


@pytest.mark.parametrize("lacking", ["pg_dump", "pg_restore", "both", "the folder"])
def test_a_folder_that_was_asked_for_and_lacks_programs_is_a_wrong_setting(
    lacking: str, tmp_path: Path
):
    folder = a_pair(tmp_path / "bin", "17.1")
    for name in {"both": ["pg_dump", "pg_restore"], "the folder": []}.get(lacking, [lacking]):
        (folder / name).unlink()
    if lacking == "the folder":
        shutil.rmtree(folder)
    with pytest.raises(ConfigurationError, match="BACKSTOP_PG_BIN_DIR") as refused:
        find_toolchains(folder)
    assert str(folder) in refused.value.message
    assert "both" in refused.value.hint


def test_a_folder_of_two_versions_is_not_used(tmp_path: Path):
    (tmp_path / "pg_dump").symlink_to(programs(17) / "pg_dump")
    (tmp_path / "pg_restore").symlink_to(programs(15) / "pg_restore")
    with pytest.raises(ConfigurationError, match="no usable"):
        find_toolchains(tmp_path)


def test_a_folder_of_two_minor_versions_is_not_used(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no usable"):
        find_toolchains(a_pair(tmp_path, "17.1", "17.2"))


@pytest.mark.parametrize(
    "script",
    ["exit 127", "echo no version", "kill -SEGV $$", "echo 'error while loading libpq.so' >&2"],
)
def test_a_broken_program_is_not_used(script: str, tmp_path: Path):
    a_pair(tmp_path, "17.1")
    a_program(tmp_path / "pg_dump", script)
    with pytest.raises(ConfigurationError, match="no usable"):
        find_toolchains(tmp_path)


def test_a_program_of_another_machine_is_not_used(tmp_path: Path):
    a_pair(tmp_path, "17.1")
    (tmp_path / "pg_restore").write_bytes(b"\x7fELF for another machine")
    with pytest.raises(ConfigurationError, match="no usable"):
        find_toolchains(tmp_path)


def test_a_program_that_may_not_be_run_is_not_used(tmp_path: Path):
    a_pair(tmp_path, "17.1")
    (tmp_path / "pg_dump").chmod(0o600)
    with pytest.raises(ConfigurationError, match="no usable"):
        find_toolchains(tmp_path)


@pytest.mark.parametrize("script", ["exec sleep 60", "exec >&- 2>&-; exec sleep 60"])
def test_a_program_that_hangs_is_not_used(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tools, "_PROBE_TIMEOUT", 0.3)
    a_pair(tmp_path, "17.1")
    a_program(tmp_path / "pg_dump", script)
    with pytest.raises(ConfigurationError, match="no usable"):
        find_toolchains(tmp_path)


def test_broken_programs_do_not_hide_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a_program(a_pair(tmp_path / "15" / "bin", "15.1") / "pg_dump", "exit 1")
    good = a_pair(tmp_path / "16" / "bin", "16.1")
    monkeypatch.setattr(tools, "_FOLDERS", (f"{tmp_path}/*/bin",))
    assert good in [each.folder for each in find_toolchains()]
    assert tmp_path / "15" / "bin" not in [each.folder for each in find_toolchains()]


def test_programs_are_asked_again_after_an_upgrade_only(tmp_path: Path):
    a_pair(tmp_path, "17.1")
    a_program(
        tmp_path / "pg_dump", f"echo x >> '{tmp_path}/asked'; echo 'pg_dump (PostgreSQL) 17.1'"
    )
    assert find_toolchains(tmp_path)[0].version == (17, 1)
    times = (tmp_path / "asked").read_text()
    assert find_toolchains(tmp_path)[0].version == (17, 1)
    assert (tmp_path / "asked").read_text() == times
    a_pair(tmp_path, "17.2")
    for each in tmp_path.iterdir():
        os.utime(each, (1, 1))
    assert find_toolchains(tmp_path)[0].version == (17, 2)


# Choosing


@pytest.mark.parametrize(
    ("server", "chosen"),
    [("15.3", "15.9"), ("16.1", "17.10"), ("17.99", "17.10"), ("18.0", "18.2"), ("9.6", "15.9")],
)
def test_the_same_major_comes_first_and_then_the_next_newer_one(server: str, chosen: str):
    chains = [a_chain(each) for each in ("18.2", "17.4", "15.1", "17.10", "15.9", "17.9")]
    version = Version(*map(int, server.split(".")))
    assert str(choose_toolchain(chains, version).version) == chosen


def test_of_the_same_version_the_first_one_found_is_chosen():
    chains = [a_chain("17.1", folder="/first"), a_chain("17.1", folder="/second")]
    assert choose_toolchain(iter(chains), Version(17, 1)).folder == Path("/first")


def test_a_server_that_is_too_new_is_refused_and_both_versions_are_named():
    with pytest.raises(ToolError) as refused:
        choose_toolchain([toolchain(17), a_chain("15.1")], Version(18, 6))
    assert f"pg_dump {toolchain(17).version}" in refused.value.message
    assert "18.6" in refused.value.message
    assert "PostgreSQL 18 or newer" in refused.value.hint


# Compression


@pytest.mark.parametrize(
    ("methods", "best"),
    [({"none", "gzip", "lz4", "zstd"}, "zstd:1"), ({"none", "gzip", "lz4"}, "gzip")],
)
def test_the_best_compression_is_taken_by_itself(methods: set[str], best: str):
    assert a_chain("17.1", *methods).compression(None) == best


@pytest.mark.parametrize("wanted", ["9", "0", "gzip", "gzip:9", "gzip:level=3", "none"])
def test_wanted_compression_is_taken_as_it_is(wanted: str):
    for major in (15, 17, 18):
        assert toolchain(major).compression(wanted) == wanted


@pytest.mark.parametrize("wanted", ["zstd", "zstd:3", "zstd:3,long", "zstd,long", "lz4:1"])
def test_wanted_compression_that_is_not_there_is_refused(wanted: str):
    assert toolchain(17).compression(wanted) == wanted
    for major in (15, 18):
        chain = toolchain(major)
        with pytest.raises(ToolError, match=f"pg_dump {chain.version} cannot compress") as refused:
            chain.compression(wanted)
        assert "gzip, none" in refused.value.detail
        assert "BACKSTOP_COMPRESSION" in refused.value.hint


def test_programs_that_can_not_even_gzip_have_no_best_of_their_own():
    assert a_chain("17.1", "none").compression(None) == "none"
