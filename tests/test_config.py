"""Settings: defaults, files, and wrong values that stop the start by name."""

import os
from dataclasses import fields
from pathlib import Path

import pytest

from app.config import Settings, load_settings, name_of
from app.errors import ConfigurationError
from app.keys import private_secret


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BACKSTOP_INSTANCE_DIR", str(tmp_path / "instance"))


def test_defaults_are_those_of_the_documentation(tmp_path: Path):
    found = load_settings(dotenv=None)
    assert found.database_url is None
    assert found.listen == "127.0.0.1:3000"
    assert found.catalogue_url == f"sqlite:///{tmp_path}/instance/catalogue.db"
    assert found.queue_url == f"sqlite:///{tmp_path}/instance/queue.db"
    assert (found.lock_timeout, found.stall_timeout, found.dump_timeout) == (30, 300, 86_400)
    assert (found.api_wait, found.trusted_proxies) == (50, 0)
    assert (found.admin_username, found.admin_password) == ("admin", None)


def test_every_setting_is_documented():
    documented = (Path(__file__).parent.parent / "docs/reference/settings.md").read_text()
    names = {name_of(setting.name) for setting in fields(Settings)}
    assert {name for name in names if f"`{name}`" not in documented} == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKSTOP_LISTEN", "3000"),
        ("BACKSTOP_LISTEN", "127.0.0.1:99999"),
        ("BACKSTOP_LISTEN", "http://127.0.0.1:3000"),
        ("BACKSTOP_LOCK_TIMEOUT", "soon"),
        ("BACKSTOP_STALL_TIMEOUT", "0"),
        ("BACKSTOP_DUMP_TIMEOUT", "-5"),
        ("BACKSTOP_API_WAIT", "1.5"),
        ("BACKSTOP_API_WAIT", "-1"),
        ("BACKSTOP_TRUSTED_PROXIES", "all"),
        ("BACKSTOP_COMPRESSION", "zip"),
        ("BACKSTOP_COMPRESSION", "zstd:3,long"),
        ("BACKSTOP_COMPRESSION", "zstd:; rm -rf /"),
        ("BACKSTOP_CATALOGUE_URL", "mysql://localhost/x"),
        ("BACKSTOP_CATALOGUE_URL", "postgresql://u:canary@host:port/x"),
        ("BACKSTOP_ALARM_MAX_AGE", "never"),
        ("BACKSTOP_ALARM_FREE_SPACE", "1GB"),
        ("BACKSTOP_ALARM_FREE_SPACE", "0GiB"),
        ("BACKSTOP_ALARM_SMALLER", "0.5"),
        ("BACKSTOP_ALARM_SLOWER", "-300%"),
        ("BACKSTOP_ALARM_FEWER_TABLES", "90"),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY_FILE", "/nowhere/at/all"),
    ],
)
def test_a_wrong_value_stops_the_start_and_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as wrong:
        load_settings(dotenv=None)
    assert wrong.value.message.startswith("a setting is wrong: ")
    assert name in wrong.value.message
    assert "canary" not in wrong.value.in_words()


@pytest.mark.parametrize(
    ("value", "seconds"), [("30", 30), ("30s", 30), ("5min", 300), ("24h", 86_400), ("2d", 172_800)]
)
def test_durations_have_units(monkeypatch: pytest.MonkeyPatch, value: str, seconds: int):
    monkeypatch.setenv("BACKSTOP_DUMP_TIMEOUT", value)
    assert load_settings(dotenv=None).dump_timeout == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKSTOP_METRICS_TOKEN", "too short"),
        ("BACKSTOP_METRICS_LISTEN", "9187"),
        ("BACKSTOP_METRICS_LISTEN", "localhost:70000"),
        ("BACKSTOP_LOG_FORMAT", "xml"),
    ],
)
def test_what_others_read_is_set_right_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    found = load_settings(dotenv=None)
    assert (found.metrics_token, found.metrics_listen, found.log_format) == (None, None, "text")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        load_settings(dotenv=None)


def test_alarms_have_bounds_or_are_off(monkeypatch: pytest.MonkeyPatch):
    for name, value in (("FREE_SPACE", "20 GiB"), ("SMALLER", "off"), ("MAX_AGE", "8d")):
        monkeypatch.setenv(f"BACKSTOP_ALARM_{name}", value)
    found = load_settings(dotenv=None)
    assert (found.alarm_free_space, found.alarm_smaller) == (20 * 1024**3, 0)
    assert (found.alarm_max_age, found.alarm_slower) == (8 * 86_400, 300)


@pytest.mark.parametrize("value", ["zstd:3", "zstd:level=3,long", "zstd:long", "gzip", "9", "none"])
def test_compression_is_written_as_pg_dump_writes_it(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("BACKSTOP_COMPRESSION", value)
    assert load_settings(dotenv=None).compression == value


def test_an_empty_setting_is_no_setting(monkeypatch: pytest.MonkeyPatch):
    for name in ("BACKSTOP_API_WAIT", "BACKSTOP_LOCK_TIMEOUT", "BACKSTOP_LISTEN", "DATABASE_URL"):
        monkeypatch.setenv(name, "")
    found = load_settings(dotenv=None)
    assert (found.api_wait, found.lock_timeout) == (50, 30)
    assert (found.listen, found.database_url) == ("127.0.0.1:3000", None)


def test_a_secret_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "url"
    file.write_text("postgresql://ann@db/shop\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(file))
    assert load_settings(dotenv=None).database_url == "postgresql://ann@db/shop"


def test_dotenv_gives_way_to_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("BACKSTOP_API_WAIT=7\nBACKSTOP_ADMIN_USERNAME=ann\n")
    monkeypatch.setenv("BACKSTOP_API_WAIT", "9")
    found = load_settings(dotenv)
    assert (found.api_wait, found.admin_username) == (9, "ann")


def test_the_secret_key_is_generated_once_and_private(tmp_path: Path):
    first = load_settings(dotenv=None).secret_key
    assert load_settings(dotenv=None).secret_key == first
    assert (tmp_path / "instance" / "secret_key").stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "instance").glob(".secret_key*")) == []


def test_two_starts_at_once_agree_on_the_secret(tmp_path: Path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(private_secret, [tmp_path / "key"] * 8))
    assert len(found) == 1


def test_an_instance_folder_that_cannot_be_made_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BACKSTOP_INSTANCE_DIR", str(tmp_path / "file" / "instance"))
    with pytest.raises(ConfigurationError, match="BACKSTOP_INSTANCE_DIR"):
        load_settings(dotenv=None)


def test_the_instance_folder_lets_others_pass_but_not_look(tmp_path: Path):
    before = os.umask(0o077)
    try:
        load_settings(dotenv=None)
    finally:
        os.umask(before)
    # The account of the embedded server must get to its data.
    assert (tmp_path / "instance").stat().st_mode & 0o777 == 0o711
