"""Chunks on their way to a store."""

from collections.abc import Iterable, Iterator

from app.errors import StorageError


class Chunks:
    """Chunks that are counted; keeps what their producer raises, which is not the store's."""

    def __init__(self, chunks: Iterable[bytes], most: int = 0) -> None:
        self._chunks, self._most = chunks, most
        self.size = 0  # bytes so far
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._chunks:
                self._count(chunk)
                yield chunk
        except GeneratorExit:  # the store wants no more
            raise
        except BaseException as error:
            self.failure = error
            raise

    def _count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._most and self.size > self._most:
            raise StorageError(
                "the object is larger than it was expected to be",
                detail=f"Its upload has room for {self._most} bytes.",
            )
