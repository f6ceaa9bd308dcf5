"""The door to Apprise: what is sent, what is told of failures, and what is never told."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from app import notifiers
from app.errors import Busy, InvalidInput, NotifierError
from tests.listeners import listening


def test_a_message_arrives_as_it_was_written():
    with listening() as right:
        notifiers.send(right.url, "Backup of <b>shop</b>", "line one\nline $two", level="failure")
    (message,) = right.messages
    assert message["title"] == "Backup of <b>shop</b>"
    assert message["message"] == "line one\nline $two"
    assert message["type"] == "failure"


@pytest.mark.parametrize("answers", [500, 404])
def test_a_refusal_is_told_without_the_secrets_of_the_url(answers: int):
    with listening(answers) as wrong, pytest.raises(NotifierError) as refused:
        notifiers.send(wrong.url, "title", "body")
    assert str(answers) in refused.value.detail
    assert "canary" not in refused.value.in_words()


def test_whatever_a_carrier_says_no_part_of_its_url_is_told():
    url = "tgram://123456789:canary%2Dtoken/canary-chat/?image=canary#canary-topic"
    said = ["POST /bot123456789:canary-token/send", "canary%2Dtoken canary-chat", f"Failed: {url}"]
    told = notifiers._told([*said, "canary-topic\x1b[2J\nerror=401"], url)
    assert "canary" not in told
    assert "123456789" not in told
    assert told.endswith("*****?[2J error=401")


def test_nobody_there_is_told():
    with pytest.raises(NotifierError, match="not accepted") as refused:
        notifiers.send("json://ann:canary-pw@127.0.0.1:1/canary-path", "title", "body")
    assert "onnection" in refused.value.detail
    assert "canary" not in refused.value.in_words()


@pytest.mark.parametrize("path", ["/?rto=600", "/?rto=600&cto=600&retry=9"])
def test_one_that_hangs_is_ended_in_time(path: str):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system accepts, nobody answers
        url = f"json://ann:canary-pw@127.0.0.1:{silent.getsockname()[1]}{path}"
        began = time.monotonic()
        with pytest.raises(NotifierError, match="no answer within 1 s") as late:
            notifiers.send(url, "title", "body", seconds=1)
    assert time.monotonic() - began < 20  # Apprise alone would wait for ten minutes
    assert "canary" not in late.value.in_words()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("json://ann:canary-pw@hooks.example.org:8080/canary-path", "json://hooks.example.org (J"),
        ("mailtos://ann:canary-pw@mail.example.org", "mailtos://mail.example.org (E-Mail)"),
        ("tgram://123456789:canary_abcdefghijkl/12315544/", "tgram://… (Telegram)"),
        ("ntfy://canary-topic", "ntfy://… (ntfy)"),
        ("https://discord.com/api/webhooks/4174216298/canaryBe7bk2ZwO5U711o3dV", "https://… (Di"),
    ],
)
def test_of_a_url_only_scheme_host_and_service_are_told(url: str, told: str):
    found = str(notifiers.check(url))
    assert found.startswith(told)
    assert "canary" not in found


@pytest.mark.parametrize(
    "url",
    [
        "canary-nonsense",
        "canary://host",
        "json://",
        "file:///etc/canary",
        "tgram://canary",
        # They talk to this machine.
        "dbus://",
        "gnome://",
        "windows://",
        "syslog://",
        "macosx://",
    ],
)
def test_what_is_no_notifier_is_refused(url: str):
    with pytest.raises(InvalidInput, match="not a valid URL of a notifier") as refused:
        notifiers.check(url)
    assert "canary" not in refused.value.in_words()


def test_no_file_of_ours_is_sent_along(tmp_path: Path):
    secret = tmp_path / "secret_key"
    secret.write_text('{"text": "canary"}')
    tokens = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    for url in (
        f"slack://{tokens}/#c?template={secret}",
        f"slack://{tokens}?template=file://{secret}",
    ):
        with pytest.raises(InvalidInput):
            notifiers.check(url)
    notifiers.check(f"slack://{tokens}/#c")


def test_no_other_address_is_fetched_for_a_message():
    with listening() as listener:
        template = f"http://{listener.at}/secret"
        for scheme in ("workflows", "slack", "msteams"):
            url = f"{scheme}://{listener.at}/workflow/signature?template={template}"
            with suppress(NotifierError):
                notifiers.send(url, "title", "body", seconds=5)
        assert listener.fetched == []


def test_a_check_that_takes_too_long_can_be_asked_for_again(monkeypatch: pytest.MonkeyPatch):
    def slow(_asked: object, seconds: int) -> None:
        raise notifiers._too_late(seconds)

    monkeypatch.setattr(notifiers, "_ask", slow)
    with pytest.raises(Busy, match="could not be checked in time") as told:
        notifiers.check("json://hooks.example.org")
    assert told.value.retry_after == 10


def test_only_a_few_are_checked_at_once(monkeypatch: pytest.MonkeyPatch):
    release, begun = threading.Event(), threading.Semaphore(0)

    def hang(_asked: object, _seconds: int) -> dict[str, object]:
        begun.release()
        release.wait()
        return {"ok": True, "service": "JSON", "host": ""}

    monkeypatch.setattr(notifiers, "_ask", hang)
    monkeypatch.setattr(notifiers, "_PATIENCE", 0.01)
    threads = [
        threading.Thread(target=notifiers.check, args=("json://hooks.example.org",))
        for _ in range(notifiers._AT_ONCE)
    ]
    for each in threads:
        each.start()
        begun.acquire()
    with pytest.raises(Busy, match="too many URLs"):
        notifiers.check("json://hooks.example.org")
    release.set()
    for each in threads:
        each.join()
    notifiers.check("json://hooks.example.org")


def test_the_carrier_sees_none_of_our_settings(monkeypatch: pytest.MonkeyPatch):
    from app.notifiers import _PASSED

    for name in ("DATABASE_URL", "SECRET_KEY", "BACKSTOP_ADMIN_PASSWORD", "PGPASSWORD", "MY_PATH"):
        assert not _PASSED.fullmatch(name)
    assert all(_PASSED.fullmatch(each) for each in ("PATH", "https_proxy", "SSL_CERT_FILE"))


def test_a_heartbeat_monitor_hears_start_success_and_failure():
    with listening() as monitor:
        base = f"http://{monitor.at}/ping/uuid/"
        notifiers.ping(base, "start", "")
        notifiers.ping(f"{base}?rid=1", "", "all is well")
        notifiers.ping(base, "fail", "pg_dump: error: ü")
    assert monitor.heard == [
        ("/ping/uuid/start", ""),
        ("/ping/uuid?rid=1", "all is well"),
        ("/ping/uuid/fail", "pg_dump: error: ü"),
    ]


@pytest.mark.parametrize("answers", [302, 404, 503])
def test_a_heartbeat_that_is_not_taken_is_told(answers: int):
    with listening(answers) as monitor, pytest.raises(NotifierError) as refused:
        notifiers.ping(f"http://{monitor.at}/canary-uuid", "", "")
    assert f"status {answers}" in refused.value.detail
    assert "canary" not in refused.value.in_words()
    assert len(monitor.heard) == 1  # nobody was sent elsewhere
