"""What lies in a store: each mark may lie, and there may be many."""

import gc
import hashlib
import json
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.encryption import make_identity
from app.models import Store, Trigger
from app.models.types import camel_case
from app.services.backups import manifests
from app.services.copies import service as copies
from app.services.copies.mark import Measured, make_mark, mark_key
from app.services.rescue.history import rebuild_history
from app.services.rescue.inventory import Inventory, take_inventory
from app.services.stores import service as stores
from app.stores import Store as OpenStore
from app.stores import StoredObject, open_store
from tests.conftest import on_catalogues

DUMP = b"PGDMP of a dump"
OF_DUMP = Measured(len(DUMP), hashlib.sha256(DUMP).hexdigest())
SMALL_MARK = 20_000  # bytes

FAULTS = [
    "not JSON",
    "nested",
    "a number",
    "no mark",
    "a path as key",
    "the name of another",
    "a path as name",
    "a negative size",
    "a huge size",
    "no hash",
    "another dump",
    "the manifest of another",
    "a manifest that was changed",
    "a time without end",
    "a name with zeros",
    "too large",
]


def name_of(number: int) -> str:
    moment = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=number)
    return f"backup_{moment:%Y-%m-%dT%H-%M-%S}-000Z.dump"


def manifest_of(filename: str, *, signed: bool = True, **changes: str) -> bytes:
    at = datetime(2026, 11, 23, 12, tzinfo=UTC).isoformat()
    facts = {
        "id": hashlib.sha256(filename.encode()).hexdigest()[:24],
        "filename": filename,
        "size": OF_DUMP.size,
        "sha256": OF_DUMP.sha256,
        "oldest_reader": 17,
        "server": "db1:5432",
        "server_version": "17.1",
        "database": "shop",
        "database_size": 1,
        "contents": None,
        "tool_version": "17.1",
        "compression": "zstd:1",
        "trigger": Trigger.CLI.value,
        "created_by": "ann",
        "created_at": at,
        "started_at": at,
        "finished_at": at,
        "notes": "",
    }
    content = {camel_case(name): value for name, value in (facts | changes).items()}
    content |= {"signature": manifests._signature(content) if signed else "none"}
    return manifests._written(content | {"manifestSha256": manifests._checksum(content)})


def mark_of(of: str, manifest: bytes | None = None, **changes: Any) -> bytes:
    kept = manifest_of(of) if manifest is None else manifest
    mark = make_mark(of, stored=OF_DUMP, dump=OF_DUMP, manifest=kept, to=())
    content = json.loads(mark.written()) | changes
    content.pop("markSha256")
    whole = json.dumps(content, indent=2, sort_keys=True).encode()
    return json.dumps(content | {"markSha256": hashlib.sha256(whole).hexdigest()}).encode()


def bad_marks() -> dict[str, bytes]:
    """Marks beside a copy of ours, by their FAULTS."""
    name = name_of(0)
    return {
        "not JSON": b"\xff\x00",
        "nested": b"[" * 100_000,
        "a number": b"1",
        "no mark": b"{}",
        "a path as key": mark_of(name, key="../../etc/passwd"),
        "the name of another": mark_of(name, filename=name_of(9)),
        "a path as name": mark_of(name, filename="../x.dump"),
        "a negative size": mark_of(name, stored={"size": -1, "sha256": OF_DUMP.sha256}),
        "a huge size": mark_of(name, stored={"size": 10**40, "sha256": OF_DUMP.sha256}),
        "no hash": mark_of(name, stored={"size": OF_DUMP.size, "sha256": "x" * 10_000}),
        "another dump": mark_of(name, dump={"size": 1, "sha256": "0" * 64}),
        "the manifest of another": mark_of(name, manifest_of(name_of(9))),
        "a manifest that was changed": mark_of(name, manifest_of(name).replace(b"shop", b"shoq")),
        "a time without end": mark_of(name, manifest_of(name, created_at="9" * 5000)),
        "a name with zeros": mark_of(name, manifest_of(name, database="a\0b")),
        "too large": b" " * (SMALL_MARK + 1),
    }


@pytest.fixture
def nas(context: None, tmp_path: Path) -> OpenStore:
    folder = tmp_path / "nas"
    folder.mkdir()
    return open_store(f"file://{folder}")


@pytest.fixture
def counted(nas: OpenStore) -> Callable[..., Inventory]:
    def take(*identities: Any) -> Inventory:
        with take_inventory(nas, identities) as inventory:
            list(inventory.all_copies())
        return inventory

    return take


