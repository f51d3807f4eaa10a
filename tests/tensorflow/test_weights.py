"""What is said about weights files that are wrong, and that none of them can run code."""

import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from expansion_trainer.backbones import weights
from expansion_trainer.errors import WeightsError

pytestmark = pytest.mark.tensorflow


class Kind:
    """Pickles as a class of torch would."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Tensor:
    def __init__(self, key: str, offset: int, shape: tuple, strides: tuple, length: int) -> None:
        self.key, self.offset, self.shape, self.strides, self.length = key, offset, shape, strides, length


class Pickler(pickle._Pickler):
    """Writes PyTorch's legacy format without PyTorch: protocol 2, classes by name, storages by persistent id."""

    def persistent_id(self, value):
        if isinstance(value, tuple) and value and value[0] == "storage":
            return value
        return None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Kind):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Tensor):
            storage = ("storage", Kind("torch", "FloatStorage"), value.key, "cpu", value.length, None)
            self.save(Kind("torch._utils", "_rebuild_tensor_v2"))
            self.save((storage, value.offset, value.shape, value.strides, False, OrderedDict()))
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def dumped(value: object) -> bytes:
    target = io.BytesIO()
    Pickler(target, 2).dump(value)
    return target.getvalue()


def state_dict(tensors: object, storages: dict[str, np.ndarray]) -> bytes:
    header = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, tensors, list(storages)]
    values = (struct.pack("<q", len(a)) + a.astype("<f4").tobytes() for a in storages.values())
    return b"".join(map(dumped, header)) + b"".join(values)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_strides_and_offsets_are_honoured(path):
    tensors = OrderedDict(
        plain=Tensor("0", 0, (2, 3), (3, 1), 6),
        turned=Tensor("0", 0, (3, 2), (1, 3), 6),
        part=Tensor("0", 4, (2,), (1,), 6),
    )
    path.write_bytes(state_dict(tensors, {"0": np.arange(6.0)}))
    found = weights.read_pytorch(path, "x.pth")
    assert found["plain"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["part"].tolist() == [4, 5]


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(Tensor("0", 0, (7,), (1,), 6), id="too long"),
        pytest.param(Tensor("0", 4, (3,), (1,), 6), id="offset too far"),
        pytest.param(Tensor("0", 0, (2, 3), (300, 1), 6), id="stride too far"),
        pytest.param(Tensor("0", 5, (2,), (-1,), 6), id="negative stride"),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(path, tensor):
    path.write_bytes(state_dict(OrderedDict(t=tensor), {"0": np.arange(6.0)}))
    with pytest.raises(WeightsError, match=r"x.pth is not a readable PyTorch state dict \(a tensor of shape"):
        weights.read_pytorch(path, "x.pth")


def test_a_file_that_wants_to_run_code_is_refused_before_it_can(path, tmp_path):
    target = tmp_path / "was-run"

    class Runs:
        def __reduce__(self):
            return Path.touch, (target,)

    path.write_bytes(dumped(0x1950A86A20F9469CFC6C) + pickle.dumps(Runs(), 2))
    with pytest.raises(WeightsError, match="has no place in a weights file"):
        weights.read_pytorch(path, "x.pth")
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04 rest", id="newer zip format"),
        pytest.param(dumped(1) + dumped(2), id="some other pickle"),
        pytest.param(state_dict(OrderedDict(), {})[:20], id="truncated header"),
        pytest.param(
            state_dict(OrderedDict(t=Tensor("0", 0, (6,), (1,), 6)), {"0": np.arange(6.0)})[:-4],
            id="truncated numbers",
        ),
    ],
)
def test_damaged_pytorch_files_are_named_with_the_format_that_works(path, content):
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"^s3://w/x.pth is not a readable .*_use_new_zipfile_serialization=False"
    ):
        weights.read_pytorch(path, "s3://w/x.pth")


def test_the_digest_of_arrays_knows_values_types_shapes_and_order():
    one, two = np.zeros((2, 3), np.float32), np.ones(3, np.float32)
    digests = {
        weights.arrays_digest(arrays)
        for arrays in (
            [one, two],
            [two, one],
            [one.reshape(3, 2), two],
            [one.astype(np.float64), two],
            [one, one],
        )
    }
    assert len(digests) == 5
    assert weights.arrays_digest([one.T.T, two]) == weights.arrays_digest([one, two])


def test_a_file_that_is_no_hdf5_is_damaged(path):
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"s3://w/x.h5 is not a readable HDF5 file"):
        weights.keras_suffix(path, "s3://w/x.h5")
