"""URLs of stores: read, written, and refused without a word of what they hold."""

from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.stores import StoreAddress, open_store, parse_store_url
from app.stores.objects import Objects
from app.stores.s3 import S3Objects

HOST_KEY = "ssh-ed25519 AAAAC3Nza+C1lZDI1/NTE5="
CANARY = "canary"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("file:///mnt/nas/my%20copies/", StoreAddress("file", "", "/mnt/nas/my copies")),
        ("s3://bucket", StoreAddress("s3", "bucket", "")),
        (
            "s3://my.bucket/a//b/?region=eu-west-1&path_style=true&endpoint=https://h:9000",
            StoreAddress(
                "s3",
                "my.bucket",
                "a/b",
                {"endpoint": "https://h:9000", "path_style": "true", "region": "eu-west-1"},
            ),
        ),
        ("gs://bucket/p", StoreAddress("gs", "bucket", "p")),
        ("az://account/container", StoreAddress("az", "account/container", "")),
        ("az://account/container/p/q", StoreAddress("az", "account/container", "p/q")),
        (
            f"sftp://ann@h.example.com:2222/srv/x?host_key={HOST_KEY}&identity_file=/k",
            StoreAddress(
                "sftp",
                "ann@h.example.com:2222",
                "/srv/x",
                {"host_key": HOST_KEY, "identity_file": "/k"},
            ),
        ),
        ("sftp://ann@[::1]/srv", StoreAddress("sftp", "ann@[::1]", "/srv")),
        (
            "rclone://webdav/copies?url=https://h/dav&user=ann",
            StoreAddress("rclone", "webdav", "copies", {"url": "https://h/dav", "user": "ann"}),
        ),
    ],
)
def test_a_url_is_read_and_written(url: str, address: StoreAddress):
    assert parse_store_url(url) == address
    assert parse_store_url(str(address)) == address


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        (CANARY, "s3://bucket/prefix"),
        (f"ftp://{CANARY}/x", "s3://bucket/prefix"),
        (f"sftp://ann:{CANARY}@h/x", "separately"),
        (f"s3://{CANARY}:x@bucket/p", "separately"),
        (f"s3://{CANARY}@bucket/p", "separately"),
        (f"s3://bucket/p?secret_access_key={CANARY}", "separately"),
        (f"az://account/box?sas_token={CANARY}", "separately"),
        (f"rclone://webdav/x?pass={CANARY}", "separately"),
        (f"s3://bucket/p?colour={CANARY}", "endpoint, path_style, region"),
        (f"file:///mnt?x={CANARY}", "allows: none"),
        (f"s3://bucket/p?region=a&region={CANARY}", ""),
        (f"s3://bucket/p?path_style={CANARY}", ""),
        (f"s3://bucket/p?endpoint=file:///{CANARY}", "https://"),
        (f"s3://bucket/../{CANARY}", "s3://bucket/prefix"),
        (f"s3://bucket/%2e%2e/{CANARY}", "s3://bucket/prefix"),
        (f"s3://bucket/{CANARY}%0a", "s3://bucket/prefix"),
        (f"s3://bucket/{CANARY}#x", "s3://bucket/prefix"),
        (f"s3://b u/{CANARY}", "s3://bucket/prefix"),
        (f"s3:///{CANARY}", "s3://bucket/prefix"),
        (f"az://account?{CANARY}", "az://account/container"),
        (f"file://{CANARY}/x", "file:///mnt"),
        ("file:///", "file:///mnt"),
        (f"sftp://h/{CANARY}", "sftp://user@host"),
        (f"sftp://-oProxyCommand={CANARY}@h/x", "sftp://user@host"),
    ],
)
def test_a_wrong_url_is_refused_without_quoting_it(url: str, hint: str):
    with pytest.raises(InvalidInput) as refused:
        parse_store_url(url)
    assert hint in refused.value.hint
    assert CANARY not in refused.value.in_words()


def test_credentials_that_a_kind_does_not_know_are_refused():
    with pytest.raises(InvalidInput, match="unknown credentials") as refused:
        open_store("s3://bucket", {"password": CANARY})
    assert "secret_access_key" in refused.value.hint
    assert CANARY not in refused.value.in_words()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://bucket?region=eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com"),
        ("s3://my.bucket?region=eu-west-1", "https://s3.eu-west-1.amazonaws.com"),
        ("s3://bucket?endpoint=https://h:9000", "https://h:9000"),
        ("s3://bucket?endpoint=https://h:9000&path_style=false", "https://bucket.h:9000"),
    ],
)
def test_a_bucket_has_the_address_that_its_service_expects(
    url: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    store = open_store(url, {"access_key_id": "a", "secret_access_key": "b"})
    assert isinstance(store, S3Objects)
    assert dict(store.client.asking.config)["endpoint"] == endpoint


def test_stores_of_google_are_opened_without_being_asked(tmp_path: Path):
    store = open_store("gs://bucket/p", {"service_account_key": SERVICE_ACCOUNT})
    assert isinstance(store, Objects)
    assert "PRIVATE" not in repr(store)


SERVICE_ACCOUNT = """{"private_key": "", "private_key_id": "", "client_email": "PRIVATE@h",
 "gcs_base_url": "http://127.0.0.1:1", "disable_oauth": true}"""


def test_nothing_of_the_credentials_is_shown():
    for store in (
        open_store("s3://bucket", {"access_key_id": "AKIA", "secret_access_key": CANARY}),
        open_store("az://account/box", {"access_key": "Y2FuYXJ5"}),
        open_store(
            f"sftp://ann@h/x?host_key={HOST_KEY}", {"password": CANARY, "passphrase": CANARY}
        ),
        open_store("rclone://webdav/x?url=https://h/dav", {"pass": CANARY, "bearer_token": CANARY}),
    ):
        assert CANARY not in repr(store)
        assert "Y2FuYXJ5" not in repr(store)
