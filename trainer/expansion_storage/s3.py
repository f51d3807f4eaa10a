"""S3-compatible storage through boto3, with its many errors sorted into three and explained."""

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Protocol

import boto3
import botocore.session
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from botocore.utils import parse_timestamp

from expansion_contract.resource import Addressing, Checksums
from expansion_contract.run import StorageAccess
from expansion_storage.errors import (
    ObjectChanged,
    ObjectMissing,
    StorageError,
    StorageRefused,
    StorageUnavailable,
)
from expansion_storage.prefix import Entry, Tagged

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
else:
    S3Client = Any

CONNECTIONS = 32
_CLIENTS = 32
"""Ways in that are kept open: each costs a third of a MiB and its connections."""
_USER_AGENT = f"classifier-expansion Boto3/{boto3.__version__}"
_PART = 64 * 2**20
_CHECKSUMS: dict[Checksums, Literal["when_required", "when_supported"]] = {
    Checksums.WHEN_REQUIRED: "when_required",
    Checksums.WHEN_SUPPORTED: "when_supported",
}


class Keys(Hashable, Protocol):
    @property
    def access_key_id(self) -> str: ...
    @property
    def secret_access_key(self) -> str: ...
    @property
    def session_token(self) -> str | None: ...


class _NotImplemented(StorageUnavailable):
    """The store does not know what it was asked for."""


logger = logging.getLogger(__name__)
_making = Lock()


def client(access: StorageAccess, credentials: Keys | None, ca_bundle: str | None) -> S3Client:
    """One client for each way in; clients are safe to share between threads, making them is not."""
    with _making:
        return _client(access, credentials, ca_bundle)


@cache
def _session() -> boto3.session.Session:
    """One for all: each would hold its own 12 MiB of what S3 can do and where it is."""
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    return boto3.session.Session(botocore_session=core)


def _moment(text: str) -> datetime:
    """As a listing has it, in a twentieth of the time that boto needs to guess; anything else as boto reads it."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)
    return moment if moment.tzinfo else parse_timestamp(text)


@lru_cache(maxsize=_CLIENTS)
def _client(access: StorageAccess, credentials: Keys | None, ca_bundle: str | None) -> S3Client:
    checksums = _CHECKSUMS[access.checksums]
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"total_max_attempts": 4, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        # For the store's log; boto's own is put together anew for every request.
        user_agent=_USER_AGENT,
        s3={"addressing_style": "path" if access.addressing is Addressing.PATH else "virtual"},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )
    return _session().client(
        "s3",
        endpoint_url=access.endpoint_url or None,
        region_name=access.region or "us-east-1",
        aws_access_key_id=credentials.access_key_id if credentials else None,
        aws_secret_access_key=credentials.secret_access_key if credentials else None,
        aws_session_token=credentials.session_token if credentials else None,
        verify=ca_bundle,
        config=config,
    )


class S3Prefix:
    def __init__(self, s3: S3Client, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, prefix

    @property
    def uri(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}/" if self._prefix else f"s3://{self._bucket}/"

    def below(self, name: str) -> "S3Prefix":
        return S3Prefix(self._s3, self._bucket, self._key(name.strip("/")))

    def address(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._key(key)}"

    def list(self, under: str = "") -> Iterator[Entry]:
        start = self._key("")
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._key(under)
        )
        with self._explained(self.address(under)):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Entry(
                        key=found["Key"][len(start) :],
                        size=found["Size"],
                        etag=found["ETag"].strip('"'),
                        modified=found["LastModified"].timestamp(),
                    )

    def read(self, key: str) -> bytes:
        with self._explained(self.address(key)):
            return bytes(self._s3.get_object(Bucket=self._bucket, Key=self._key(key))["Body"].read())

    def read_tagged(self, key: str) -> Tagged:
        with self._explained(self.address(key)):
            found = self._s3.get_object(Bucket=self._bucket, Key=self._key(key))
            return Tagged(content=found["Body"].read(), tag=found["ETag"])

    def find(self, key: str) -> Entry | None:
        try:
            with self._explained(self.address(key)):
                found = self._s3.head_object(Bucket=self._bucket, Key=self._key(key))
        except ObjectMissing:
            return None
        return Entry(
            key=key,
            size=found["ContentLength"],
            etag=found["ETag"].strip('"'),
            modified=found["LastModified"].timestamp(),
        )

    def write(self, key: str, content: bytes, content_type: str = "application/octet-stream") -> None:
        with self._explained(self.address(key)):
            self._s3.put_object(
                Bucket=self._bucket, Key=self._key(key), Body=content, ContentType=content_type
            )

    def replace(
        self, key: str, content: bytes, tag: str | None, content_type: str = "application/octet-stream"
    ) -> str | None:
        try:
            with self._explained(self.address(key)):
                return self._put_in_place_of(key, content, tag, content_type)
        except _NotImplemented:
            _say_unconditional(self._s3.meta.endpoint_url)
            self.write(key, content, content_type)
        except (ObjectChanged, ObjectMissing):
            if not self._holds(key, content):
                raise ObjectChanged.at(self.address(key)) from None
        return None

    def _put_in_place_of(self, key: str, content: bytes, tag: str | None, content_type: str) -> str | None:
        put = partial(
            self._s3.put_object,
            Bucket=self._bucket,
            Key=self._key(key),
            Body=content,
            ContentType=content_type,
        )
        answer = put(IfNoneMatch="*") if tag is None else put(IfMatch=tag)
        told: str | None = answer.get("ETag")
        return told

    def _holds(self, key: str, content: bytes) -> bool:
        try:
            return self.read(key) == content
        except ObjectMissing:
            return False

    def upload(self, key: str, source: Path) -> None:
        with self._explained(self.address(key)):
            self._s3.upload_file(str(source), self._bucket, self._key(key), Config=_TRANSFER)

    def download(self, key: str, target: Path) -> None:
        with self._explained(self.address(key)):
            self._s3.download_file(self._bucket, self._key(key), str(target), Config=_TRANSFER)

    def copy(self, source: str, target: str) -> None:
        with self._explained(self.address(source)):
            self._s3.copy(
                {"Bucket": self._bucket, "Key": self._key(source)},
                self._bucket,
                self._key(target),
                Config=_TRANSFER,
            )

    def delete(self, key: str) -> None:
        with self._explained(self.address(key)):
            self._s3.delete_object(Bucket=self._bucket, Key=self._key(key))

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    @contextmanager
    def _explained(self, address: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise explained(error, address, self._s3.meta.endpoint_url) from error


_TRANSFER = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=4)


def explained(error: BotoCoreError | ClientError, address: str, endpoint: str) -> StorageError:
    """The error in a person's words, sorted by who can mend it."""
    if isinstance(error, ClientError):
        return _answered(error, address, endpoint)
    if isinstance(error, SSLError):
        return StorageRefused(
            f"{endpoint} shows a certificate that is not trusted ({_first_line(error)}). If it is signed by a private authority,"
            " put that authority's certificate as ca.crt into the Secret that spec.storage.caSecretName names.",
            "CertificateUntrusted",
        )
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StorageRefused(
            f"There are no credentials for {address}. Name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in"
            " spec.storage.secretName, or give the pod an identity.",
            "NoCredentials",
        )
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return StorageUnavailable(
            f"{endpoint} cannot be reached ({_first_line(error)}). Check spec.storage.endpointUrl and the network.",
            "EndpointUnreachable",
        )
    return StorageUnavailable(f"{address}: {_first_line(error)}")


