"""How fast copies go to stores and come back, and are encrypted, beside the plain tools."""

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3

from app.encryption import decrypted, encrypted, make_identity
from app.stores import open_store
from bench.harness import Aim, Claim, Row, Taken, Way, interleaved, timed
from bench.panel import Panel
from bench.world import SMALL, World
from tests.stores.servers import BUCKET, Place, a_localbucket

_MIB = 1024**2
_SHARE = 4  # the file has this part of the size of the large database


def stores(world: World) -> Iterator[Row]:
    """A store in a folder, and one in a bucket of a server on this machine."""
    source = _source(world.folder, world.scale.megabytes)
    folder = world.folder / "nas"
    (folder / "bench").mkdir(parents=True)
    with ExitStack() as servers:
        bucket = servers.enter_context(a_localbucket(world.folder / "localbucket"))
        nas = open_store(f"file://{folder}/bench", {}, timeout=60)
        ours, theirs = bucket.open("bench", 60), _boto3(bucket)
        theirs.upload_file(str(source), BUCKET, "theirs")
        ways: dict[str, Callable[[], object]] = {
            "folder": lambda: nas.put("a.dump", _blocks(source)),
            "cp": lambda: _copied(source, folder / "theirs"),
            "bucket": lambda: ours.put("a.dump", _blocks(source)),
            "boto3": lambda: theirs.upload_file(str(source), BUCKET, "theirs"),
            "read": lambda: _hashed(ours.read("a.dump")),
            "boto3 read": lambda: _hashed(
                theirs.get_object(Bucket=BUCKET, Key="theirs")["Body"].iter_chunks(_MIB)
            ),
        }
        rounds = interleaved(
            {name: lambda act=act: _seconds(act) for name, act in ways.items()}, world.scale.rounds
        )
    size = f"{source.stat().st_size // _MIB} MiB of random bytes"
    for name, way, against, other in (
        ("copy to a folder", "folder", "cp, and sync", "cp"),
        ("copy to a bucket", "bucket", "boto3: upload_file", "boto3"),
        ("read back from a bucket, with SHA-256", "read", "boto3: get_object", "boto3 read"),
    ):
        ran = "Store.read" if way == "read" else "Store.put"
        yield Claim(name, ran, against, notes=size).row(rounds, way, other)


def beside_copies(world: World) -> Iterator[Row]:
    """The worker makes the backup while it copies an older one, encrypted, again and again."""
    home, target = world.new_home("copying", world.large), world.folder / "elsewhere"
    target.mkdir()
    with home.panel() as panel:
        panel.guard("small", world.url(SMALL))
        store = {"name": "disk", "url": f"file://{target}", "recipients": [_recipient()]}
        panel.client.ask("/api/admin/stores", "POST", store | {"databases": ["small"]})
        older, copied = panel.back_up()["filename"], [0]

        def beside() -> Taken:
            over = threading.Event()
            thread = threading.Thread(target=_copy_again, args=[panel, older, copied, over])
            thread.start()
            try:
                return panel.timed_backup()
            finally:
                over.set()
                thread.join()

        ways: dict[str, Way] = {"beside": beside, "alone": panel.timed_backup}
        rounds = interleaved(ways, world.scale.rounds)
    yield Claim(
        "backup while copies are made", "POST /api/admin/backup", "the same alone", Aim(1.1)
    ).row(rounds, "beside", "alone", f"{copied[0]} copies made meanwhile")


def _copy_again(panel: Panel, filename: str, copied: list[int], over: threading.Event) -> None:
    path = f"/api/admin/backup/{filename}/copies"
    while not over.is_set():
        copy = panel.client.json(path, "POST", {"store": "disk"})["copy"]
        while copy["status"] == "PENDING":
            time.sleep(0.1)
            copy = panel.client.json(f"/api/admin/copies/{copy['id']}")
        assert copy["status"] == "COMPLETED", copy["error"]
        panel.client.ask(f"/api/admin/copies/{copy['id']}", "DELETE")
        copied[0] += 1


def _recipient() -> str:
    return make_identity().recipient.key


def encryption(world: World) -> Iterator[Row]:
    """Of random bytes, whose output is thrown away."""
    if shutil.which("age") is None:
        return
    source, identity = _source(world.folder, world.scale.megabytes), make_identity()
    sealed, key = world.folder / "sealed", world.folder / "key"
    key.touch(0o600)
    key.write_text(identity.secret)
    with sealed.open("wb") as file:
        file.writelines(encrypted(_blocks(source), [identity.recipient]))
    for name, ours, theirs in (
        (
            "encrypt a copy",
            lambda: encrypted(_blocks(source), [identity.recipient]),
            ("age", "-r", identity.recipient.key, source),
        ),
        (
            "decrypt a copy",
            lambda: decrypted(_blocks(sealed), [identity]),
            ("age", "-d", "-i", key, sealed),
        ),
    ):
        ways: dict[str, Way] = {
            "ours": lambda ours=ours: _seconds(lambda: [None for _ in ours()]),
            "age": lambda argv=theirs: _seconds(
                lambda: subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
            ),
        }
        rounds = interleaved(ways, world.scale.rounds)
        yield Claim(name, "app.encryption", "age").row(rounds, "ours", "age")


def _source(folder: Path, megabytes: int) -> Path:
    path = folder / "source"
    if not path.exists():
        with path.open("wb") as file:
            for _ in range(max(1, megabytes // _SHARE)):
                file.write(os.urandom(_MIB))
    return path


def _seconds(act: Callable[[], object]) -> Taken:
    with timed() as taken:
        act()
    return taken


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_MIB):
            yield block


def _hashed(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _copied(source: Path, target: Path) -> None:
    subprocess.run(["cp", source, target], check=True)
    subprocess.run(["sync", target], check=True)


def _boto3(place: Place) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=place.endpoint,
        region_name="us-east-1",
        **{f"aws_{name}": value for name, value in place.credentials.items()},
    )
