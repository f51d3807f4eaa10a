"""Reads a resource from a file as kubectl would take it, with local folders relative to the file, and says what is wrong with it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from expansion_contract import architectures, availability, dataset, written
from expansion_contract.dataset import Listing, Role
from expansion_contract.problems import SpecError, sentences
from expansion_contract.resource import (
    API_VERSION,
    KIND,
    MAX_NAME,
    NAME_RULE,
    ClassifierExpansion,
    Pretrained,
)
from expansion_contract.run import storage_access
from expansion_storage import Entry, open_prefix

_ADDRESSES = (
    ("base", "pretrained", "weights", "uri"),
    ("base", "model", "uri"),
    ("base", "pack", "uri"),
    ("categories", "images"),
    ("categories", "unknownImages"),
    ("replay", "images"),
    ("unlabelled", "images"),
    ("output", "models"),
    ("storage", "cache"),
)


class Refused(Exception):
    """What a user asked for cannot be done; the message is all they need to see."""

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))


def read(path: Path, output: str | None = None) -> ClassifierExpansion:
    """`output` takes the place of spec.output.models. Raises Refused with a sentence for everything that is wrong."""
    body = _body(path)
    if output is not None:
        body["spec"] = {
            **body.get("spec", {}),
            "output": {**body.get("spec", {}).get("output", {}), "models": local(output)},
        }
    try:
        expansion = written.resource(_resolved(body, path.resolve().parent))
    except SpecError as error:
        raise Refused(str(error)) from None
    if problems := [*_problems(expansion)]:
        raise Refused(*problems)
    return expansion


def pretrained(architecture: str, weights: str | None, sha256: str | None) -> Pretrained:
    """The network that a command line names, as spec.base.pretrained would. Raises Refused."""
    if problem := architectures.problem_with(architecture):
        raise Refused(problem.replace("spec.base.pretrained.architecture", "--architecture"))
    if (weights is None) != (sha256 is None):
        raise Refused("--weights and --sha256 go together: sha256sum prints the digest of the file.")
    given = {"uri": local(weights), "sha256": sha256} if weights else {"name": "imagenet"}
    try:
        return Pretrained.model_validate({"architecture": architecture, "weights": given})
    except ValidationError as error:
        raise Refused(*sentences(error)) from None


def listing(expansion: ClassifierExpansion) -> Listing:
    """Lists everything a run would read. Storage errors pass."""
    return dataset.read(_entries(expansion), expansion.spec.categories, expansion.spec.mode)


def _entries(expansion: ClassifierExpansion) -> Iterator[tuple[Role, Entry]]:
    """In the order of the roles: the digest depends on it."""
    spec, access = expansion.spec, storage_access(expansion)
    addresses = {
        Role.NEW: spec.categories.images,
        Role.REPLAY: spec.replay.images if spec.replay else None,
        Role.UNLABELLED: spec.unlabelled.images if spec.unlabelled else None,
        Role.UNKNOWN: spec.categories.unknown_images,
    }
    for role, address in addresses.items():
        if address is not None:
            for entry in open_prefix(address, access).list():
                yield role, entry


class _Twice(yaml.YAMLError):
    """A name stands twice in one mapping: YAML would keep the last one and say nothing."""


class _AsKubectl(yaml.SafeLoader):
    """YAML as kubectl reads it: dates are text, and no name stands twice in a mapping."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise _Twice(f"line {line}: {key.value!r} stands there already, in line {lines[key.value]}.")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _body(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        documents = [document for document in yaml.load_all(text, _AsKubectl) if document]
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from None
    except _Twice as error:
        raise Refused(f"{path}, {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    ours = [document for document in documents if isinstance(document, dict) and document.get("kind") == KIND]
    if len(ours) != 1:
        raise Refused(f"{path} has {len(ours)} documents of kind {KIND} ({API_VERSION}); one is needed.")
    return ours[0]


def _resolved(value: Any, folder: Path, addresses: tuple[tuple[str, ...], ...] = _ADDRESSES) -> Any:
    """A copy of the body in which the local addresses below spec are absolute."""
    spec = value.get("spec")
    for address in addresses:
        spec = _with_absolute(spec, address, folder)
    return {**value, "spec": spec} if spec is not None else value


def _with_absolute(value: Any, path: tuple[str, ...], folder: Path) -> Any:
    if not isinstance(value, dict) or path[0] not in value:
        return value
    inner = value[path[0]]
    if len(path) > 1:
        return {**value, path[0]: _with_absolute(inner, path[1:], folder)}
    is_relative = isinstance(inner, str) and inner.startswith((".", "~"))
    return {**value, path[0]: str((folder / Path(inner).expanduser()).resolve())} if is_relative else value


def local(address: str) -> str:
    """An address from the command line: local ones are relative to where the command is given."""
    return address if "://" in address else str(Path(address).expanduser().resolve())


def _problems(expansion: ClassifierExpansion) -> Iterator[str]:
    name, pretrained = expansion.metadata.name, expansion.spec.base.pretrained
    if len(name) > MAX_NAME or not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"{NAME_RULE.message}; got {name}."
    yield from availability.refused(expansion.spec)
    if expansion.spec.base.expansion_ref is not None:
        yield (
            "spec.base.expansionRef names a ClassifierExpansion of a cluster, which this machine does not see: name the folder of the"
            " version it published in spec.base.model.uri."
        )
    if pretrained and (problem := architectures.problem_with(pretrained.architecture)):
        yield problem