def _answered(error: ClientError, address: str, endpoint: str) -> StorageError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if make := _ANSWERS.get(code):
        return make(address, endpoint)
    if status == 404 and code in {"", "404", "NotFound"}:  # an answer to HEAD has no words
        return ObjectMissing(f"{address} does not exist.")
    if status in {401, 403}:
        return _denied(address, endpoint)
    if status == 412:
        return ObjectChanged.at(address)
    if status == 501:
        return _NotImplemented(f"{endpoint} does not implement what {address} was asked for ({code}).")
    if status >= 500 or status == 429:
        return StorageUnavailable(f"{endpoint} answered {status} {code} for {address}; it is tried again.")
    return StorageRefused(
        f"{endpoint} refused {address}: {error.response.get('Error', {}).get('Message', code)}"
    )


def _denied(address: str, endpoint: str) -> StorageError:
    return StorageRefused(
        f"{endpoint} does not allow this account to use {address}. Grant it reading and listing (writing, too, for"
        " spec.output.models), or use other keys.",
        "AccessDenied",
    )


def _wrong_key(address: str, endpoint: str) -> StorageError:
    return StorageRefused(
        f"{endpoint} does not accept the keys for {address}: AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is wrong. Correct them in"
        " the Secret that spec.storage.secretName names.",
        "WrongCredentials",
    )


def _no_bucket(address: str, endpoint: str) -> StorageError:
    bucket = address.removeprefix("s3://").split("/", 1)[0]
    return StorageRefused(
        f"There is no bucket {bucket!r} at {endpoint} (for {address}). Create it, or correct the address.",
        "BucketMissing",
    )


_ANSWERS: dict[str, Callable[[str, str], StorageError]] = {
    "NoSuchBucket": _no_bucket,
    "NoSuchKey": lambda address, _: ObjectMissing(f"{address} does not exist."),
    "InvalidAccessKeyId": _wrong_key,
    "SignatureDoesNotMatch": _wrong_key,
    "XAdminUserNotFound": _wrong_key,  # versitygw's 404 for an unknown access key
    "AuthorizationHeaderMalformed": _wrong_key,
    "AccessDenied": _denied,
    "ConditionalRequestConflict": lambda address, _: ObjectChanged.at(address),
}


@cache
def _say_unconditional(endpoint: str) -> None:
    """Once."""
    logger.warning(
        "%s does not implement conditional writes (If-Match, If-None-Match): documents there are written without. An operator that"
        " slept through its Lease may overwrite what its successor wrote, until the successor's next look.",
        endpoint,
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
