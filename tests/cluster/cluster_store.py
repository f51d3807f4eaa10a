"""An object store on this machine that pods reach: versitygw over a folder, TLS by a private authority, signatures checked."""

import base64
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster_tools import Body, program

from expansion_contract.run import StorageAccess
from expansion_development.certificates import private_authority
from expansion_development.processes import free_port, start, stop, tail, wait_until
from expansion_storage import Credentials
from expansion_storage.s3 import client

OUR_CLUSTER = "10.245.0.1"


@dataclass(frozen=True, kw_only=True)
class Store:
    endpoint: str
    credentials: Credentials
    authority: Path

    @property
    def s3(self) -> Any:
        return client(StorageAccess(endpoint_url=self.endpoint), self.credentials, str(self.authority))

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [found["Key"] for found in listed.get("Contents", [])]

    def keys_secret(self, name: str, namespace: str) -> Body:
        content = {
            "AWS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_access_key,
        }
        return _secret(name, namespace, {key: value.encode() for key, value in content.items()})

    def authority_secret(self, name: str, namespace: str) -> Body:
        return _secret(name, namespace, {"ca.crt": self.authority.read_bytes()})


def _secret(name: str, namespace: str, content: dict[str, bytes]) -> Body:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
    }


@contextmanager
def serving_store(folder: Path, host: str | None) -> Iterator[Store]:
    address = host or _address_that_pods_reach()
    certificates = private_authority(folder / "certificates", address)
    credentials = Credentials(access_key_id=secrets.token_hex(8), secret_access_key=secrets.token_hex(16))
    port, log, objects = free_port(), folder / "versitygw.log", folder / "objects"
    for made in (objects, folder / "metadata"):
        made.mkdir()
    serving = ["--port", f":{port}", "--cert", str(certificates.certificate), "--key", str(certificates.key)]
    kept = ["posix", "--sidecar", str(folder / "metadata"), str(objects)]
    keys = {
        "ROOT_ACCESS_KEY": credentials.access_key_id,
        "ROOT_SECRET_KEY": credentials.secret_access_key,
    }
    process = start([program("versitygw"), "--region", "us-east-1", *serving, *kept], log, os.environ | keys)
    try:
        if not wait_until(lambda: _listens(address, port), 30):
            pytest.fail(f"The object store did not start:\n{tail(log)}", pytrace=False)
        endpoint = f"https://{address}:{port}"
        yield Store(endpoint=endpoint, credentials=credentials, authority=certificates.authority)
    finally:
        stop(process)


def _address_that_pods_reach() -> str:
    with socket.socket() as probe:
        try:
            probe.bind((OUR_CLUSTER, 0))
        except OSError:
            pytest.fail(
                "EXPANSION_S3_HOST is not set: give this machine's IP address as the cluster's pods see it"
                " (kind: the gateway of the Docker network `kind`), so that they reach the object store of the tests.",
                pytrace=False,
            )
    return OUR_CLUSTER


def _listens(host: str, port: int) -> bool:
    with socket.socket() as attempt:
        attempt.settimeout(1)
        return attempt.connect_ex((host, port)) == 0
