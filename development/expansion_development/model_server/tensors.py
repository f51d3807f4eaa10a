"""JSON to tensors and back, as tensorflow_serving/util/json_tensor.cc does it, with its messages."""

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from expansion_development.model_server.errors import StatusError, invalid
from expansion_development.model_server.native import NUMPY_TYPES, STRING, Array
from expansion_development.model_server.protos import data_type_name

_BOOL = 10
_FLOATS = {1, 2}
_JSON_TYPES = {bool: "Boolean", str: "String", dict: "Object", list: "Array", int: "Number", float: "Number"}


def parse(body: bytes) -> dict[str, Any]:
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid value. at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from None
    if not isinstance(document, dict):
        raise _format_error(document, "Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise _format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return document


def inputs(document: dict[str, Any], kinds: Mapping[str, int]) -> tuple[dict[str, Array], bool]:
    """The request's tensors, and whether it is in row format. `kinds`: the data type of each input of the signature."""
    if "instances" in document and "inputs" in document:
        raise _format_error(
            document,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if "instances" in document:
        return _rows(document, kinds), True
    if "inputs" in document:
        return _columns(document["inputs"], kinds), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(document: dict[str, Any], kinds: Mapping[str, int]) -> dict[str, Array]:
    instances = document["instances"]
    if not isinstance(instances, list):
        raise _format_error(document, "Expecting 'instances' to be an list/array")
    if not instances:
        raise _format_error(document, "No values in 'instances' array")
    if not isinstance(instances[0], dict) and len(kinds) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per"
            " tensorinfo_map"
        )
    named = _is_named(instances[0])
    rows = [_row(position, item, named, kinds) for position, item in enumerate(instances)]
    return {name: _stacked([row[name] for row in rows], kind) for name, kind in kinds.items()}


def _row(position: int, item: Any, named: bool, kinds: Mapping[str, int]) -> dict[str, Array]:
    """One instance's tensors, without the batch dimension."""
    if named and not _is_named(item):
        raise invalid(f"Expecting object but got list at item {position} of input list")
    if not named and _is_named(item):
        raise invalid(f"Expecting value/list but got object at item {position} of input list")
    where = f"Failed to process element: {position}"
    values = item if named else {next(iter(kinds)): item}
    row = {}
    for name, value in values.items():
        key = f" key: {name}" if named else ""
        try:
            if name not in kinds:
                raise invalid(f"JSON object: does not have named input: {name}")
            row[name] = _tensor(value, kinds[name])
        except StatusError as error:
            raise invalid(f"{where}{key} of 'instances' list. Error: {error.code}: {error.message}") from None
    if row.keys() != kinds.keys():
        raise invalid(
            f"{where} of 'instances' list. JSON object: {_shown(item)} keys must be equal to: {','.join(sorted(kinds))}"
        )
    return row


def _stacked(parts: Sequence[Array], kind: int) -> Array:
    for position, part in enumerate(parts):
        if part.size != parts[0].size:
            raise invalid(
                f"Failed to process element: {position} of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size:"
                f" {parts[0].size} but got: {part.size}"
            )
        if part.shape != parts[0].shape:
            raise invalid(
                f"Failed to process element: {position} of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape"
                f" {_shape(parts[0])} but got: {_shape(part)}"
            )
    batch: Array = np.empty((len(parts), *parts[0].shape), dtype=NUMPY_TYPES[kind])
    for position, part in enumerate(parts):
        batch[position] = part[()]
    return batch


def _columns(value: Any, kinds: Mapping[str, int]) -> dict[str, Array]:
    if _is_named(value):
        for name in kinds:
            if name not in value:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
        return {name: _tensor(value[name], kind) for name, kind in kinds.items()}
    if len(kinds) > 1:
        raise invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
        )
    name, kind = next(iter(kinds.items()))
    return {name: _tensor(value, kind)}


def _tensor(value: Any, kind: int) -> Array:
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    array: Array = np.empty(math.prod(shape), dtype=NUMPY_TYPES[kind])
    for position, leaf in enumerate(_leaves(value, shape, 0)):
        array[position] = _scalar(leaf, kind)
    return array.reshape(shape)


def _leaves(value: Any, shape: Sequence[int], level: int) -> Iterator[Any]:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level:"
                f" {len(shape)}"
            )
        yield value
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        yield from _leaves(item, shape, level + 1)


def _scalar(value: Any, kind: int) -> Any:
    if kind == STRING and isinstance(value, dict):
        return _decoded(value)
    if kind == STRING and isinstance(value, str):
        return value.encode()
    if kind == _BOOL and isinstance(value, bool):
        return value
    number = isinstance(value, int | float) if kind in _FLOATS else isinstance(value, int)
    if kind not in {STRING, _BOOL} and number and not isinstance(value, bool):
        return value
    json_type = _JSON_TYPES.get(type(value), "Null")
    raise invalid(
        f"JSON Value: {_shown(value)} Type: {json_type} is not of expected type: {data_type_name(kind)}"
    )


def _decoded(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except binascii.Error:
        raise invalid("Unable to base64 decode") from None


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def answer(outputs: Mapping[str, Array], row_format: bool) -> bytes:
    """The body of a predict answer. One output stands bare, several are an object."""
    if row_format:
        return b'{\n    "predictions": ' + _row_format(outputs) + b"\n}"
    bare = len(outputs) == 1
    columns = {name: _written(array, name) for name, array in outputs.items()}
    return b'{\n    "outputs": ' + (next(iter(columns.values())) if bare else _object(columns)) + b"\n}"


def _row_format(outputs: Mapping[str, Array]) -> bytes:
    batch: int | None = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch is not None and batch != len(array):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}")
        batch = len(array)
    rows = []
    for position in range(batch or 0):
        row = {name: _written(array[position], name) for name, array in outputs.items()}
        rows.append(_object(row) if len(row) > 1 else next(iter(row.values())))
    return b"[" + b", ".join(rows) + b"]"


def _object(members: Mapping[str, bytes]) -> bytes:
    return (
        b"{" + b", ".join(json.dumps(name).encode() + b": " + value for name, value in members.items()) + b"}"
    )


def _written(value: Any, name: str) -> bytes:
    if isinstance(value, np.ndarray) and value.ndim:
        return b"[" + b", ".join(_written(item, name) for item in value) + b"]"
    scalar = value[()] if isinstance(value, np.ndarray) else value
    if isinstance(scalar, bytes):
        return _string(scalar, as_bytes=name.endswith("_bytes"))
    if isinstance(scalar, np.floating):
        return _decimal(scalar).encode()
    return json.dumps(scalar.item()).encode()


def _string(text: bytes, as_bytes: bool) -> bytes:
    """Not base64 unless the output's name ends in _bytes, and then whatever bytes it holds."""
    if as_bytes:
        return _object({"b64": json.dumps(base64.b64encode(text).decode()).encode()})
    shown = json.dumps(text.decode("utf-8", "surrogateescape"), ensure_ascii=False)
    return shown.encode("utf-8", "surrogateescape")


def _decimal(value: "np.floating[Any]") -> str:
    """The six digits of %g if they give the same number, else all; never without a point or an exponent."""
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    short = f"{float(value):.6g}"
    text = short if type(value)(short) == value else f"{float(value):.{9 if value.nbytes == 4 else 17}g}"
    return text if "." in text or "e" in text else f"{text}.0"


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _shown(value: Any) -> str:
    return json.dumps(value)[:256]


def _format_error(value: Any, message: str) -> StatusError:
    return invalid(f"JSON Value: {_shown(value)} {message}")
