"""One loaded version of a model: its signatures, its session, and the warm-up that must pass before it is available."""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from expansion_development.model_server import protos, tensors
from expansion_development.model_server.errors import StatusError, invalid
from expansion_development.model_server.native import NUMPY_TYPES, STRING, Array, Session

DEFAULT_SIGNATURE = "serving_default"
_WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"
_MOST_WARM_UPS = 1000


class Servable:
    def __init__(self, folder: Path, warm_up: bool = True) -> None:
        self._session = Session(folder)
        self.signatures = protos.parsed("MetaGraphDef", self._session.meta_graph).signature_def
        if warm_up:
            self._warm_up(folder / _WARM_UP)

    def predict(self, document: dict[str, Any]) -> bytes:
        """A request's JSON to the answer's."""
        name = document.get("signature_name") or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        kinds = {key: info.dtype for key, info in sorted(self.signatures[name].inputs.items())}
        if not kinds:
            raise invalid(f"Failed to get input map for signature: {name}")
        feeds, row_format = tensors.inputs(document, kinds)
        return tensors.answer(self.run(name, feeds), row_format)

    def run(self, signature_name: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if signature_name not in self.signatures:
            raise StatusError("FAILED_PRECONDITION", f'Serving signature key "{signature_name}" not found.')
        signature = self.signatures[signature_name]
        if feeds.keys() != signature.inputs.keys():
            raise _wrong_inputs(set(feeds), set(signature.inputs))
        named = {signature.inputs[key].name: array for key, array in feeds.items()}
        keys = sorted(signature.outputs)
        arrays = self._session.run(named, [signature.outputs[key].name for key in keys])
        return dict(zip(keys, arrays, strict=True))

    def _warm_up(self, file: Path) -> None:
        """Without the file nothing is checked; a request in it that fails is a failed load."""
        if not file.exists():
            return
        for count, record in enumerate(_records(file.read_bytes()), start=1):
            if count > _MOST_WARM_UPS:
                raise invalid(f"Number of warmup records exceeds the maximum ({_MOST_WARM_UPS}) at {file}")
            request = protos.parsed("PredictionLog", record).predict_log.request
            feeds = {key: _array(tensor) for key, tensor in request.inputs.items()}
            self.run(request.model_spec.signature_name or DEFAULT_SIGNATURE, feeds)


def _wrong_inputs(sent: set[str], wanted: set[str]) -> StatusError:
    def shown(names: set[str]) -> str:
        return ",".join(sorted(names))

    return invalid(
        f"input size does not match signature: {len(sent)}!={len(wanted)} len({{{shown(sent)}}}) != len({{{shown(wanted)}}})."
        f" Sent extra: {{{shown(sent - wanted)}}}. Missing but required: {{{shown(wanted - sent)}}}."
    )


def _records(content: bytes) -> Iterator[bytes]:
    """A TFRecord file: length (8 bytes), its checksum (4), the record, its checksum (4). Checksums are not looked at."""
    position = 0
    while position < len(content):
        if position + 12 > len(content):
            raise StatusError("DATA_LOSS", f"truncated record at {position}")
        (length,) = struct.unpack_from("<Q", content, position)
        end = position + 12 + length + 4
        if end > len(content):
            raise StatusError("DATA_LOSS", f"truncated record at {position}")
        record = content[position + 12 : end - 4]
        position = end
        yield record


def _array(tensor: Any) -> Array:
    """Either packed in tensor_content or listed in the field of its type; one listed value may stand for all."""
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype=NUMPY_TYPES[tensor.dtype]).reshape(shape)
    fields = {1: "float_val", 2: "double_val", STRING: "string_val", 9: "int64_val", 10: "bool_val"}
    values = list(getattr(tensor, fields.get(tensor.dtype, "int_val")))
    array: Array = np.empty(shape, dtype=NUMPY_TYPES[tensor.dtype])
    array[...] = values[0] if len(values) == 1 else np.array(values, dtype=array.dtype).reshape(shape)
    return array
