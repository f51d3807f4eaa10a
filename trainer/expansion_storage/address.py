"""Turns an address and the way to reach it into a place: s3://bucket/prefix/, file:///folder or a plain path."""

from dataclasses import dataclass
from pathlib import Path

from expansion_contract.run import StorageAccess
from expansion_storage.errors import StorageRefused
from expansion_storage.folder import FolderPrefix
from expansion_storage.prefix import Prefix
from expansion_storage.s3 import S3Prefix, client


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Keys of an account. Without them boto3's own chain decides (environment, files, the pod's identity)."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(access_key_id={self.access_key_id!r}, secret_access_key=…)"


def open_prefix(
    uri: str, access: StorageAccess, credentials: Credentials | None = None, ca_bundle: str | None = None
) -> Prefix:
    """The place at `uri`. Nothing is asked of the store yet. `ca_bundle`: a file of certificates, see also AWS_CA_BUNDLE."""
    if not uri.startswith("s3://"):
        return FolderPrefix(Path(uri.removeprefix("file://")))
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise StorageRefused(f"{uri} names no bucket; write s3://bucket/prefix/.")
    return S3Prefix(client(access, credentials, ca_bundle), bucket, prefix.rstrip("/"))
