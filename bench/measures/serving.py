"""Downloads, many clients, and how much memory the processes take."""

import random
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.harness import Aim, Claim, Row, Taken, Way, interleaved, timed
from bench.panel import Home, Panel
from bench.world import SMALL, World

_DOWNLOADS = 5  # one after the other in each round
_CLIENTS = 50
_THINKS = 1.0  # seconds between two requests of a client, on average
_CHUNK = 1024**2


def download(world: World) -> Iterator[Row]:
    """The same client reads both, and throws away what it reads."""
    filename = world.backup["filename"]
    dump = world.home.dump(filename)
    size = dump.stat().st_size

    def rate(once: Callable[[], int]) -> Taken:
        with timed() as taken:
            read = [once() for _ in range(_DOWNLOADS)]
        assert all(each >= size for each in read), read
        return {"MB/s": _DOWNLOADS * size / 1e6 / taken["s"]}

    ways: dict[str, Way] = {
        "ours": lambda: rate(lambda: _downloaded(world.panel, filename)),
        "cat": lambda: rate(lambda: _sent_by_cat(dump)),
    }
    rounds = interleaved(ways, world.scale.rounds)
    yield Claim(
        "download",
        "GET /api/admin/backup/<filename>",
        "cat through a local socket",
        Aim(0.7, is_least=True),
        "MB/s",
        f"{_DOWNLOADS} one after the other",
    ).row(rounds, "ours", "cat")


def _downloaded(panel: Panel, filename: str) -> int:
    """The bytes that have come, with the headers."""
    port = panel.client.port
    with socket.create_connection(("127.0.0.1", port)) as connection:
        lines = [f"GET /api/admin/backup/{filename} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        lines += [f"{name}: {value}" for name, value in panel.client.headers.items()]
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return _drained(connection)


def _sent_by_cat(path: Path) -> int:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as connection,
    ):
        theirs, _ = listening.accept()
        with theirs, subprocess.Popen(["cat", path], stdout=theirs.fileno()):
            theirs.close()
            return _drained(connection)


def _drained(connection: socket.socket) -> int:
    buffer, total = bytearray(_CHUNK), 0
    while got := connection.recv_into(buffer):
        total += got
    return total


# Many clients


def clients(world: World) -> Iterator[Row]:
    """Each asks for the list or a small dump in turn, and pauses."""
    home = world.new_home("clients", world.large)
    with home.panel() as panel:
        panel.guard("small", world.url(SMALL))
        paths = ["/api/admin/backup", f"/api/admin/backup/{panel.back_up('small')['filename']}"]

        def beside_backups(until: float) -> None:
            while time.monotonic() < until:
                panel.timed_backup()

        def nothing(until: float) -> None:
            time.sleep(max(0.0, until - time.monotonic()))

        ways: dict[str, Way] = {
            "during": lambda: _asked(world, panel, paths, beside_backups),
            "without": lambda: _asked(world, panel, paths, nothing),
        }
        rounds = interleaved(ways, world.scale.rounds)
    errors = sum(rounds.values("during", "errors") + rounds.values("without", "errors"))
    total = sum(rounds.values("during", "answers") + rounds.values("without", "answers"))
    yield Claim(
        f"{_CLIENTS} clients on lists and downloads, median answer",
        "during backups of the large database",
        "without them",
        Aim(1.3),
        "ms",
        f"each asks about once in {_THINKS:g} s, half for the list and half for the small dump",
    ).row(rounds, "during", "without", f"{errors:g} errors in {total:g} answers")
    yield Claim(
        "the same, errors", "during backups of the large database", "-", Aim(0, "errors"), "errors"
    ).row(rounds, "during")


def _asked(
    world: World, panel: Panel, paths: list[str], meanwhile: Callable[[float], None]
) -> Taken:
    """What all clients have seen for some seconds, or for as long as the other thing takes."""
    over, took, errors = threading.Event(), [], []

    def ask(number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - the same pauses in each round
        over.wait(chance.uniform(0, _THINKS))
        while not over.is_set():
            number += 1
            try:
                with timed() as taken:
                    panel.client.ask(paths[number % len(paths)])
                took.append(taken["s"] * 1000)
            except Exception as error:  # noqa: BLE001 - any is counted
                errors.append(error)
            over.wait(chance.uniform(0.5, 1.5) * _THINKS)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    meanwhile(time.monotonic() + world.scale.window)
    over.set()
    for thread in threads:
        thread.join()
    return {"ms": statistics.median(took), "errors": len(errors), "answers": len(took)}


# Memory


def memory(world: World) -> Iterator[Row]:
    """Each in a panel of its own."""
    large = world.new_home("memory-large", world.large)
    small = world.new_home("memory-small", world.small)
    ways: dict[str, Way] = {"large": lambda: _peaks(large), "small": lambda: _peaks(small)}
    rounds = interleaved(ways, world.scale.rounds)
    ran = "a backup and its download, large database"
    for command in ("web", "worker"):
        unit = f"{command} MB"
        yield Claim(
            f"peak memory of the {command}: difference", ran, "the sample", Aim(10, "MB"), unit
        ).row(rounds, "large", "small")
        yield Claim(f"peak memory of the {command}", ran, "-", Aim(150, "MB"), unit).row(
            rounds, "large"
        )


def _peaks(home: Home) -> Taken:
    with home.panel() as panel:
        row = panel.back_up()
        _downloaded(panel, row["filename"])
        panel.delete(row)
        return {f"{command} MB": panel.peak(command) for command in ("web", "worker")}
