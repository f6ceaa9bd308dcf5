"""A check of many dumps beside sha256sum."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta

from app.extensions import db, writing
from app.models import DatabaseBackup, Status, Trigger
from app.models.backup import filename_of
from app.models.types import now
from app.services.backups.manifests import build_manifest
from app.services.databases.configured import storage
from app.services.databases.lookup import default_database
from bench.harness import Aim, Claim, Row, Taken, Way, interleaved, timed
from bench.panel import Home
from bench.planting import planting
from bench.world import World

_FILES = 100
_SHARE = 50  # each has this part of the size of the large database
_LARGEST = 20  # MiB


def check(world: World) -> Iterator[Row]:
    """A check compares checksum, manifest and row of every dump."""
    home = world.new_home("checking", world.small)
    megabytes = min(_LARGEST, max(1, world.scale.megabytes // _SHARE))
    _plant(home, megabytes)
    dumps = sorted(home.folder.glob("backups/*.dump"))

    def ours() -> Taken:
        whole = home.timed_flask("backup", "check")
        return {"s": whole, "less start s": whole - home.timed_flask("--version")}

    def bare() -> Taken:
        with timed() as taken:
            subprocess.run(["sha256sum", *dumps], check=True, stdout=subprocess.DEVNULL)
        return taken | {"less start s": taken["s"]}

    ways: dict[str, Way] = {"ours": ours, "sha256sum": bare}
    rounds = interleaved(ways, world.scale.rounds)
    of = f"{len(dumps)} files of {megabytes} MiB"
    yield Claim("check of the dumps", "flask backup check", "sha256sum", Aim(1.1), notes=of).row(
        rounds, "ours", "sha256sum"
    )
    without = "flask backup check, less flask --version"
    yield Claim(
        "the same without Python's start", without, "sha256sum", Aim(1.1), "less start s"
    ).row(rounds, "ours", "sha256sum")


def _plant(home: Home, megabytes: int) -> None:
    """Dumps of random bytes with rows and manifests, as if they had been backed up."""
    with planting(home):
        for n in range(_FILES):
            content = os.urandom(megabytes * 1024**2)
            moment = now() - timedelta(hours=_FILES - n)
            row = DatabaseBackup(
                filename=filename_of(moment),
                created_at=moment,
                finished_at=moment,
                told_at=moment,
                database_id=default_database().id,
                server="127.0.0.1:1",
                database="shop",
                status=Status.COMPLETED,
                trigger=Trigger.CLI,
                size=len(content),
                oldest_reader=17,
                sha256=hashlib.sha256(content).hexdigest(),
            )
            home.dump(row.filename).write_bytes(content)
            with writing() as session:
                session.add(row)
            storage().replace_manifest(row.filename, build_manifest(row))
            db.session.commit()
