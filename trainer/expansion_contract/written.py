"""A resource as a person wrote it into a file, read as strictly as an API server takes it: types and names as they stand, nothing twice.

Only for files. What an API server has stored is read by resource.parsed, which never refuses what was once accepted.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from expansion_contract.problems import SpecError, sentences
from expansion_contract.resource import API_VERSION, ClassifierExpansion
from expansion_contract.schema import Strict

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_METADATA = frozenset(
    [
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    ]
)
"""ObjectMeta's fields."""


def resource(body: dict[str, Any]) -> ClassifierExpansion:
    """Raises SpecError with a sentence a line. What stands under status is nobody's to write, and is not read."""
    found = [
        *_at_the_top(body),
        *_in_metadata(body.get("metadata")),
        *_twice(body, ClassifierExpansion),
    ]
    asked = {name: value for name, value in body.items() if name in _TOP and name != "status"}
    try:
        content = json.dumps(_plain(_with_values(asked, ClassifierExpansion)), default=str)
        expansion = ClassifierExpansion.model_validate_json(
            content, strict=True, by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise SpecError("\n".join([*found, *sentences(error)])) from None
    if found:
        raise SpecError("\n".join(found))
    return expansion


def _at_the_top(body: dict[str, Any]) -> Iterator[str]:
    if "apiVersion" not in body:
        yield f"apiVersion is required: {API_VERSION}."
    for name in body:
        if name not in _TOP:
            yield f"{name}: there is no such field. A resource has {', '.join(_TOP[:4])}."


def _in_metadata(metadata: Any) -> Iterator[str]:
    if not isinstance(metadata, dict):
        return
    for name in metadata.keys() - _METADATA:
        yield f"metadata.{name}: there is no such field."
    labels = metadata.get("labels")
    for name, value in labels.items() if isinstance(labels, dict) else ():
        if not isinstance(value, str):
            yield f"metadata.labels.{name}: must be a string, got {value!r}. Quote it."


def _with_values(value: Any, model: type[Strict]) -> Any:
    """Without fields that have no value and must have one, as an API server reads `split:` with nothing behind it."""
    if not isinstance(value, dict):
        return value
    fields = {field.alias: field for field in model.model_fields.values()}
    found = {}
    for name, inner in value.items():
        field = fields.get(name)
        if inner is None and field is not None and type(None) not in get_args(field.annotation):
            continue
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        below = next((k for k in kinds if isinstance(k, type) and issubclass(k, Strict)), None)
        found[name] = inner if below is None else _with_values(inner, below)
    return found


def _plain(value: Any) -> Any:
    """10.0 is 10, as it is to Kubernetes."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _twice(value: Any, model: type[Strict], path: str = "") -> Iterator[str]:
    """Entries of sets, and keys of lists that are maps, that stand there more than once."""
    if not isinstance(value, dict):
        return
    for field in model.model_fields.values():
        inner, where = value.get(field.alias or ""), f"{path}.{field.alias}".removeprefix(".")
        if isinstance(inner, list):
            yield from _repeated(inner, _keys(field), where)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Strict):
                yield from _twice(inner, kind, where)


def _keys(field: FieldInfo) -> Sequence[str] | None:
    """() for a set, the names of the keys for a map, None for a list that may repeat itself."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        return None
    if extra.get("x-kubernetes-list-type") == "set":
        return ()
    keys = extra.get("x-kubernetes-list-map-keys")
    return [str(key) for key in keys] if isinstance(keys, list) else None


def _repeated(entries: Sequence[Any], keys: Sequence[str] | None, where: str) -> Iterator[str]:
    if keys is None:
        return
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        named = {key: entry.get(key) for key in keys} if keys and isinstance(entry, dict) else entry
        name = json.dumps(named, sort_keys=True, default=str)
        if name in seen:
            what = ", ".join(f"{key} {entry[key]!r}" for key in keys if key in entry) or repr(entry)
            yield f"{where}[{index}]: {what} stands there twice."
        seen.add(name)
