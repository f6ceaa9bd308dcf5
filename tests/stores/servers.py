"""Real services for stores, each on loopback and with one bucket."""

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.session
import pytest
import requests

from app.stores import Store, open_store
from tests.postgres.conftest import wait_until
from tests.servers import leave_out
from tests.sshd import an_sshd

BUCKET = "copies"
STARTS = 120  # seconds; azurite has much to load
KEYS = {"access_key_id": "AKIATESTTESTTEST", "secret_access_key": "a secret of the test"}
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (  # azurite's only one, which its documentation tells
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass(frozen=True)
class Place:
    """A bucket, or its like, on a server."""

    location: str
    query: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None  # where its objects are files
    endpoint: str = ""

    def url(self, prefix: str) -> str:
        return f"{self.location}/{prefix}{self.query}"

    def open(self, prefix: str, timeout: float = 10, **credentials: str) -> Store:
        given = credentials or self.credentials
        return open_store(self.url(prefix), given, timeout=timeout)


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@contextmanager
def running(argv: Sequence[str | Path], port: int, log: Path) -> Iterator[None]:
    """A server, until it listens and to the end of the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            wait_until(
                lambda: process.poll() is not None or listens(port), f"{argv[0]} listens", STARTS
            )
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def program(name: str) -> Path:
    return Path(sysconfig.get_path("scripts"), name)


def s3_place(port: int, folder: Path | None = None) -> Place:
    endpoint = f"http://127.0.0.1:{port}"
    query = f"?endpoint={endpoint}&region=us-east-1"
    return Place(f"s3://{BUCKET}", query, KEYS, folder, endpoint)


def s3_client(place: Place) -> Any:
    """Amazon's own client, to look and to prepare."""
    return botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=place.endpoint,
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
    )


@contextmanager
def a_localbucket(folder: Path) -> Iterator[Place]:
    (folder / "data" / BUCKET).mkdir(parents=True)
    port = free_port()
    argv = [program("localbucket"), "--port", str(port), folder / "data"]
    with running(argv, port, folder / "log"):
        yield s3_place(port, folder / "data" / BUCKET)


@contextmanager
def a_moto_server(folder: Path) -> Iterator[Place]:
    port = free_port()
    folder.mkdir()
    with running([program("moto_server"), "-p", str(port)], port, folder / "log"):
        place = s3_place(port)
        s3_client(place).create_bucket(Bucket=BUCKET)
        yield place


@contextmanager
def an_azurite(folder: Path) -> Iterator[Place]:
    path = shutil.which("azurite-blob")
    if path is None:
        leave_out("azurite is not installed (npm)")
    port = free_port()
    folder.mkdir()
    argv = [
        path, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence",
        "--blobPort", str(port),
    ]  # fmt: skip
    with running(argv, port, folder / "log"):
        endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        _create_container(endpoint)
        yield Place(
            f"az://{AZURE_ACCOUNT}/{BUCKET}",
            f"?endpoint={endpoint}",
            {"access_key": AZURE_KEY},
            endpoint=endpoint,
        )


def _create_container(endpoint: str) -> None:
    date = f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S} GMT"
    words = (
        f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:2021-08-06\n"
        f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
    )
    signature = hmac.new(base64.b64decode(AZURE_KEY), words.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(signature).decode()}",
    }
    url = f"{endpoint}/{BUCKET}?restype=container"
    requests.put(url, headers=headers, timeout=10).raise_for_status()


@contextmanager
def an_sftp_server(folder: Path) -> Iterator[Place]:
    with an_sshd(folder, "Subsystem sftp internal-sftp", "PasswordAuthentication no") as sshd:
        data = folder / "data"
        data.mkdir()
        query = f"?host_key={quote(sshd.address.host_key)}&identity_file={folder / 'identity'}"
        location = f"{str(sshd.address).replace('ssh://', 'sftp://')}{data}"
        yield Place(location, query, folder=data)


@contextmanager
def a_webdav_server(folder: Path, password: str) -> Iterator[Place]:
    """One of rclone's own; its options are in its environment."""
    folder.mkdir()
    port = free_port()
    argv = [program("rclone"), "serve", "webdav", folder, "--addr", f"127.0.0.1:{port}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RCLONE_CONFIG", "")
        patch.setenv("RCLONE_USER", "ann")
        patch.setenv("RCLONE_PASS", password)
        with running(argv, port, folder.with_name("webdav.log")):
            query = f"?url=http://127.0.0.1:{port}&vendor=rclone&user=ann"
            yield Place("rclone://webdav", query, {"pass": password}, folder)


#: Python that is killed by a test does not measure coverage.
BARE = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
PYTHON = sys.executable
