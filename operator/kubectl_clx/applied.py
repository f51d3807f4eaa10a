"""What the resource will be once a file is applied to it, as kubectl, Argo CD and Flux apply it. Pure.

Fields that the file does not name stay as somebody else set them; fields that it named before and names no more go.
"""

import copy
import json
from typing import Any

Body = dict[str, Any]
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def after_applying(file: Body, live: Body) -> Body:
    """`live` with what `file` changes in spec, labels and annotations. Defaults are for the parser to fill in again."""
    result = copy.deepcopy(live)
    merge = _by_server if _is_applied_by_server(live) else _by_kubectl
    before = _owned(live) if merge is _by_server else _last_applied(live)
    for part in ("spec", "metadata"):
        wanted = _metadata(file) if part == "metadata" else file.get("spec") or {}
        known = _metadata(before) if part == "metadata" else before.get("spec") or {}
        result[part] = merge(result.get(part) or {}, copy.deepcopy(wanted), known)
    return result


def _by_kubectl(live: Body, wanted: Body, before: Body) -> Body:
    """A three-way merge patch: null means "not given", and what is given no more goes with all below it."""
    kept = {key: value for key, value in live.items() if key in wanted or key not in before}
    for key, value in wanted.items():
        if value is None:
            if before.get(key) is not None:
                kept.pop(key, None)
        elif isinstance(value, dict) and isinstance(live.get(key), dict):
            kept[key] = _by_kubectl(live[key], value, _part(before, key))
        else:
            kept[key] = value
    return kept


def _by_server(live: Body, wanted: Body, before: Body) -> Body:
    """Server-side apply: null is a value, and only fields go that those who apply own alone."""
    kept: Body = {}
    for key in live.keys() | wanted.keys():
        if isinstance(live.get(key), dict) and isinstance(wanted.get(key, {}), dict):
            owned = _part(before, key)
            if key in wanted or key not in before:
                kept[key] = _by_server(live[key], wanted.get(key, {}), owned)
            elif rest := _by_server(live[key], {}, owned) if owned else {}:
                kept[key] = rest
        elif key in wanted:
            kept[key] = wanted[key]
        elif key not in before:
            kept[key] = live[key]
    return kept


def _part(before: Body, key: str) -> Body:
    inner = before.get(key)
    return inner if isinstance(inner, dict) else {}


def _metadata(body: Body) -> Body:
    metadata = body.get("metadata") or {}
    return {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}


def _is_applied_by_server(live: Body) -> bool:
    return any(_is_apply(entry) for entry in live["metadata"].get("managedFields") or ())


def _is_apply(entry: Body) -> bool:
    return entry.get("operation") == "Apply" and not entry.get("subresource")


def _last_applied(live: Body) -> Body:
    text = (live["metadata"].get("annotations") or {}).get(_LAST_APPLIED)
    return json.loads(text) if text else {}


def _owned(live: Body) -> Body:
    """What those who apply own alone, in the shape of an object. Lists count as wholes."""
    applied: Body = {}
    for entry in live["metadata"].get("managedFields") or ():
        if _is_apply(entry):
            _add(applied, entry.get("fieldsV1") or {})
    for entry in live["metadata"].get("managedFields") or ():
        if not _is_apply(entry) and not entry.get("subresource"):
            _remove(applied, entry.get("fieldsV1") or {})
    return applied


def _add(shape: Body, fields: Body) -> None:
    for key, inner in fields.items():
        if key.startswith("f:"):
            below = shape.setdefault(key[2:], {})
            _add(below, inner)


def _remove(shape: Body, fields: Body) -> None:
    """Leaves only: an object is shared by all who own something in it."""
    for key, inner in fields.items():
        name = key[2:]
        if key.startswith("f:") and name in shape:
            if any(part.startswith("f:") for part in inner):
                _remove(shape[name], inner)
            elif not shape[name]:
                del shape[name]
