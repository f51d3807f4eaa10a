"""Downloads the programs of a control plane where the sites that publish them can be reached; else says so and goes on."""

import hashlib
import platform
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

_VERSION = "v1.36.2"
"""The newest release of the test archives that has the minor version of go.mod."""
_SHA512 = {
    "amd64": "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dcf30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08",
    "arm64": "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae28181afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac",
}
"""As controller-tools' envtest-releases.yaml states them."""
_ARCHIVED = ("etcd", "kube-apiserver", "kubectl")
_CONTROLLERS = "kube-controller-manager"
_TIMEOUT_SECONDS = 5  # without an answer, not for the whole file


def download(names: Sequence[str], folder: Path, say: Callable[[str], None]) -> list[str]:
    """The names that are still missing afterwards."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if not architecture or not set(names) & {*_ARCHIVED, _CONTROLLERS}:
        return list(names)
    try:
        if set(names) & set(_ARCHIVED):
            say(f"Downloading the published test archive of Kubernetes {_VERSION} (about 70 MB) ...")
            _unpack(_archive(architecture), [name for name in names if name in _ARCHIVED], folder)
        if _CONTROLLERS in names:
            say(f"Downloading {_CONTROLLERS} {_VERSION} (about 70 MB) ...")
            _install(_controllers(architecture), folder / _CONTROLLERS)
    except (OSError, ValueError, tarfile.TarError) as error:
        say(f"The published programs cannot be had from here ({_first_line(error)}); building them instead.")
    return [name for name in names if not (folder / name).exists()]


def _archive(architecture: str) -> bytes:
    tag = f"envtest-{_VERSION}"
    content = _get(
        "https://github.com/kubernetes-sigs/controller-tools/releases/download"
        f"/{tag}/{tag}-linux-{architecture}.tar.gz"
    )
    return _checked(content, _SHA512[architecture])


def _controllers(architecture: str) -> bytes:
    address = f"https://dl.k8s.io/release/{_VERSION}/bin/linux/{architecture}/{_CONTROLLERS}"
    return _checked(_get(address), _get(f"{address}.sha512").decode().split()[0])


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:
        return bytes(answer.read())


def _checked(content: bytes, sha512: str) -> bytes:
    if (seen := hashlib.sha512(content).hexdigest()) != sha512:
        raise ValueError(f"wrong checksum {seen[:12]}…, {sha512[:12]}… was expected")
    return content


def _unpack(archive: bytes, names: Sequence[str], folder: Path) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file) as members:
            for member in members:
                content = members.extractfile(member) if Path(member.name).name in names else None
                if content:
                    _install(content.read(), folder / Path(member.name).name)


def _install(content: bytes, target: Path) -> None:
    partial = target.with_suffix(".partial")
    partial.write_bytes(content)
    partial.chmod(0o755)
    partial.replace(target)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
