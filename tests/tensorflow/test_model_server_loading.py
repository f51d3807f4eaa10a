"""What the C++ loader takes for a model and what it refuses: the reason why a copy must be whole before it has a number."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from serving_processes import tiny_classifier

from expansion_development.model_server.errors import StatusError
from expansion_development.model_server.servable import Servable

pytestmark = pytest.mark.tensorflow

DATA = "variables/variables.data-00000-of-00001"
INDEX = "variables/variables.index"
GRAPH = "saved_model.pb"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "1"
    tiny_classifier(folder, ["daisy", "rose", "tulip"])
    return folder


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "1")
    return tmp_path / "1"


def ask(model: Servable, image: bytes = b"a") -> list[bytes]:
    images = np.array([image], dtype=np.object_)
    return list(model.run("serving_default", {"image_bytes": images})["names"][0])


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1] ^= 1
    path.write_bytes(bytes(content))


def test_a_whole_model_answers(model: Path):
    assert ask(Servable(model)) == [b"rose", b"daisy", b"tulip"]


@pytest.mark.parametrize("missing", [[INDEX], [INDEX, DATA]], ids=["index", "all variables"])
def test_a_model_without_its_variables_loads_and_then_fails_every_request(model: Path, missing: list[str]):
    """tensorflow/cc/saved_model/loader.cc: RunRestore; github.com/tensorflow/serving issues 1086 and 572."""
    for name in missing:
        (model / name).unlink()
    loaded = Servable(model)
    with pytest.raises(StatusError) as failed:
        ask(loaded)
    assert failed.value.code == "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    ("file", "damage", "code"),
    [
        pytest.param(DATA, Path.unlink, "NOT_FOUND", id="data missing"),
        pytest.param(DATA, halved, "OUT_OF_RANGE", id="data truncated"),
        pytest.param(DATA, bit_flipped, "DATA_LOSS", id="one bit of the data"),
        pytest.param(INDEX, halved, "DATA_LOSS", id="index truncated"),
        pytest.param(GRAPH, Path.unlink, "NOT_FOUND", id="no graph"),
        pytest.param(GRAPH, lambda path: path.write_bytes(b""), "NOT_FOUND", id="empty graph"),
    ],
)
def test_other_damage_is_noticed(model: Path, file: str, damage: Callable[[Path], None], code: str):
    """tensorflow/cc/saved_model/{loader,reader}.cc, core/util/tensor_bundle/tensor_bundle.cc."""
    damage(model / file)
    with pytest.raises(StatusError) as failed:
        Servable(model)
    assert failed.value.code == code


def record(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + b"\0" * 4 + content + b"\0" * 4


def warm_up(model: Path, signature: bytes, image: bytes = b"a") -> Path:
    """A TFRecord of one PredictionLog, in the wire format of apis/prediction_log.proto."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    shape = field(2, field(2, b"\x08\x01"))
    tensor = b"\x08\x07" + shape + field(8, image)
    spec = field(1, field(1, b"flowers") + field(3, signature))
    inputs = field(2, field(1, b"image_bytes") + field(2, tensor))
    file = model / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    file.write_bytes(record(field(6, field(1, spec + inputs))))
    return file


def test_warm_up_requests_are_replayed(model: Path):
    """servables/tensorflow/saved_model_warmup_util.cc: RunSavedModelWarmupUntracked."""
    warm_up(model, b"serving_default")
    assert ask(Servable(model)) == [b"rose", b"daisy", b"tulip"]


def test_a_warm_up_request_that_fails_is_a_failed_load(model: Path):
    """servables/tensorflow/saved_model_bundle_source_adapter.cc: so it also catches missing variables."""
    warm_up(model, b"serving_default")
    (model / INDEX).unlink()
    with pytest.raises(StatusError) as failed:
        Servable(model)
    assert failed.value.code == "FAILED_PRECONDITION"
    ask_without = Servable(model, warm_up=False)
    assert "serving_default" in ask_without.signatures


def test_a_warm_up_for_another_signature_is_a_failed_load(model: Path):
    """servables/tensorflow/predict_util.cc: RunPredict."""
    warm_up(model, b"other")
    with pytest.raises(StatusError, match='Serving signature key "other" not found'):
        Servable(model)


def test_a_truncated_warm_up_file_is_a_failed_load(model: Path):
    """tensorflow/core/lib/io/record_reader.cc."""
    halved(warm_up(model, b"serving_default"))
    with pytest.raises(StatusError, match="truncated record at 0"):
        Servable(model)


def test_a_model_that_nobody_holds_gives_its_memory_back(model: Path):
    """Ours: requests under way hold their version, the last one frees it; strings given in do not stay."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    ask(Servable(model))
    before = resident()
    loaded = Servable(model)
    for _ in range(300):
        ask(loaded, b"x" * 2**20)
    del loaded
    assert resident() - before < 100 * 2**20