def put(store: OpenStore, filename: str, mark: bytes | None = None, content: bytes = DUMP) -> None:
    store.put(filename, [content])
    store.put(mark_key(filename), [mark_of(filename) if mark is None else mark])


@on_catalogues("sqlite")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_mark_that_lies_is_counted_and_not_believed(
    nas: OpenStore,
    counted: Callable[..., Inventory],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("app.services.rescue.inventory._LARGEST", SMALL_MARK)
    put(nas, name_of(0), bad_marks()[fault])
    put(nas, name_of(1))
    inventory = counted()
    assert (inventory.copies, inventory.bad) == (1, 1)
    (line,) = inventory.bad_named
    assert line.startswith(f"{name_of(0)}: ")
    assert line.isprintable()
    assert len(line) < 300


@on_catalogues("sqlite")
def test_only_whole_copies_count(nas: OpenStore, counted: Callable[..., Inventory]):
    put(nas, name_of(0), content=b"shorter")
    nas.put(mark_key(name_of(1)), [mark_of(name_of(1))])
    nas.put(name_of(2), [DUMP])  # without a mark
    nas.put("notes.json", [b"{}"])
    nas.put(f"folder/{name_of(3)}.json", [mark_of(name_of(3))])
    inventory = counted()
    assert (inventory.copies, inventory.bad) == (0, 2)
    assert "is missing, or not whole" in inventory.bad_named[0]


@on_catalogues("sqlite")
def test_what_is_encrypted_to_others_counts_without_its_contents(
    nas: OpenStore, counted: Callable[..., Inventory]
):
    identity = make_identity()
    name = name_of(0)
    mark = make_mark(
        name,
        stored=OF_DUMP,
        dump=OF_DUMP,
        manifest=manifest_of(name),
        to=[identity.recipient],
    )
    nas.put(mark.key, [DUMP])
    nas.put(mark_key(name), [mark.written()])
    for identities in ((), (make_identity(),)):
        inventory = counted(*identities)
        assert (inventory.copies, inventory.encrypted, inventory.unknown) == (1, 1, 1)
        assert inventory.databases == {("", ""): 1}
    inventory = counted(identity)
    assert (inventory.unknown, inventory.unsigned) == (0, 0)
    assert inventory.databases == {("db1:5432", "shop"): 1}


@on_catalogues("sqlite")
def test_signed_copies_are_newer_than_any_claim(nas: OpenStore):
    put(nas, name_of(0))
    late = manifest_of(name_of(1), signed=False, created_at="9998-01-01T00:00:00+00:00")
    put(nas, name_of(1), mark_of(name_of(1), late))
    with take_inventory(nas, ()) as inventory:
        assert inventory.unsigned == 1
        assert [copy.filename for copy in inventory.newest("")] == [name_of(0), name_of(1)]
        assert inventory.newest("crm") == []


class Full:
    """A store with many copies, made as they are asked for; half of the marks are bad."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._mark = mark_of(name_of(0)).decode()

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        at = datetime(2026, 11, 23, tzinfo=UTC)
        for number in range(self._number):
            for key in (name_of(number), mark_key(name_of(number))):
                yield StoredObject(key, 1, at)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        yield b"{" if key[-16] in "02468" else mark_of(key.removesuffix(".json"))

    def size(self, key: str) -> int | None:
        return OF_DUMP.size


@on_catalogues("sqlite")
def test_nothing_is_kept_in_memory_of_a_copy(context: None):
    kept = []
    for number in (40, 140):
        tracemalloc.start()
        with take_inventory(Full(number), ()) as inventory:  # type: ignore[arg-type]
            assert inventory.copies + inventory.bad == number
            assert len(inventory.newest("shop")) == min(inventory.copies, 20)
            gc.collect()
            kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert kept[1] < kept[0] + 25_000


def test_the_history_gets_a_row_for_each_copy_only_once(nas: OpenStore, tmp_path: Path):
    for number in range(3):
        put(nas, name_of(number))
    put(nas, name_of(3), mark_of(name_of(3), manifest_of(name_of(3), signed=False)))
    store: Store = stores.add_store("nas", f"file://{tmp_path / 'nas'}", by="ann")
    for made in (4, 0):
        with take_inventory(nas, ()) as inventory:
            assert rebuild_history(store.name, inventory, by="ann") == made
    rows = copies.list_copies()
    assert [copy.is_good for copy in rows] == [True] * 4
    assert {copy.backup_id for copy in rows} == {None}
    known = {copy.filename: copy.database_id is not None for copy in rows}
    assert known == {name_of(n): n < 3 for n in range(4)}
