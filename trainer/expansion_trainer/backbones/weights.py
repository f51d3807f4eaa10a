"""Reads weights files; every way in which one can be wrong becomes a sentence that names the file."""

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from expansion_trainer.errors import WeightsError

Array = NDArray[Any]

_MAGIC = 0x1950A86A20F9469CFC6C
"""The first of the five pickles of PyTorch's legacy format: magic, protocol, machine, tensors, keys of the storages."""
_STORAGES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8"}


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrays_digest(arrays: Iterable[Array]) -> str:
    """For weights that came without a file: the values, their types and shapes, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def is_pytorch(path: Path) -> bool:
    """By content: pickles begin with 0x80, PyTorch's newer archives are zip files."""
    with path.open("rb") as file:
        start = file.read(4)
    return start[:1] == b"\x80" or start == b"PK\x03\x04"


def keras_suffix(path: Path, name: str) -> str:
    """The ending by which Keras recognises the file's kind, which its own name may not have. `name`: for messages."""
    try:
        with h5py.File(path, "r") as file:
            return ".h5" if "layer_names" in file.attrs or "model_weights" in file else ".weights.h5"
    except OSError as error:
        raise WeightsError(
            f"{name} is not a readable HDF5 file ({first_line(error)}): it is damaged or no Keras weights file. Upload it again."
        ) from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    length: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements; most weights are stored transposed

    def read(self, values: Array) -> Array:
        """A copy in ordinary order. The strides come from a file, so they are checked against the storage's end."""
        end = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or end >= len(values):
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond its storage")
        steps = tuple(step * values.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps).copy()


def _tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    """Knows tensors and their storages and nothing else, so that a weights file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a weights file")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, length, *_ = pid
        return _Storage(key, _STORAGES[kind], length)


def read_pytorch(path: Path, name: str) -> dict[str, Array]:
    """The tensors of a legacy (non-zip) PyTorch state dict, without PyTorch. `name`: for messages."""
    try:
        with path.open("rb") as file:
            return _state_dict(file)
    except Exception as error:  # unpickling damaged bytes raises nearly anything
        raise WeightsError(
            f"{name} is not a readable PyTorch state dict ({first_line(error)}). It must be in PyTorch's legacy format:"
            " torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)."
        ) from error


def _state_dict(file: BinaryIO) -> dict[str, Array]:
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("its first number is not PyTorch's")
    for _ in ("protocol version", "machine"):
        _Unpickler(file).load()
    tensors = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values = {key: _values(file, storages[key]) for key in keys}
    return {name: tensor.read(values[tensor.storage.key]) for name, tensor in tensors.items()}


def _values(file: BinaryIO, storage: _Storage) -> Array:
    (length,) = np.frombuffer(file.read(8), "<i8")
    if length != storage.length:
        raise ValueError(f"storage {storage.key} has {length} numbers instead of {storage.length}")
    size = storage.length * np.dtype(storage.dtype).itemsize
    return np.frombuffer(file.read(size), storage.dtype)


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
