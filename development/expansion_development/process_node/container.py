"""Computes how a container of a pod is started as a local process: arguments, environment and paths. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expansion_contract import environment
from expansion_development.kubernetes_api import Manifest
from expansion_development.process_node.images import Program

DEFAULT_TERMINATION_PATH = "/dev/termination-log"
_REFERENCE = re.compile(r"\$(\$|\(([-._a-zA-Z0-9]+)\))")
_KEYED_FIELD = re.compile(r"^metadata\.(labels|annotations)\['([^']+)'\]$")

Lookup = Callable[[str, str], Mapping[str, str] | None]
"""("secrets" or "configmaps", name) -> its data; None if there is no such object."""


class ConfigMissing(Exception):
    """The pod refers to something that is not there; the message is a kubelet's."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    path: str
    """In the container."""
    local: Path


@dataclass(frozen=True, kw_only=True)
class Launch:
    arguments: tuple[str, ...]
    environment: dict[str, str]


def launch(
    container: Manifest, pod: Manifest, program: Program, mounts: Sequence[Mount], lookup: Lookup
) -> Launch:
    """Raises ConfigMissing for a Secret or ConfigMap that is not there and not optional."""
    variables = dict(program.environment) | variables_of(container, pod, lookup)
    words = [*_command(container, program, variables), *_arguments(container, variables)]
    local = {name: translated(value, mounts) for name, value in variables.items()}
    termination = container.get("terminationMessagePath", DEFAULT_TERMINATION_PATH)
    local[environment.TERMINATION_LOG] = translated(termination, mounts)
    return Launch(arguments=tuple(translated(word, mounts) for word in words), environment=local)


def _command(container: Manifest, program: Program, variables: Mapping[str, str]) -> list[str]:
    words = [expanded(word, variables) for word in container.get("command") or program.entrypoint]
    if words and (local := program.programs.get(words[0])):
        return [*local, *words[1:]]
    return words


def _arguments(container: Manifest, variables: Mapping[str, str]) -> list[str]:
    return [expanded(word, variables) for word in container.get("args") or ()]


def variables_of(container: Manifest, pod: Manifest, lookup: Lookup) -> dict[str, str]:
    """envFrom first, then env, each value seeing those before it."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        variables.update(_all_of(source, lookup))
    for entry in container.get("env") or ():
        value = _value(entry, pod, variables, lookup)
        if value is not None:
            variables[entry["name"]] = value
    return variables


def _all_of(source: Manifest, lookup: Lookup) -> Iterator[tuple[str, str]]:
    plural, reference = _reference(source, {"secretRef": "secrets", "configMapRef": "configmaps"})
    data = _data(plural, reference, lookup)
    prefix = source.get("prefix", "")
    return iter({f"{prefix}{key}": value for key, value in (data or {}).items()}.items())


def _value(entry: Manifest, pod: Manifest, variables: Mapping[str, str], lookup: Lookup) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expanded(entry.get("value", ""), variables)
    if "fieldRef" in source:
        return field_of(pod, source["fieldRef"]["fieldPath"])
    known = {"secretKeyRef": "secrets", "configMapKeyRef": "configmaps"}
    plural, reference = _reference(source, known)
    data = _data(plural, reference, lookup)
    if data is None:
        return None
    key = reference["key"]
    if key not in data and not reference.get("optional"):
        raise ConfigMissing(
            f"couldn't find key {key} in {_KIND[plural]} {pod['metadata']['namespace']}/{reference['name']}"
        )
    return data.get(key)


_KIND = {"secrets": "Secret", "configmaps": "ConfigMap"}


def _reference(source: Manifest, known: Mapping[str, str]) -> tuple[str, Manifest]:
    for field, plural in known.items():
        if field in source:
            return plural, source[field]
    raise ConfigMissing(f"the process node knows no environment from {', '.join(source)}")


def _data(plural: str, reference: Manifest, lookup: Lookup) -> Mapping[str, str] | None:
    data = lookup(plural, reference["name"])
    if data is None and not reference.get("optional"):
        raise ConfigMissing(f'{_KIND[plural].lower()} "{reference["name"]}" not found')
    return data


def field_of(pod: Manifest, path: str) -> str:
    """The downward API's answer to a field path."""
    if keyed := _KEYED_FIELD.match(path):
        return str((pod["metadata"].get(keyed[1]) or {}).get(keyed[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None or isinstance(value, dict | list):
        raise ConfigMissing(f"fieldPath {path} is not known to the process node")
    return str(value)


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """$(NAME) becomes the variable's value, $$ becomes $; an unknown name stays as it is written."""

    def replacement(found: re.Match[str]) -> str:
        return "$" if found[1] == "$" else variables.get(found[2], found[0])

    return _REFERENCE.sub(replacement, text)


def translated(text: str, mounts: Sequence[Mount]) -> str:
    """Every path below a mount, alone or inside the text, becomes the local one. s3://bucket/models is no path /models."""
    for mount in sorted(mounts, key=lambda mount: -len(mount.path)):
        path = re.escape(mount.path.rstrip("/"))
        pattern = rf"(?:(?<=file://)|(?<![\w./-])){path}(?=/|$|[^\w./-])"
        text = re.sub(pattern, str(mount.local).replace("\\", r"\\"), text)
    return text
