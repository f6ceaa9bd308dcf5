"""The test of a store says what is wrong with it: stores that are wrong in one thing each."""

from collections.abc import Iterator

import pytest

from app.errors import ObjectLocked, StorageError
from app.stores import Protections, StoredObject, check_store, open_store, parse_store_url
from app.stores.check import STEPS
from app.stores.files import FileStore
from tests.stores.servers import KEYS, Place, s3_client


class Garbling(FileStore):
    """Changes a byte."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        content = b"".join(super().read(key, start, length))
        return iter([content[:-1], b"?"])


class Forgetful(FileStore):
    """Lists nothing."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        return iter(())


class Obliging(FileStore):
    """Replaces what it was to keep."""

    def put_new(self, key: str, content: bytes) -> None:
        self.put(key, [content])


class Keeping(FileStore):
    """Removes nothing, and does not say so."""

    def delete(self, key: str) -> None:
        del key


class Silent(FileStore):
    """Does not answer a question."""

    def protections(self) -> Protections:
        raise StorageError("the question was too hard", hint="Ask another one.")


@pytest.mark.parametrize(
    ("kind", "step", "detail"),
    [
        (Garbling, "read back", "other bytes came back"),
        (Forgetful, "list", "it is not listed"),
        (Obliging, "refuse a second", "replaced the first"),
        (Keeping, "remove", "still there"),
        (Silent, "versioning", "too hard"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_more_is_tried(
    kind: type[FileStore], step: str, detail: str, tmp_path
):
    steps = list(check_store(kind(parse_store_url(f"file://{tmp_path}"))))
    assert tuple(step.name for step in steps) == STEPS
    (failed,) = (step for step in steps if step.passed is False)
    assert failed.name == step
    assert detail in failed.detail
    assert failed.hint
    after = steps[STEPS.index(step) + 1 :]
    assert {(step.passed, step.detail) for step in after} == {(None, "not tried")}
    left = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(left) == (1 if kind is Keeping else 0)


def test_a_bucket_that_locks_what_is_new_is_a_store(moto: Place, prefix: str):
    client = s3_client(moto)
    client.create_bucket(Bucket="keeping", ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket="keeping",
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},
    )
    store = open_store(moto.url(prefix).replace("copies", "keeping"), KEYS)
    steps = {step.name: step for step in check_store(store)}
    assert steps["object lock"].passed, steps
    assert steps["versioning"].passed
    assert not [step for step in steps.values() if step.passed is False]
    store.put_new("kept", b"1")
    with pytest.raises(ObjectLocked, match="locked until"):
        store.delete("kept")


def test_an_object_that_stays_locked_is_no_failure(tmp_path):
    class Locking(FileStore):
        def delete(self, key: str) -> None:
            raise ObjectLocked(f"{key} is locked until tomorrow")

    steps = list(check_store(Locking(parse_store_url(f"file://{tmp_path}"))))
    (remove,) = (step for step in steps if step.name == "remove")
    assert remove.passed is None
    assert "until tomorrow" in remove.detail
