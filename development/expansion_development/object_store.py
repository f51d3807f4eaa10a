"""An S3 server on this machine, as a child of this process: moto (in memory, accepts any key) or versitygw (a folder, checks keys)."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from expansion_contract.run import StorageAccess
from expansion_development.certificates import Certificates, private_authority
from expansion_development.processes import free_port, start, stop, tail, wait_until
from expansion_storage import Credentials
from expansion_storage.s3 import client

_START_SECONDS = 60.0
_REGION = "us-east-1"


class ObjectStoreUnavailable(Exception):
    """The server did not start; the message carries its last words."""


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """A running server and the way in."""

    endpoint: str
    credentials: Credentials
    log: Path
    authority: Path | None = None
    """The private authority's certificate; None without TLS."""

    @property
    def access(self) -> StorageAccess:
        return StorageAccess(endpoint_url=self.endpoint)

    def create_bucket(self, name: str) -> None:
        ca_bundle = str(self.authority) if self.authority else None
        client(self.access, self.credentials, ca_bundle).create_bucket(Bucket=name)

    def secret(self) -> dict[str, str]:
        """The data of the Secret that spec.storage.secretName names."""
        return {
            "AWS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_access_key,
        }


@contextmanager
def moto(tls: bool = False) -> Iterator[ObjectStore]:
    """In memory; every key is accepted."""
    with _folder() as folder:
        certificates = private_authority(folder / "certificates") if tls else None
        port = free_port()
        arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        if certificates:
            arguments += ["-c", str(certificates.certificate), "-k", str(certificates.key)]
        with _running(arguments, dict(os.environ), port, folder, certificates, _new_credentials()) as store:
            yield store


@contextmanager
def versitygw(
    binary: Path, tls: bool = False, folder: Path | None = None, keep_alive: bool = False
) -> Iterator[ObjectStore]:
    """Over a folder; keys and signatures are checked, ETags and multipart uploads are real. `keep_alive`: connections are used again."""
    with _folder() as scratch:
        certificates = private_authority(scratch / "certificates") if tls else None
        objects = folder or scratch / "objects"
        objects.mkdir(parents=True, exist_ok=True)
        credentials, port = _new_credentials(), free_port()
        arguments = [str(binary), "--port", f"127.0.0.1:{port}", "--region", _REGION]
        if certificates:
            arguments += ["--cert", str(certificates.certificate), "--key", str(certificates.key)]
        arguments += ["--keep-alive"] * keep_alive
        arguments += ["posix", *_metadata(objects, scratch), str(objects)]
        environment = {
            **os.environ,
            "ROOT_ACCESS_KEY": credentials.access_key_id,
            "ROOT_SECRET_KEY": credentials.secret_access_key,
        }
        with _running(arguments, environment, port, scratch, certificates, credentials) as store:
            yield store


def _metadata(objects: Path, scratch: Path) -> Sequence[str]:
    """Where the folder's file system has no extended attributes, metadata lie in files beside it."""
    probe = objects / ".xattr"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", b"1")
        return ()
    except OSError:
        sidecar = scratch / "metadata"
        sidecar.mkdir()
        return ("--sidecar", str(sidecar))
    finally:
        probe.unlink()


@contextmanager
def _running(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    folder: Path,
    certificates: Certificates | None,
    credentials: Credentials,
) -> Iterator[ObjectStore]:
    log = folder / "server.log"
    process = start(arguments, log, environment, folder)
    try:
        _wait(process, port, log)
        yield ObjectStore(
            endpoint=f"{'https' if certificates else 'http'}://127.0.0.1:{port}",
            credentials=credentials,
            log=log,
            authority=certificates.authority if certificates else None,
        )
    finally:
        stop(process)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    def settled() -> bool:
        return process.poll() is not None or _listens(port)

    if not wait_until(settled, _START_SECONDS, every=0.05) or process.poll() is not None:
        raise ObjectStoreUnavailable(f"The S3 server did not start. Its last words:\n{tail(log)}")


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.settimeout(1)
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def _new_credentials() -> Credentials:
    return Credentials(access_key_id=secrets.token_hex(8), secret_access_key=secrets.token_hex(16))


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="expansion-object-store-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
