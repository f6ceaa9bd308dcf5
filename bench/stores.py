"""How fast copies go to stores and come back, beside the plain tools, and with how much memory.

    python bench/stores.py [MEGABYTES]

Sends a file of that size (300 by default) to localbucket, to a folder and to an SSH server on
this machine, each way in a process of its own, and prints ratios: absolute times say little
about another machine. Needs what the tests need.
"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import obstore
from obstore.store import S3Store

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.encryption import encrypted, make_identity
from tests.stores.servers import BUCKET, KEYS, Place, a_localbucket, an_sftp_server

ROUNDS = 3
MIB = 1024**2


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory(prefix="backstop-bench-") as name, ExitStack() as servers:
        folder = Path(name)
        source = folder / "source"
        write(source, megabytes)
        bucket = servers.enter_context(a_localbucket(folder / "localbucket"))
        (folder / "nas").mkdir()
        ssh = servers.enter_context(an_sftp_server(folder / "sshd"))
        ours = measure("our store: put", "put", bucket, source)
        compare("obstore, plain", ours, measure("obstore alone: put", "obstore", bucket, source))
        compare("boto3", ours, measure("boto3: upload_file", "boto3", bucket, source))
        sealed = measure("our store: put, encrypted", "encrypted", bucket, source)
        compare("our store's own, not encrypted", sealed, ours)
        ours = measure("our store: read and hash", "read", bucket, source)
        compare("boto3", ours, measure("boto3: download and hash", "boto3-read", bucket, source))
        nas = Place(f"file://{folder}/nas", folder=folder / "nas")
        ours = measure("folder: put", "put", nas, source)
        compare("cp and sync", ours, measure("cp and sync", "cp", nas, source))
        ours = measure("sftp: put", "put", ssh, source)
        compare("sftp's own", ours, measure("OpenSSH's sftp: put", "sftp", ssh, source))
        measure("sftp: read and hash", "read", ssh, source)


def write(path: Path, megabytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(MIB))


def measure(title: str, way: str, place: Place, source: Path) -> float:
    """The best of some rounds in seconds; prints it with the memory that it took."""
    argv = [
        sys.executable,
        __file__,
        "--way",
        way,
        str(source),
        json.dumps(place.__dict__, default=str),
    ]
    results = [json.loads(subprocess.check_output(argv)) for _ in range(ROUNDS)]
    seconds = min(float(result["seconds"]) for result in results)
    grown = max(int(result["grown"]) for result in results)
    print(f"{seconds:6.2f} s  {title}; memory {grown / 1024:.0f} MiB more than at its start")
    return seconds


def compare(other: str, ours: float, theirs: float) -> None:
    print(f"          throughput of ours / {other}: {theirs / ours:.2f}")


def once(way: str, source: Path, place: Place) -> None:
    """In a process of its own: do it and print what it took."""
    work = WAYS[way](place, source)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"seconds": seconds, "grown": grown}))


def blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(MIB):
            yield block


Way = Callable[[Place, Path], Callable[[], object]]


def put(place: Place, source: Path) -> Callable[[], object]:
    store = place.open("bench", 60)
    if place.folder is not None:
        (place.folder / "bench").mkdir(exist_ok=True)
    store.put_new(f"first-{time.time_ns()}", b"")  # connections and libraries are ready
    return lambda: store.put("a.dump", blocks(source))


def put_encrypted(place: Place, source: Path) -> Callable[[], object]:
    store, recipient = place.open("bench", 60), make_identity().recipient
    store.put_new(f"first-{time.time_ns()}", b"")
    return lambda: store.put("a.dump.age", encrypted(blocks(source), [recipient]))


def read(place: Place, _source: Path) -> Callable[[], object]:
    store = place.open("bench", 60)
    store.size("a.dump")
    digest = hashlib.sha256()

    def work() -> None:
        for block in store.read("a.dump"):
            digest.update(block)

    return work


def obstore_put(place: Place, source: Path) -> Callable[[], object]:
    store = S3Store(
        BUCKET,
        config={"endpoint": place.endpoint, "region": "us-east-1", **KEYS},
        client_options={"allow_http": True, "timeout": timedelta(hours=1)},
    )
    obstore.put(store, "first", b"")
    return lambda: obstore.put(store, "plain.dump", source)


def boto3_client(place: Place) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=place.endpoint,
        region_name="us-east-1",
        **{f"aws_{name}": value for name, value in KEYS.items()},
    )


def boto3_put(place: Place, source: Path) -> Callable[[], object]:
    client = boto3_client(place)
    client.list_buckets()
    return lambda: client.upload_file(str(source), BUCKET, "plain.dump")


def boto3_read(place: Place, _source: Path) -> Callable[[], object]:
    client = boto3_client(place)
    client.list_buckets()
    digest = hashlib.sha256()

    def work() -> None:
        body = client.get_object(Bucket=BUCKET, Key="plain.dump")["Body"]
        for block in body.iter_chunks(MIB):
            digest.update(block)

    return work


def copy(place: Place, source: Path) -> Callable[[], object]:
    target = f"{place.folder}/plain.dump"

    def work() -> None:
        subprocess.run(["cp", source, target], check=True)
        subprocess.run(["sync", target], check=True)

    return work


def sftp(place: Place, source: Path) -> Callable[[], object]:
    program = shutil.which("sftp")
    assert program is not None
    folder = Path(place.query.partition("identity_file=")[2]).parent
    port = place.location.partition("127.0.0.1:")[2].partition("/")[0]
    argv = [
        program, "-q", "-b", "-", "-P", port, "-i", folder / "identity",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "127.0.0.1",
    ]  # fmt: skip
    order = f"put {source} {place.folder}/plain.dump\n"
    return lambda: subprocess.run(argv, input=order, text=True, check=True, stdout=2)


WAYS: dict[str, Way] = {
    "put": put, "encrypted": put_encrypted, "read": read, "obstore": obstore_put,
    "boto3": boto3_put, "boto3-read": boto3_read, "cp": copy, "sftp": sftp,
}  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        _, _, way, source, place = sys.argv
        given = json.loads(place)
        given["folder"] = Path(given["folder"]) if given["folder"] not in (None, "None") else None
        once(way, Path(source), Place(**given))
    else:
        main()
