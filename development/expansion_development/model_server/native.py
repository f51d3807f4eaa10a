"""TensorFlow's C interface, from the library inside its wheel: the C++ loader and session that TensorFlow Serving uses.

`import tensorflow` is avoided: it takes seconds, and its Python loader is stricter (it refuses a model without its variables,
which the C++ loader, and so TensorFlow Serving, loads).
"""

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from expansion_development.model_server.errors import CODES, StatusError

Array = np.ndarray[Any, np.dtype[Any]]
STRING = 7
NUMPY_TYPES: dict[int, type] = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    6: np.int8,
    STRING: np.object_,
    9: np.int64,
    10: np.bool_,
}
_STRING_BYTES = 24  # sizeof(TF_TString)


class _Output(ctypes.Structure):
    _fields_ = (("operation", c_void_p), ("index", c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "TF_NewStatus": (c_void_p, []),
    "TF_DeleteStatus": (None, [c_void_p]),
    "TF_GetCode": (c_int, [c_void_p]),
    "TF_Message": (c_char_p, [c_void_p]),
    "TF_NewGraph": (c_void_p, []),
    "TF_DeleteGraph": (None, [c_void_p]),
    "TF_NewSessionOptions": (c_void_p, []),
    "TF_DeleteSessionOptions": (None, [c_void_p]),
    "TF_NewBuffer": (POINTER(_Buffer), []),
    "TF_DeleteBuffer": (None, [POINTER(_Buffer)]),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        [c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, POINTER(_Buffer), c_void_p],
    ),
    "TF_DeleteSession": (None, [c_void_p, c_void_p]),
    "TF_GraphOperationByName": (c_void_p, [c_void_p, c_char_p]),
    "TF_SessionRun": (
        None,
        [
            c_void_p,
            c_void_p,
            POINTER(_Output),
            POINTER(c_void_p),
            c_int,
            POINTER(_Output),
            POINTER(c_void_p),
            c_int,
            c_void_p,
            c_int,
            c_void_p,
            c_void_p,
        ],
    ),
    "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
    "TF_DeleteTensor": (None, [c_void_p]),
    "TF_TensorType": (c_int, [c_void_p]),
    "TF_NumDims": (c_int, [c_void_p]),
    "TF_Dim": (c_int64, [c_void_p, c_int]),
    "TF_TensorData": (c_void_p, [c_void_p]),
    "TF_TensorByteSize": (c_size_t, [c_void_p]),
    "TF_StringInit": (None, [c_void_p]),
    "TF_StringCopy": (None, [c_void_p, c_char_p, c_size_t]),
    "TF_StringGetDataPointer": (c_void_p, [c_void_p]),
    "TF_StringGetSize": (c_size_t, [c_void_p]),
    "TF_StringDealloc": (None, [c_void_p]),
}


@cache
def _library() -> ctypes.CDLL:
    wheel = find_spec("tensorflow")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("TensorFlow is not installed: pip install tensorflow-cpu.")
    folder = Path(wheel.origin).parent
    ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"), mode=ctypes.RTLD_GLOBAL)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class _Status:
    """`with _Status() as status: TF_Something(…, status)` raises what went wrong."""

    def __enter__(self) -> int:
        self._status = int(_library().TF_NewStatus())
        return self._status

    def __exit__(self, *raised: object) -> None:
        code = CODES[_library().TF_GetCode(self._status)]
        message = _library().TF_Message(self._status).decode(errors="replace")
        _library().TF_DeleteStatus(self._status)
        if code != "OK":
            raise StatusError(code, message)


