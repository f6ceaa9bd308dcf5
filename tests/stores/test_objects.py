"""Services of objects that refuse, break or say nothing."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from app.errors import (
    AppError,
    ObjectLocked,
    ObjectMissing,
    StorageError,
    StorageFull,
    StoreDenied,
    StoreUnreachable,
)
from app.stores import Protections, Store, check_store, open_store
from app.stores.objects import part_size
from tests.stores.servers import BUCKET, KEYS, Place, s3_client

GIB = 1024**3

#: One by obstore, one by botocore where it is S3.
ATTEMPTS: tuple[Callable[[Store], object], ...] = (
    lambda store: store.put("a", [b"1"]),
    lambda store: list(store.list()),
)


def words(error: AppError) -> str:
    return f"{error.message} {error.detail} {error.hint}"


# What real services refuse


@pytest.mark.parametrize("kind", ["localbucket", "moto", "azurite"])
def test_a_wrong_bucket_is_named(kind: str, request: pytest.FixtureRequest, prefix: str):
    place: Place = request.getfixturevalue(kind)
    store = open_store(place.url(prefix).replace(BUCKET, "nobodys"), place.credentials)
    for attempt in (
        lambda: store.put("a", [b"1"]), lambda: store.put_new("a", b"1"), lambda: store.read("a"),
        lambda: list(store.list()),
    ):  # fmt: skip
        with pytest.raises(StorageError, match="the bucket does not exist") as refused:
            attempt()
        assert "Backstop creates none" in refused.value.hint
    steps = list(check_store(store))
    assert steps[0].passed is False
    assert "the bucket does not exist" in steps[0].detail
    assert {step.detail for step in steps[1:]} == {"not tried"}


def test_wrong_credentials_are_named_and_kept_secret(azurite: Place, moto: Place, prefix: str):
    requests.post(f"{moto.endpoint}/moto-api/reset-auth", data=b"0", timeout=10)
    try:
        for store in (
            azurite.open(prefix, access_key="c2VjcmV0IGFuZCB3cm9uZyE="),
            azurite.open(prefix, sas_token="sv=2021-08-06&sp=rwdl&sr=c&sig=secret-and-wrong"),
            moto.open(prefix, access_key_id="AKIANOBODY", secret_access_key="secret-and-wrong"),
        ):
            for attempt in ATTEMPTS:
                with pytest.raises(StoreDenied, match=r"are wrong|access is denied") as refused:
                    attempt(store)
                assert not re.search("secret.and|c2VjcmV0", words(refused.value))
                assert refused.value.hint
    finally:
        requests.post(f"{moto.endpoint}/moto-api/reset-auth", data=b"1000000", timeout=10)


def test_without_credentials_s3_says_so(moto: Place, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(StoreDenied, match="no credentials"):
        open_store(moto.url("x"))


def test_credentials_are_taken_from_the_environment(
    moto: Place, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the environment")
    store = open_store(moto.url(prefix))
    store.put("a", [b"1"])
    assert [found.key for found in store.list()] == ["a"]


# Amazon's own ways


def test_hostile_keys_are_listed_as_they_are(moto: Place, prefix: str):
    client = s3_client(moto)
    hostile = ["h//x", "h/.", "h/%2e%2e/x", "ü ", "a\\b", "-rf"]
    for key in hostile:
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=b"1")
    assert sorted(found.key for found in moto.open(prefix).list()) == sorted(hostile)


def test_uploads_that_never_ended_are_found_and_aborted(moto: Place, prefix: str):
    client = s3_client(moto)
    for key in (f"{prefix}/a.dump", f"{prefix}2/others"):
        upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"1")
    store = moto.open(prefix)
    assert store.remove_unfinished(timedelta(days=365 * 100)) == 0
    assert store.remove_unfinished(timedelta(0)) == 1
    assert store.remove_unfinished(timedelta(0)) == 0
    assert moto.open(f"{prefix}2").remove_unfinished(timedelta(0)) == 1


def test_an_object_that_is_locked_is_told_as_such(moto: Place, prefix: str):
    client = s3_client(moto)
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    store = open_store(moto.url(prefix).replace(BUCKET, "locked"), KEYS)
    for key, day in (("kept", 1), ("held", -1), ("free", -1)):
        client.put_object(
            Bucket="locked", Key=f"{prefix}/{key}", Body=b"1", ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=day),
            ObjectLockLegalHoldStatus="ON" if key == "held" else "OFF",
        )  # fmt: skip
    with pytest.raises(ObjectLocked, match=r"kept is locked until 20\d\d-"):
        store.delete("kept")
    with pytest.raises(ObjectLocked, match="legal hold"):
        store.delete("held")
    store.delete("free")
    assert sorted(found.key for found in store.list()) == ["held", "kept"]
    assert store.protections() == Protections(
        versioning=True, object_lock=True, aborts_unfinished=False
    )


@pytest.mark.parametrize(
    ("scope", "covers"), [("", True), ("panel/", True), ("panel/elsewhere/", False)]
)
def test_a_rule_that_aborts_uploads_is_found(moto: Place, prefix: str, scope: str, covers: bool):
    s3_client(moto).put_bucket_lifecycle_configuration(
        Bucket=BUCKET,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "abort",
                    "Status": "Enabled",
                    "Filter": {"Prefix": scope},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                }
            ]
        },
    )
    assert moto.open(prefix).protections().aborts_unfinished is covers


def test_what_an_unprotected_bucket_lacks_is_a_warning(localbucket: Place, moto: Place, prefix):
    s3_client(moto).delete_bucket_lifecycle(Bucket=BUCKET)
    warned = [step for step in check_store(moto.open(prefix)) if step.hint]
    assert [step.name for step in warned] == ["versioning", "object lock", "unfinished uploads"]
    assert {step.detail for step in warned} == {"off"}
    assert localbucket.open(prefix).protections() == Protections()


def test_parts_grow_so_that_five_tebibytes_fit():
    assert part_size(0) == 8 * 1024**2
    assert part_size(70 * GIB) == 8 * 1024**2
    for size in (80 * GIB, 1024 * GIB, 5 * 1024 * GIB):
        assert part_size(size) * 10_000 > size * 1.04
        assert part_size(size) % 1024**2 == 0


# Services that answer wrongly: canned, since no server here says these


class Answering(ThreadingHTTPServer):
    """Answers uploads and requests as a test says, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, answer: Callable[["Handler"], None]) -> None:
        self.asked: list[str] = []
        self.answer = answer
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: Any) -> None:
        """A client that is gone is what these tests are about."""

    def open(self, timeout: float = 10) -> Store:
        url = f"s3://{BUCKET}/p?endpoint=http://127.0.0.1:{self.server_address[1]}"
        return open_store(url, KEYS, timeout=timeout)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answering

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def handle_one_request(self) -> None:
        self.do_GET = self.do_PUT = self.do_POST = self.do_DELETE = self.do_HEAD = self.answer
        super().handle_one_request()

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"{self.command} {self.path}")
        if self.command == "POST" and "uploads" in self.path:
            self.say(200, "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key>"
                          "<UploadId>u1</UploadId></InitiateMultipartUploadResult>")  # fmt: skip
        elif self.command == "DELETE" and "uploadId=u1" in self.path:
            self.say(204, "")
        else:
            self.server.answer(self)

    def say(self, status: int, body: str, **headers: str) -> None:
        content = f'<?xml version="1.0"?>{body}'.encode() if body else b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def answering(answer: Callable[[Handler], None]) -> Iterator[Answering]:
    with Answering(answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def error(status: int, code: str, more: str = "") -> Callable[[Handler], None]:
    body = f"<Error><Code>{code}</Code><Message>It says so</Message>{more}</Error>"
    return lambda handler: handler.say(status, body)


@pytest.mark.parametrize(
    ("status", "code", "kind", "message", "hint"),
    [
        (301, "PermanentRedirect", StorageError, "in another region", "Set region="),
        (400, "AuthorizationHeaderMalformed", StorageError, "in another region", "=eu-west-3"),
        (400, "ExpiredToken", StoreDenied, "have expired", "new ones"),
        (403, "RequestTimeTooSkewed", StoreDenied, "clock of this machine", "NTP"),
        (403, "SignatureDoesNotMatch", StoreDenied, "credentials are wrong", "secret"),
        (403, "AccessDenied", StoreDenied, "access is denied", "below the prefix"),
        (507, "XMinioStorageFull", StorageFull, "no space", "Free some"),
        (503, "SlowDown", StoreUnreachable, "has trouble", "later"),
        (418, "SomethingNew", StorageError, "cannot be", "log"),
    ],
)
def test_what_a_service_says_becomes_an_error_with_a_hint(
    status: int, code: str, kind: type[AppError], message: str, hint: str
):
    with answering(error(status, code, "<Region>eu-west-3</Region>")) as server:
        store = server.open()
        for attempt in ATTEMPTS:
            with pytest.raises(kind, match=message) as refused:
                attempt(store)
            assert type(refused.value) is kind
            assert hint in refused.value.hint
            assert "http" not in refused.value.detail


def test_trouble_in_the_middle_aborts_the_upload():
    with answering(error(500, "InternalError")) as server:
        with pytest.raises(StoreUnreachable) as refused:
            server.open().put("a.dump", [bytes(9_000_000)] * 3)
        assert refused.value.is_passing
        assert any("DELETE" in asked and "uploadId=u1" in asked for asked in server.asked)
        assert not any("POST" in asked and "uploadId" in asked for asked in server.asked)


def test_a_service_that_freezes_in_the_middle_ends_in_an_error():
    release = threading.Event()
    with answering(lambda _: release.wait(60)) as server:
        started = time.monotonic()
        for attempt in (
            lambda store: store.put("a.dump", [bytes(9_000_000)] * 3),
            lambda store: store.put_new("a.json", b"1"),
            lambda store: store.read("a.dump"),
            lambda store: list(store.list()),
        ):
            with pytest.raises(StoreUnreachable, match="does not answer"):
                attempt(server.open(timeout=0.1))
        assert time.monotonic() - started < 15
        release.set()


def test_a_server_that_accepts_and_never_answers_ends_in_an_error():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"s3://{BUCKET}/p?endpoint=http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreUnreachable, match="does not answer"):
            open_store(url, KEYS, timeout=0.1).put("a.dump", [b"1"])


def test_a_port_where_nobody_listens_is_told():
    store = open_store(f"s3://{BUCKET}/p?endpoint=http://127.0.0.1:1", KEYS, timeout=2)
    for attempt in ATTEMPTS:
        with pytest.raises(StoreUnreachable) as refused:
            attempt(store)
        assert "firewall" in refused.value.hint


def test_https_to_a_server_without_it_is_told(localbucket: Place):
    endpoint = localbucket.endpoint.replace("http", "https")
    store = open_store(f"s3://{BUCKET}/p?endpoint={endpoint}", KEYS, timeout=2)
    for attempt in ATTEMPTS:
        with pytest.raises(StorageError, match="TLS"):
            attempt(store)


@pytest.mark.parametrize("stays_silent", [True, False])
def test_a_download_that_breaks_off_is_never_taken_for_the_end(stays_silent: bool):
    release = threading.Event()

    def half(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "2000000")
        handler.send_header("ETag", '"1"')
        handler.send_header("Last-Modified", "Mon, 12 Oct 2009 17:50:00 GMT")
        handler.end_headers()
        handler.wfile.write(bytes(1_000_000))
        if stays_silent:
            release.wait(60)
        handler.close_connection = True

    with answering(half) as server:
        blocks = server.open(timeout=0.3).read("a.dump")
        with pytest.raises(StoreUnreachable):
            list(blocks)
        release.set()


def test_a_missing_object_is_not_taken_for_a_missing_bucket():
    with answering(error(404, "NoSuchKey")) as server, pytest.raises(ObjectMissing):
        server.open().read("a.dump")
