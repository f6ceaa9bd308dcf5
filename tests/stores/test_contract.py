"""What every kind of store promises, asked of real services."""

import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.errors import ObjectExists, ObjectMissing
from app.stores import Store, check_store
from app.stores.check import STEPS
from tests.stores.servers import BARE, PYTHON, Place

MIB = 1024**2
LARGE = random.Random(7).randbytes(20 * MIB + 17)  # noqa: S311 - more than two parts


class Stopped(BaseException):
    """What a producer raises: as an interrupt does, it is no Exception."""


def pieces(content: bytes, size: int = 300_000) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def all_of(store: Store, key: str) -> bytes:
    return b"".join(store.read(key))


def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted(found.key for found in store.list(prefix))


@pytest.mark.parametrize("size", [0, len(LARGE)])
def test_what_was_put_is_read_back(store: Store, size: int):
    assert store.put("shop/a.dump", pieces(LARGE[:size]), expected_size=size) == size
    assert store.size("shop/a.dump") == size
    assert all_of(store, "shop/a.dump") == LARGE[:size]


def test_a_second_put_replaces_the_first(store: Store):
    store.put("a.dump", [b"first"])
    store.put("a.dump", [b"second, longer"])
    assert all_of(store, "a.dump") == b"second, longer"
    assert keys(store) == ["a.dump"]


def test_a_part_is_read(store: Store):
    store.put("a.dump", [bytes(range(100))])
    for start, length, expected in [
        (0, 10, range(10)), (90, None, range(90, 100)), (95, 50, range(95, 100)),
        (100, None, range(0)), (5, 0, range(0)),
    ]:  # fmt: skip
        assert b"".join(store.read("a.dump", start, length)) == bytes(expected)


def test_a_reader_may_stop_early(store: Store):
    store.put("a.dump", pieces(LARGE))
    reader = store.read("a.dump")
    assert LARGE.startswith(next(reader))
    reader.close()
    assert all_of(store, "a.dump") == LARGE


def test_a_missing_object_is_told_at_once(store: Store):
    with pytest.raises(ObjectMissing, match=r"none\.dump is not in the store"):
        store.read("none.dump")
    with pytest.raises(ObjectMissing):
        store.read("none.dump", 5, 5)
    assert store.size("none.dump") is None
    store.delete("none.dump")


def test_a_new_object_never_replaces_another(store: Store):
    store.put_new("a.json", b"first")
    with pytest.raises(ObjectExists, match=r"a\.json is in the store already"):
        store.put_new("a.json", b"second")
    assert all_of(store, "a.json") == b"first"
    assert keys(store) == ["a.json"]


def test_of_two_new_objects_at_once_one_wins(store: Store):
    def write(content: bytes) -> bytes | None:
        try:
            store.put_new("a.json", content)
        except ObjectExists:
            return None
        return content

    store.put("b.json", [b"the folder is there"])  # two that make it would be in each other's way
    with ThreadPoolExecutor(2) as threads:
        written = list(filter(None, threads.map(write, [b"first", b"second"])))
    assert [all_of(store, "a.json")] == written


def test_objects_are_listed_by_prefix(store: Store, place: Place, prefix: str):
    before = datetime.now(UTC) - timedelta(minutes=1)
    for key in ("shop/a.dump", "shop/b.dump", "shop.json", "other/c.dump"):
        store.put(key, [key.encode()])
    if place.folder is None:
        place.open(f"{prefix}2").put("neighbour", [b"of the same beginning"])
    assert keys(store) == ["other/c.dump", "shop.json", "shop/a.dump", "shop/b.dump"]
    assert keys(store, "shop/") == ["shop/a.dump", "shop/b.dump"]
    assert keys(store, "shop") == ["shop.json", "shop/a.dump", "shop/b.dump"]
    assert keys(store, "shop/b") == ["shop/b.dump"]
    for nothing in ("nowhere/", "../", "/", "shop/../other"):
        assert keys(store, nothing) == []
    (found,) = store.list("other/")
    assert found.size == 12
    assert before < found.modified < datetime.now(UTC) + timedelta(minutes=1)


def test_a_deleted_object_is_gone(store: Store):
    store.put("shop/a.dump", [b"1"])
    store.delete("shop/a.dump")
    assert store.size("shop/a.dump") is None
    assert keys(store) == []


def test_a_key_that_is_a_path_is_refused(store: Store):
    attempts: tuple[Callable[[str], object], ...] = (
        lambda key: store.put(key, [b"1"]), lambda key: store.put_new(key, b"1"), store.size,
        store.read, store.delete,
    )  # fmt: skip
    for key in ("", "/etc/passwd", "../a", "a/../b", "a//b", ".partial/a", "a\n", "a" * 900):
        for attempt in attempts:
            with pytest.raises(ObjectMissing):
                attempt(key)


@pytest.mark.parametrize("failure", [OSError(28, "mine"), Stopped("mine")])
def test_what_the_producer_raises_comes_out_and_leaves_nothing(
    store: Store, failure: BaseException
):
    def broken() -> Iterator[bytes]:
        yield from pieces(LARGE)
        raise failure

    with pytest.raises(type(failure)) as raised:
        store.put("a.dump", broken())
    assert raised.value is failure
    assert store.size("a.dump") is None
    assert store.remove_unfinished(timedelta(0)) == 0


PUT_AND_WAIT = """
import sys, time
from app.stores import open_store

def chunks():
    for _ in range(20):
        yield bytes(1024 * 1024)
    print("half", flush=True)
    time.sleep(60)

open_store(sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))).put("a.dump", chunks())
"""


@pytest.mark.parametrize("place", ["file", "moto", "azurite", "sftp"], indirect=True)
def test_a_killed_upload_leaves_no_object(store: Store, place: Place, prefix: str, tmp_path: Path):
    environment = BARE | {"TMPDIR": str(tmp_path)}
    words = [word for pair in place.credentials.items() for word in pair]
    with subprocess.Popen(
        [PYTHON, "-c", PUT_AND_WAIT, place.url(prefix), *words],
        stdout=subprocess.PIPE,
        env=environment,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.kill()
    assert keys(store) == []
    assert store.size("a.dump") is None
    store.remove_unfinished(timedelta(0))
    assert store.remove_unfinished(timedelta(0)) == 0


def test_all_steps_of_the_check_pass(store: Store):
    steps = list(check_store(store))
    assert tuple(step.name for step in steps) == STEPS
    assert [step.passed for step in steps[:5]] == [True] * 5, steps
    assert all(step.passed is not False for step in steps)
    assert keys(store) == []


@pytest.mark.parametrize("place", ["file", "localbucket", "sftp"], indirect=True)
def test_more_objects_than_a_page_are_listed(store: Store, place: Place, prefix: str):
    assert place.folder is not None
    folder = place.folder / prefix / "many"
    folder.mkdir(parents=True)
    for number in range(1500):
        (folder / f"{number:04}").touch()
    assert keys(store, "many/") == [f"many/{number:04}" for number in range(1500)]
