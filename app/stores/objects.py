"""Stores in a service of objects, by obstore: what S3, Google Cloud and Azure share."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from app.errors import ObjectExists, StorageError
from app.stores.address import StoreAddress
from app.stores.blame import missing, store_error
from app.stores.chunks import Chunks
from app.stores.store import CHUNK, Protections, StoredObject, checked, folder_of

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureCredential, ClientConfig, GCSConfig, RetryConfig

Service = AzureStore | GCSStore | S3Store

_PART = 8 * 1024**2  # bytes of a part of an upload; so many are in memory:
_AT_ONCE = 4
_MOST_PARTS = 10_000  # S3 and Google Cloud allow no more
_UPLOAD_PATIENCE = 5  # times the timeout: a slow line may need it for a part
_RETRIES = 3
_DAYS = timedelta(days=30)

_ERRORS = (BaseError, OSError, ValueError)


@dataclass(frozen=True)
class Client:
    """The service for what is short, and for what sends data, which may take longer."""

    asking: Service
    sending: Service


def client(make: "Callable[[ClientConfig, RetryConfig], Service]", timeout: float) -> Client:
    """Make both; `timeout` in seconds is how long a service may be silent."""
    return Client(*(make(*_limits(timeout * times)) for times in (1, _UPLOAD_PATIENCE)))


def _limits(patience: float) -> "tuple[ClientConfig, RetryConfig]":
    """The read timeout begins anew with each block that arrives; a download has no other."""
    return (
        {
            "allow_http": True,  # the address decides
            "connect_timeout": timedelta(seconds=min(patience, 10)),
            "read_timeout": timedelta(seconds=patience),
            "timeout": _DAYS,
        },
        {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=patience),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "base": 3},
        },
    )


@dataclass(frozen=True)
class Objects:
    """Objects below a prefix of a bucket or container.

    Azure forgets blocks of unfinished uploads after a week; Google Cloud needs a rule.
    """

    address: StoreAddress
    client: Client = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def put(self, key: str, chunks: Iterable[bytes], *, expected_size: int = 0) -> int:
        """An upload in parts, which is aborted if it fails."""
        part = part_size(expected_size)
        source = Chunks(chunks, part * _MOST_PARTS)
        try:
            obstore.put(
                self.client.sending,
                self.address.path(checked(key)),
                iter(source),
                use_multipart=True,
                chunk_size=part,
                max_concurrency=_AT_ONCE,
            )
        except _ERRORS as error:
            if source.failure is not None:
                raise source.failure from None
            raise self._error(f"{key} cannot be written", error) from error
        return source.size

    def put_new(self, key: str, content: bytes) -> None:
        """By If-None-Match or its like, which the service decides."""
        try:
            obstore.put(
                self.client.sending, self.address.path(checked(key)), content, mode="create"
            )
        except AlreadyExistsError as error:
            raise ObjectExists(f"{key} is in the store already") from error
        except _ERRORS as error:
            raise self._error(f"{key} cannot be written", error) from error

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of an object; obstore resumes a connection that breaks."""
        doing, path = f"{key} cannot be read", self.address.path(checked(key))
        if length == 0 or (start and start >= (self.size(key) or 0)):
            if self.size(key) is None:
                raise missing(key)
            return iter(())
        with self._errors(doing, key):
            if length is not None:
                result = obstore.get(
                    self.client.asking, path, options={"range": (start, start + length)}
                )
            elif start:
                result = obstore.get(self.client.asking, path, options={"range": {"offset": start}})
            else:
                result = obstore.get(self.client.asking, path)
        return self._blocks(result, doing, key)

    def _blocks(self, result: "obstore.GetResult", doing: str, key: str) -> Iterator[bytes]:
        with self._errors(doing, key):
            yield from result.stream(min_chunk_size=CHUNK)

    def size(self, key: str) -> int | None:
        """The size of an object; where the bucket is missing, services may say None too."""
        try:
            return obstore.head(self.client.asking, self.address.path(checked(key)))["size"]
        except FileNotFoundError:
            return None
        except _ERRORS as error:
            raise self._error(f"{key} cannot be found", error) from error

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects page by page.

        obstore reads no key with an empty segment, dots alone or control characters: the
        listing then ends with an error that says so.
        """
        folder = folder_of(prefix)
        if folder is None:
            return
        above, offset = self.address.path(folder).rstrip("/"), len(self.address.path(""))
        with self._errors("the store cannot be listed", ""):
            for page in obstore.list(self.client.asking, above or None, chunk_size=1000):
                for item in page:
                    key = item["path"][offset:]
                    if key.startswith(prefix):
                        yield StoredObject(key, item["size"], item["last_modified"])

    def delete(self, key: str) -> None:
        """Remove an object."""
        try:
            with suppress(FileNotFoundError):
                obstore.delete(self.client.asking, self.address.path(checked(key)))
        except _ERRORS as error:
            raise self._error(f"{key} cannot be removed", error) from error

    def remove_unfinished(self, older_than: timedelta) -> int:
        """Nothing: it is left to the service."""
        del older_than
        return 0

    def protections(self) -> Protections:
        """Azure tells nothing here, and Google Cloud only with other rights."""
        return Protections(aborts_unfinished=True if self.address.kind == "az" else None)

    @contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            told = self._error(doing, error)
            raise (told if "bucket" in told.message else missing(key)) from error
        except _ERRORS as error:
            raise self._error(doing, error) from error

    def _error(self, doing: str, error: Exception) -> StorageError:
        return store_error(doing, str(error), self.secrets)


def part_size(expected: int) -> int:
    """How many bytes a part needs, so that so many bytes fit: whole MiB."""
    with_room = expected + expected // 20  # encrypted, it may grow a little
    needed = -(-with_room // _MOST_PARTS)
    return max(_PART, -(-needed // 1024**2) * 1024**2)


def open_google(address: StoreAddress, credentials: Mapping[str, str], timeout: float) -> Objects:
    """A bucket of Google Cloud; without credentials, the environment's or the instance's."""
    config: GCSConfig = {}
    if "service_account_key" in credentials:
        config["service_account_key"] = credentials["service_account_key"]
    if "endpoint" in address.options:
        config["base_url"] = address.options["endpoint"]
    return _opened(
        address,
        credentials,
        lambda limits, retry: GCSStore(
            address.place, config=config, client_options=limits, retry_config=retry
        ),
        timeout,
    )


def open_azure(address: StoreAddress, credentials: Mapping[str, str], timeout: float) -> Objects:
    """A container of Azure; without credentials, the environment's or the instance's."""
    account, container = address.place.split("/")
    config: AzureConfig = {"account_name": account}
    if "endpoint" in address.options:
        config["endpoint"] = address.options["endpoint"]
    return _opened(
        address,
        credentials,
        lambda limits, retry: AzureStore(
            container,
            config=config,
            client_options=limits,
            retry_config=retry,
            credential_provider=_given_to_azure(credentials),
        ),
        timeout,
    )


def _given_to_azure(credentials: Mapping[str, str]) -> "Callable[[], AzureCredential] | None":
    """The credentials, so that none of the environment mixes with them."""
    if "sas_token" in credentials:
        return lambda: {"sas_token": credentials["sas_token"], "expires_at": None}
    if "access_key" in credentials:
        return lambda: {"access_key": credentials["access_key"], "expires_at": None}
    return None


def _opened(
    address: StoreAddress,
    credentials: Mapping[str, str],
    make: "Callable[[ClientConfig, RetryConfig], Service]",
    timeout: float,
) -> Objects:
    secrets = tuple(credentials.values())
    try:
        return Objects(address, client(make, timeout), secrets)
    except _ERRORS as error:
        raise store_error("the store cannot be opened", str(error), secrets) from None
