"""A real Kubernetes API on this machine: etcd, kube-apiserver and kube-controller-manager as children of this process.

No scheduler, no kubelet, no Service addresses: `process_node` stands in for what pods need.
`python -m expansion_development.control_plane [--where | --build]` says where the programs are, or gets them.
"""

import argparse
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from expansion_development import programs
from expansion_development.processes import free_port, start, stop, tail
from expansion_development.programs import ControlPlaneUnavailable, Places

__all__ = ["ControlPlane", "ControlPlaneUnavailable"]

_START_SECONDS = 180.0
_CONTROLLERS = "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"
"""Endpoints may not have loopback addresses and our pods have no others: the process node writes the slices."""


_AUDITED: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
"""Administrators may do everything; what service accounts do shows which permissions they need."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class ControlPlane:
    """Start it with `with`; `kubeconfig` is an administrator's. Everything is removed at the end; logs stay after a failure."""

    def __init__(
        self,
        binaries: Mapping[str, Path] | None = None,
        folder: Path | None = None,
        waits_for_definitions: bool = False,
    ) -> None:
        """`waits_for_definitions`: controllers are started later, by `start_controllers`."""
        self._binaries, self._waits = binaries, waits_for_definitions
        self._made = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="expansion-control-plane-"))
        self.kubeconfig = self.folder / "kubeconfig"
        self.logs = self.folder / "log"
        self.audit_log = self.logs / "audit.log"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._arguments: dict[str, list[str]] = {}
        self._token = secrets.token_hex(16)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop(keep=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.stop(keep=kind is not None and not issubclass(kind, KeyboardInterrupt))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def start_controllers(self, controllers: str = _CONTROLLERS) -> None:
        """`controllers`: as the manager's flag has them. Garbage collection learns of a kind defined later after half a minute."""
        binary = self._programs()[programs.CONTROLLERS]
        self._run(programs.CONTROLLERS, _manager(binary, self.folder, free_port(), controllers))

    def stop(self, keep: bool = False) -> None:
        """`keep` leaves the folder with the logs and says where it is."""
        for name in reversed(list(self._processes)):
            stop(self._processes.pop(name), grace_seconds=0.5)  # etcd's data is thrown away: nothing to save
        if keep and self.logs.is_dir():
            say(f"The control plane's logs are kept in {self.logs}.")
        elif self._made:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        found = self._programs()
        self.logs.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self._write_credentials()
        etcd = f"http://127.0.0.1:{free_port()}"
        self._run(programs.ETCD, _etcd(found[programs.ETCD], self.folder, etcd))
        self._run(programs.API_SERVER, _api_server(found[programs.API_SERVER], self.folder, etcd, self._port))
        self._wait("readyz", "https", self._port)
        self.kubeconfig.write_text(_kubeconfig(self.folder, self.url, self._token))
        if not self._waits:
            self.start_controllers()

    def _programs(self) -> Mapping[str, Path]:
        return self._binaries or programs.obtain(programs.ALL, Places.of(dict(os.environ)), say)

    def _write_credentials(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.folder / "sa.key").write_bytes(private)
        (self.folder / "sa.pub").write_bytes(public)
        (self.folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        for secret in ("sa.key", "tokens.csv"):
            (self.folder / secret).chmod(0o600)
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(_AUDITED))

    def restart_api_server(self) -> None:
        """As an upgrade does it: it forgets every change it could still have told a watcher of."""
        stop(self._processes[programs.API_SERVER], grace_seconds=0.5)
        self._run(programs.API_SERVER, self._arguments[programs.API_SERVER])
        self._wait("readyz", "https", self._port)

    def _run(self, name: str, arguments: list[str]) -> None:
        self._arguments[name] = arguments
        self._processes[name] = start(arguments, self.logs / f"{name}.log", folder=self.folder)

    def _wait(self, path: str, scheme: str, port: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(f"{scheme}://127.0.0.1:{port}/{path}", self._token):
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise ControlPlaneUnavailable(
                        f"{name} ended with {process.returncode} at once:\n{tail(self.logs / f'{name}.log')}"
                    )
            if time.monotonic() > deadline:
                raise ControlPlaneUnavailable(
                    f"The API server was not ready within {_START_SECONDS:.0f} s; see {self.logs}."
                )
            time.sleep(0.05)


def _answers(url: str, token: str) -> bool:
    trusting = ssl._create_unverified_context()  # the certificate is made while we wait
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=2, context=trusting) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _etcd(binary: Path, folder: Path, url: str) -> list[str]:
    peers = f"http://127.0.0.1:{free_port()}"
    return [
        str(binary),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",
    ]


def _api_server(binary: Path, folder: Path, etcd: str, port: int) -> list[str]:
    return [
        str(binary),
        f"--etcd-servers={etcd}",
        f"--cert-dir={folder / 'certificates'}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={port}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'sa.pub'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        f"--audit-policy-file={folder / 'audit.yaml'}",
        f"--audit-log-path={folder / 'log' / 'audit.log'}",
        "--service-cluster-ip-range=10.96.0.0/24",
        "--allow-privileged=true",
    ]


def _manager(binary: Path, folder: Path, port: int, controllers: str) -> list[str]:
    return [
        str(binary),
        f"--kubeconfig={folder / 'kubeconfig'}",
        f"--service-account-private-key-file={folder / 'sa.key'}",
        f"--root-ca-file={folder / 'certificates' / 'apiserver.crt'}",
        f"--controllers={controllers}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'controller-certificates'}",
    ]


def _kubeconfig(folder: Path, url: str, token: str) -> str:
    name = "expansion-embedded"
    cluster = {"server": url, "certificate-authority": str(folder / "certificates" / "apiserver.crt")}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
            "current-context": name,
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="expansion_development.control_plane", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--where", action="store_true", help="print where the programs are; get nothing")
    choice.add_argument("--build", action="store_true", help="get what is missing, then print where it is")
    arguments = parser.parse_args()
    places = Places.of(dict(os.environ))
    try:
        found = (
            programs.find(programs.ALL, places)
            if arguments.where
            else programs.obtain(programs.ALL, places, say)
        )
    except ControlPlaneUnavailable as problem:
        say(str(problem))
        return 1
    for name in programs.ALL:
        print(f"{name:24} {found.get(name, 'missing')}")
    return 0 if len(found) == len(programs.ALL) else 1


if __name__ == "__main__":
    sys.exit(main())