class Session:
    """One loaded SavedModel; freed when the last reference goes, so a request under way keeps it."""

    def __init__(self, folder: Path) -> None:
        tf = _library()
        self._graph, options, meta_graph = tf.TF_NewGraph(), tf.TF_NewSessionOptions(), tf.TF_NewBuffer()
        tags = (c_char_p * 1)(b"serve")
        try:
            with _Status() as status:
                self._session = tf.TF_LoadSessionFromSavedModel(
                    options, None, bytes(folder), tags, 1, self._graph, meta_graph, status
                )
            weakref.finalize(self, _delete, self._session, self._graph).atexit = False
            self.meta_graph = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
        except StatusError:
            tf.TF_DeleteGraph(self._graph)
            raise
        finally:
            tf.TF_DeleteBuffer(meta_graph)
            tf.TF_DeleteSessionOptions(options)

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Tensors by their graph names, "serve_x:0"."""
        inputs = [_to_native(array) for array in feeds.values()]
        try:
            outputs = self._run_native(list(feeds), inputs, fetches)
        finally:
            for tensor in inputs:
                _delete_input(tensor)
        arrays = [_from_native(tensor) for tensor in outputs]
        for tensor in outputs:
            _library().TF_DeleteTensor(tensor)
        return arrays

    def _run_native(self, names: Sequence[str], inputs: list[int], fetches: Sequence[str]) -> list[int]:
        values = (c_void_p * len(inputs))(*inputs)
        results = (c_void_p * len(fetches))()
        with _Status() as status:
            _library().TF_SessionRun(
                *(self._session, None, self._places(names), values, len(inputs)),
                *(self._places(fetches), results, len(fetches), None, 0, None, status),
            )
        return [int(result or 0) for result in results]

    def _places(self, names: Sequence[str]) -> Any:
        return (_Output * len(names))(*(self._place(name) for name in names))

    def _place(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = _library().TF_GraphOperationByName(self._graph, operation.encode())
        if not found:
            raise StatusError("NOT_FOUND", f"Tensor {name} is not in the graph.")
        return _Output(found, int(index or 0))


def _delete(session: int, graph: int) -> None:
    with _Status() as status:
        _library().TF_DeleteSession(session, status)
    _library().TF_DeleteGraph(graph)


def _to_native(array: Array) -> int:
    kind = next(number for number, numpy_type in NUMPY_TYPES.items() if array.dtype == numpy_type)
    dimensions = (c_int64 * array.ndim)(*array.shape)
    size = array.size * _STRING_BYTES if kind == STRING else array.nbytes
    tensor: int = _library().TF_AllocateTensor(kind, dimensions, array.ndim, size)
    data = _library().TF_TensorData(tensor)
    if kind != STRING:
        ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, array.nbytes)
        return tensor
    for position, text in enumerate(array.ravel()):
        _library().TF_StringInit(data + position * _STRING_BYTES)
        _library().TF_StringCopy(data + position * _STRING_BYTES, text, len(text))
    return tensor


def _delete_input(tensor: int) -> None:
    """The C interface frees a tensor of strings without the strings."""
    if _library().TF_TensorType(tensor) == STRING:
        data = _library().TF_TensorData(tensor)
        for offset in range(0, _library().TF_TensorByteSize(tensor), _STRING_BYTES):
            _library().TF_StringDealloc(data + offset)
    _library().TF_DeleteTensor(tensor)


def _from_native(tensor: int) -> Array:
    tf = _library()
    kind = tf.TF_TensorType(tensor)
    if kind not in NUMPY_TYPES:
        raise StatusError(
            "UNIMPLEMENTED", f"The stand-in does not know outputs of TensorFlow's data type {kind}."
        )
    shape = [tf.TF_Dim(tensor, axis) for axis in range(tf.TF_NumDims(tensor))]
    data, size = tf.TF_TensorData(tensor), tf.TF_TensorByteSize(tensor)
    if kind != STRING:
        content = ctypes.string_at(data, size) if size else b""
        return np.frombuffer(content, dtype=NUMPY_TYPES[kind]).reshape(shape)
    texts = [_text(data + offset) for offset in range(0, size, _STRING_BYTES)]
    return np.array([*texts, None], dtype=np.object_)[:-1].reshape(shape)


def _text(string: int) -> bytes:
    tf = _library()
    return ctypes.string_at(tf.TF_StringGetDataPointer(string), tf.TF_StringGetSize(string))
