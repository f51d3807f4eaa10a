"""Makes a pod's volumes as local folders and tells where each container sees them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from expansion_development.kubernetes_api import Manifest
from expansion_development.process_node.container import (
    DEFAULT_TERMINATION_PATH,
    ConfigMissing,
    Lookup,
    Mount,
    field_of,
)

_OBJECTS = {"secret": ("secrets", "secretName"), "configMap": ("configmaps", "name")}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What volumes are filled from."""

    lookup: Lookup
    token: Callable[[str], str]
    """A token of the pod's service account for an audience."""


def make(pod: Manifest, folder: Path, sources: Sources) -> dict[str, Path]:
    """Volume name -> local folder. Raises ConfigMissing, as a kubelet's MountVolume.SetUp would fail."""
    made = {}
    for volume in pod["spec"].get("volumes") or ():
        local = folder / volume["name"]
        local.mkdir(parents=True, exist_ok=True)
        made[volume["name"]] = _filled(volume, pod, local, sources)
    return made


def _filled(volume: Manifest, pod: Manifest, local: Path, sources: Sources) -> Path:
    if "emptyDir" in volume:
        return local
    if "hostPath" in volume:
        return Path(volume["hostPath"]["path"])
    if "projected" in volume:
        for source in volume["projected"].get("sources") or ():
            _write(_projected(source, pod, sources), local)
        return local
    for kind, (plural, key) in _OBJECTS.items():
        if kind in volume:
            _write(_files(volume[kind], plural, volume[kind][key], sources.lookup), local)
            return local
    unknown = ", ".join(sorted(set(volume) - {"name"}))
    raise ConfigMissing(f"the process node knows no volumes of kind {unknown}")


def _projected(source: Manifest, pod: Manifest, sources: Sources) -> dict[str, str]:
    if "serviceAccountToken" in source:
        asked = source["serviceAccountToken"]
        return {asked["path"]: sources.token(asked.get("audience", ""))}
    if "downwardAPI" in source:
        items = source["downwardAPI"].get("items") or ()
        return {item["path"]: field_of(pod, item["fieldRef"]["fieldPath"]) for item in items}
    for kind, (plural, _) in _OBJECTS.items():
        if kind in source:
            return _files(source[kind], plural, source[kind]["name"], sources.lookup)
    raise ConfigMissing(f"the process node knows no projected source {', '.join(source)}")


def _files(reference: Manifest, plural: str, name: str, lookup: Lookup) -> dict[str, str]:
    data = lookup(plural, name)
    if data is None:
        if reference.get("optional"):
            return {}
        raise ConfigMissing(f'{plural.removesuffix("s")} "{name}" not found')
    if not (items := reference.get("items")):
        return dict(data)
    missing = [item["key"] for item in items if item["key"] not in data]
    if missing and not reference.get("optional"):
        raise ConfigMissing(f"references non-existent secret key: {', '.join(missing)}")
    return {item["path"]: data[item["key"]] for item in items if item["key"] in data}


def _write(files: Mapping[str, str], local: Path) -> None:
    for name, content in files.items():
        target = local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(0o600)


def mounts(container: Manifest, made: Mapping[str, Path], termination_log: Path) -> list[Mount]:
    """Where the container's paths are on this machine, its termination message among them."""
    found = [
        Mount(path=mount["mountPath"], local=made[mount["name"]] / mount.get("subPath", ""))
        for mount in container.get("volumeMounts") or ()
    ]
    path = container.get("terminationMessagePath", DEFAULT_TERMINATION_PATH)
    return [*found, Mount(path=path, local=termination_log)]
