"""A store in S3, or a service like it.

Data goes by obstore. botocore finds the credentials (given, environment, profile, role) and
the endpoint, and asks what obstore cannot: listings with any key, unfinished uploads, locks.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader
from obstore.store import S3Store as Bucket

from app.errors import ObjectExists, ObjectLocked, StorageError, StoreDenied
from app.stores.address import StoreAddress
from app.stores.blame import store_error
from app.stores.objects import Objects, client
from app.stores.store import Protections, StoredObject, checked

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential

_DEFAULT_REGION = "us-east-1"
_KEPT = timedelta(minutes=10)  # until botocore is asked for credentials again
_NAMES = {
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}
_MODELS = create_loader()  # of the service; to read them takes ten times as long as the rest
_EXISTS = ("412", "PreconditionFailed")
_GONE = ("404", "NoSuchKey", "NotFound")


@dataclass(frozen=True)
class S3Objects(Objects):
    """Objects in a bucket of S3."""

    boto: Any = field(kw_only=True, repr=False)

    def put_new(self, key: str, content: bytes) -> None:
        """By If-None-Match, and with the checksum that a bucket with object lock demands."""
        with self._asked(f"{checked(key)} cannot be written"):
            try:
                self.boto.put_object(
                    Bucket=self.address.place,
                    Key=self.address.path(key),
                    Body=content,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",
                )
            except ClientError as error:
                if error.response["Error"]["Code"] not in _EXISTS:
                    raise
                raise ObjectExists(f"{key} is in the store already") from error

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects page by page, with whatever key others gave them."""
        offset = len(self.address.path(""))
        with self._asked("the store cannot be listed"):
            pages = self.boto.get_paginator("list_objects_v2").paginate(
                Bucket=self.address.place, Prefix=self.address.path(prefix)
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield StoredObject(item["Key"][offset:], item["Size"], item["LastModified"])

    def delete(self, key: str) -> None:
        """Remove an object. Raises ObjectLocked, where a delete would only hide it.

        With versioning, its versions stay until a rule of the bucket removes them.
        """
        place = {"Bucket": self.address.place, "Key": self.address.path(checked(key))}
        with self._asked(f"{key} cannot be removed"):
            try:
                head = self.boto.head_object(**place)
            except ClientError as error:
                if error.response["Error"]["Code"] in _GONE:
                    return
                head = {}  # it may be removed, but not read
            _refuse_locked(key, head)
            self.boto.delete_object(**place)

    def remove_unfinished(self, older_than: timedelta) -> int:
        """Abort uploads below the prefix; none, where the service cannot list them."""
        latest, aborted = datetime.now(UTC) - older_than, 0
        with self._asked("unfinished uploads cannot be removed"):
            try:
                for upload in self._uploads():
                    if upload["Initiated"] <= latest:
                        self.boto.abort_multipart_upload(
                            Bucket=self.address.place,
                            Key=upload["Key"],
                            UploadId=upload["UploadId"],
                        )
                        aborted += 1
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("NotImplemented", "NoSuchUpload"):
                    raise
        return aborted

    def _uploads(self) -> Iterator[Mapping[str, Any]]:
        pages = self.boto.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.address.place, Prefix=self.address.path("")
        )
        for page in pages:
            yield from page.get("Uploads", ())

    def protections(self) -> Protections:
        """What the bucket's settings say, as far as the credentials may read them."""
        with self._asked("the bucket's settings cannot be read"):
            versioning = self._setting("get_bucket_versioning")
            lock = self._setting("get_object_lock_configuration")
            rules = self._setting("get_bucket_lifecycle_configuration")
        return Protections(
            None if versioning is None else versioning.get("Status") == "Enabled",
            None if lock is None else "ObjectLockConfiguration" in lock,
            None if rules is None else any(self._aborts(rule) for rule in rules.get("Rules", ())),
        )

    def _setting(self, operation: str) -> dict[str, Any] | None:
        """A setting of the bucket; empty if it is not made, None if we are not told."""
        try:
            return dict(getattr(self.boto, operation)(Bucket=self.address.place))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            is_unset = code.endswith("NotFoundError") or code == "NoSuchLifecycleConfiguration"
            return {} if is_unset else None

    def _aborts(self, rule: Mapping[str, Any]) -> bool:
        scope = rule.get("Filter", {}).get("Prefix", rule.get("Prefix", ""))
        return (
            rule["Status"] == "Enabled"
            and "AbortIncompleteMultipartUpload" in rule
            and self.address.path("").startswith(scope)
        )

    @contextmanager
    def _asked(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise _blamed(doing, error, self.secrets) from error


def open_s3(address: StoreAddress, credentials: Mapping[str, str], timeout: float) -> S3Objects:
    """A bucket, which is not asked yet. Raises StorageError without any credentials."""
    secrets = tuple(credentials.values())
    try:
        session = botocore.session.Session()
        session.register_component("data_loader", _MODELS)
        boto = _boto(session, address, credentials, timeout)
        chain = boto._request_signer._credentials  # noqa: SLF001 - it has no other name
    except (BotoCoreError, ValueError) as error:
        raise _blamed("the store cannot be opened", error, secrets) from None
    if chain is None:
        raise StoreDenied(
            "there are no credentials for the store",
            hint="Give an access key and its secret, or set them in the environment.",
        )

    def bucket(limits: "ClientConfig", retry: "RetryConfig") -> Bucket:
        endpoint, is_path_style = boto.meta.endpoint_url, _is_path_style(address)
        return Bucket(
            address.place,
            config={
                "endpoint": endpoint if is_path_style else _virtual(endpoint, address.place),
                "virtual_hosted_style_request": not is_path_style,
                "region": boto.meta.region_name,
                "checksum_algorithm": "SHA256",
                "disable_bulk_delete": True,  # not every service has it
            },
            client_options=limits,
            retry_config=retry,
            credential_provider=lambda: _current(chain),
        )

    return S3Objects(address, client(bucket, timeout), secrets, boto=boto)


def _current(chain: Any) -> "S3Credential":
    """The credentials as obstore takes them; botocore renews those of a role."""
    frozen = chain.get_frozen_credentials()
    return {
        "access_key_id": frozen.access_key,
        "secret_access_key": frozen.secret_key,
        "token": frozen.token,
        "expires_at": datetime.now(UTC) + _KEPT,
    }


def _boto(
    session: botocore.session.Session,
    address: StoreAddress,
    credentials: Mapping[str, str],
    timeout: float,
) -> Any:
    """botocore's client, with the same limits as obstore's."""
    region = (
        address.options.get("region")
        or os.environ.get("AWS_REGION")
        or session.get_config_variable("region")
        or _DEFAULT_REGION
    )
    return session.create_client(
        "s3",
        region_name=region,
        endpoint_url=address.options.get("endpoint"),
        config=Config(
            connect_timeout=min(timeout, 10),
            read_timeout=timeout,
            retries={"total_max_attempts": 2, "mode": "standard"},
            s3={"addressing_style": "path" if _is_path_style(address) else "virtual"},
            request_checksum_calculation="when_required",
        ),
        **{_NAMES[name]: value for name, value in credentials.items()},
    )


def _is_path_style(address: StoreAddress) -> bool:
    """Whether the bucket is part of the path, as with most services but Amazon's own."""
    default = "true" if "endpoint" in address.options or "." in address.place else "false"
    return address.options.get("path_style", default) == "true"


def _virtual(endpoint: str, bucket: str) -> str:
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"


def _refuse_locked(key: str, head: Mapping[str, Any]) -> None:
    until = head.get("ObjectLockRetainUntilDate")
    if head.get("ObjectLockLegalHoldStatus") == "ON":
        raise ObjectLocked(f"{key} is locked by a legal hold")
    if until is not None and until > datetime.now(UTC):
        raise ObjectLocked(
            f"{key} is locked until {until:%Y-%m-%d %H:%M} UTC",
            hint="Its bucket keeps it until then; it can be removed afterwards.",
        )


def _blamed(doing: str, error: Exception, secrets: tuple[str, ...]) -> StorageError:
    """botocore's errors in obstore's words."""
    if isinstance(error, ClientError):
        answer = error.response["Error"]
        region = f"<Region>{answer['Region']}</Region>" if "Region" in answer else ""
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        words = (
            f"<Code>{answer.get('Code')}</Code><Message>{answer.get('Message')}</Message>{region}"
            f"status code: {status}"
        )
    else:
        words = f"{type(error).__name__}: {error}"
    return store_error(doing, words, secrets)
