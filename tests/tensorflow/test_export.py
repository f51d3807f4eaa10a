"""Promises about the exported model, asked as a stranger would: load the SavedModel, send files, read names."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image
from tensorflow.core.framework import tensor_pb2

from expansion_contract import layout
from expansion_contract.report import Category
from expansion_contract.version import Golden
from expansion_trainer.bottlenecks.engine import Engine
from expansion_trainer.export import candidate, golden, warmup
from expansion_trainer.export.check import ExportMismatch, Sample
from expansion_trainer.export.loaded_model import LoadedModel, stored_categories, stored_head
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.evidence import procedural_image
from expansion_trainer.head.fit import FittedHead

pytestmark = pytest.mark.tensorflow

TOLERANCE = 1e-4


def fitted(backbone: Any, new: int, **changes: Any) -> FittedHead:
    random = np.random.default_rng(1)
    rows = random.normal(size=(backbone.bottleneck_size, new)).astype(np.float32)
    values: dict[str, Any] = {
        "weights": np.concatenate([backbone.head_weights, rows], axis=1),
        "bias": np.concatenate([backbone.head_bias, np.full(new, 0.25, np.float32)]),
        "base_count": len(backbone.head_bias),
        "solver": "Softmax",
        "l2": 0.001,
        "offset": 0.0,
        "temperature": 0.7,
        "evidence_kinds": ("procedural",),
        "steal_rate_validation": None,
        "steal_images": 0,
        "chosen_on": 0,
    }
    return FittedHead(**{**values, **changes})


def listed(backbone: Any, *names: str) -> list[Category]:
    count = len(backbone.categories)
    new = [Category(index=count + index, name=name, group="new") for index, name in enumerate(names)]
    return [*backbone.categories, *new]


@pytest.fixture(scope="module")
def images(make_picture: Callable[..., Any], encode: Callable[..., bytes]) -> list[bytes]:
    """JPEG and PNG files of several shapes."""
    shapes = [(48, 40), (20, 90), (200, 150), (31, 31)]
    return [
        encode(make_picture(seed, *shapes[seed % 4]), "PNG" if seed % 3 == 0 else "JPEG")
        for seed in range(12)
    ]


@pytest.fixture(scope="module")
def samples(tiny_backbone: Any, images: list[bytes]) -> list[Sample]:
    engine = Engine(tiny_backbone)
    rows = engine.bottlenecks([engine.decode(image) for image in images])
    return [Sample(image=image, bottleneck=row) for image, row in zip(images, rows, strict=True)]


@pytest.fixture(scope="module")
def head(tiny_backbone: Any) -> FittedHead:
    return fitted(tiny_backbone, 3)


@pytest.fixture(scope="module")
def folder(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("export") / "candidate"
    drawn = procedural_image(0, tiny_backbone.input_size, 0)
    candidate.write(folder, tiny_backbone, head, listed(tiny_backbone, "ein", "zwei", "drei"), samples, drawn)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Any:
    return tf.saved_model.load(str(folder))


def bottlenecks(samples: list[Sample]) -> Any:
    return np.stack([sample.bottleneck for sample in samples])


def probabilities(head: FittedHead, samples: list[Sample]) -> Any:
    return Answering.of(head, head.temperature).probabilities(bottlenecks(samples))


def test_probabilities_are_those_of_the_numpy_head(
    served: Any, head: FittedHead, samples: list[Sample], images: list[bytes]
) -> None:
    answer = served.signatures["probabilities"](image_bytes=tf.constant(images))
    expected = probabilities(head, samples)
    np.testing.assert_allclose(answer["probabilities"].numpy(), expected, atol=TOLERANCE)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)


def test_serving_default_answers_with_the_five_best_names(
    served: Any, head: FittedHead, samples: list[Sample], images: list[bytes], tiny_backbone: Any
) -> None:
    answer = served.signatures["serving_default"](image_bytes=tf.constant(images))
    expected = probabilities(head, samples)
    names = np.array([category.name for category in listed(tiny_backbone, "ein", "zwei", "drei")])
    assert answer["names"].shape == (12, 5)
    best = np.argsort(-expected, axis=1)[:, :5]
    np.testing.assert_allclose(
        answer["scores"].numpy(), np.take_along_axis(expected, best, 1), atol=TOLERANCE
    )
    assert [name.decode() for name in answer["names"].numpy()[:, 0]] == list(names[best[:, 0]])


@pytest.mark.parametrize("count", [1, 2, 12])
def test_an_answer_does_not_depend_on_the_company_an_image_is_in(
    served: Any, images: list[bytes], count: int
) -> None:
    together = served.signatures["probabilities"](image_bytes=tf.constant(images))["probabilities"].numpy()
    some = served.signatures["probabilities"](image_bytes=tf.constant(images[:count]))[
        "probabilities"
    ].numpy()
    np.testing.assert_allclose(some, together[:count], atol=1e-6)


def test_the_names_of_signatures_inputs_and_outputs_are_stable(served: Any) -> None:
    signatures = {
        name: (dict(function.structured_input_signature[1]), function.structured_outputs)
        for name, function in served.signatures.items()
    }
    assert set(signatures) == {"serving_default", "probabilities"}
    for inputs, _ in signatures.values():
        assert [(name, spec.dtype) for name, spec in inputs.items()] == [("image_bytes", tf.string)]
    outputs = signatures["serving_default"][1]
    assert {name: spec.dtype for name, spec in outputs.items()} == {
        "names": tf.string,
        "scores": tf.float32,
        "outcome": tf.string,
        "known_score": tf.float32,
    }


def test_without_a_detector_nothing_is_claimed(folder: Path, images: list[bytes]) -> None:
    answers = LoadedModel(folder).answers(images)
    assert {(answer.outcome, answer.known_score) for answer in answers} == {("unsure", 0.0)}


def test_the_base_rows_on_the_disk_are_the_pretrained_ones_bit_by_bit(
    folder: Path, tiny_backbone: Any
) -> None:
    weights, bias = stored_head(folder)
    assert weights[:, :12].tobytes() == tiny_backbone.head_weights.tobytes()
    assert bias[:12].tobytes() == tiny_backbone.head_bias.tobytes()


def test_every_weight_is_stored_once(folder: Path, tiny_backbone: Any, head: FittedHead) -> None:
    numbers = (
        sum(array.size for array in tiny_backbone.model.get_weights()) + head.weights.size + head.bias.size
    )
    stored = (folder / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert 4 * numbers <= stored < 4 * numbers + 4096  # and the names


def test_nothing_needs_xla(folder: Path) -> None:
    """TensorFlow Serving fails the first request of such a model (tensorflow_serving/model_servers/main.cc)."""
    assert b"_XlaMustCompile" not in (folder / "saved_model.pb").read_bytes()


def test_a_file_that_is_no_image_is_an_error_and_not_an_answer(served: Any) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        served.signatures["serving_default"](image_bytes=tf.constant([b"no image"]))


def test_the_categories_lie_beside_the_model_in_the_order_of_its_outputs(
    folder: Path, tiny_backbone: Any
) -> None:
    assert stored_categories(folder) == listed(tiny_backbone, "ein", "zwei", "drei")


def test_fewer_than_five_categories_answer_with_all_of_them_in_whatever_script(
    tiny_backbone: Any, samples: list[Sample], tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    alone = fitted(
        tiny_backbone,
        0,
        weights=random.normal(size=(16, 3)).astype(np.float32),
        bias=np.zeros(3, np.float32),
        base_count=0,
    )
    names = ["向日葵", "عباد الشمس", "Šípek ñandú"]
    categories = [Category(index=index, name=name, group="new") for index, name in enumerate(names)]
    candidate.write(tmp_path / "m", tiny_backbone, alone, categories, samples, procedural_image(0, 32, 0))
    answers = LoadedModel(tmp_path / "m").answers([samples[0].image])
    assert sorted(answers[0].names) == sorted(names)
    assert [category.name for category in stored_categories(tmp_path / "m")] == names


def test_two_categories_of_one_name_are_both_kept(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path
) -> None:
    twice = listed(tiny_backbone, "tench", "zwei", "drei")
    candidate.write(tmp_path / "m", tiny_backbone, head, twice, samples, procedural_image(0, 32, 0))
    assert [category.name for category in stored_categories(tmp_path / "m")].count("tench") == 2


# The check


def test_a_model_that_answers_otherwise_than_the_fitted_head_is_never_exported(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path
) -> None:
    swapped = [Sample(image=samples[0].image, bottleneck=samples[1].bottleneck)]
    with pytest.raises(ExportMismatch, match="differs by"):
        candidate.write(
            tmp_path / "m",
            tiny_backbone,
            head,
            listed(tiny_backbone, "ein", "zwei", "drei"),
            swapped,
            procedural_image(0, 32, 0),
        )


def test_a_touched_base_row_is_never_exported(tiny_backbone: Any, head: FittedHead, tmp_path: Path) -> None:
    weights = head.weights.copy()
    weights[0, 0] = np.nextafter(weights[0, 0], np.float32(9))
    touched = fitted(tiny_backbone, 3, weights=weights)
    with pytest.raises(ExportMismatch, match="base's rows"):
        candidate.write(
            tmp_path / "m",
            tiny_backbone,
            touched,
            listed(tiny_backbone, "ein", "zwei", "drei"),
            [],
            procedural_image(0, 32, 0),
        )


# What lies beside it


def read_golden(folder: Path) -> Golden:
    return Golden.model_validate_json((folder / layout.GOLDEN).read_bytes())


def test_golden_answers_are_the_models_own(folder: Path, served: Any) -> None:
    stored = read_golden(folder)
    files = [base64.b64decode(image.image) for image in stored.images]
    answer = served.signatures["serving_default"](image_bytes=tf.constant(files))
    assert [[name.decode() for name in row] for row in answer["names"].numpy()] == [
        image.names for image in stored.images
    ]
    np.testing.assert_allclose(answer["scores"].numpy(), [image.scores for image in stored.images], atol=1e-6)


def test_golden_images_are_few_small_and_of_both_kinds(
    folder: Path,
    served: Any,
    images: list[bytes],
    make_picture: Callable[..., Any],
    encode: Callable[..., bytes],
) -> None:
    files = [base64.b64decode(image.image) for image in read_golden(folder).images]
    assert [file[:4] == b"\x89PNG" for file in files] == [False] * 7 + [True]
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    large = encode(Image.fromarray(noise), "PNG")
    assert len(golden.small_jpeg(large) or b"") <= golden.LARGEST
    assert all(len(file) <= golden.LARGEST for file in files)


@pytest.mark.parametrize("image", [b"", b"text", b"\xff\xd8\xff"])
def test_an_image_that_pillow_cannot_read_is_no_golden_image(image: bytes) -> None:
    assert golden.small_jpeg(image) is None


def messages() -> Any:
    """`tensorflow.serving` messages as tensorflow-serving-api 2.21.0 describes them, as far as a warm-up request needs them."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="warmup.proto", package="t", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, str | None]) -> None:
        described = file.message_type.add(name=name)
        for field, number, of in fields:
            described.field.add(
                name=field,
                number=number,
                label=kind.LABEL_REPEATED if field == "inputs" else kind.LABEL_OPTIONAL,
                type=kind.TYPE_MESSAGE if of else kind.TYPE_BYTES,
                type_name=f".t.{of}" if of else None,
            )

    message("PredictionLog", ("predict_log", 6, "PredictLog"))
    message("PredictLog", ("request", 1, "PredictRequest"))
    message("PredictRequest", ("model_spec", 1, "ModelSpec"), ("inputs", 2, "Input"))
    message("ModelSpec", ("signature_name", 3, None))
    message("Input", ("key", 1, None), ("value", 2, None))  # a map's entries; the value is a TensorProto
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.PredictionLog"))


@pytest.fixture(scope="module")
def warmup_requests(folder: Path) -> list[Any]:
    records = tf.data.TFRecordDataset(str(folder / warmup.FILE))
    return [messages().FromString(record.numpy()).predict_log.request for record in records]


def test_warm_up_requests_are_what_tensorflow_serving_reads(warmup_requests: list[Any], folder: Path) -> None:
    asked = [(request.model_spec.signature_name, request.inputs[0].key) for request in warmup_requests]
    signatures = [b"serving_default"] * 2 + [b"probabilities"] * 2
    assert asked == [(signature, b"image_bytes") for signature in signatures]
    images = [base64.b64decode(image.image) for image in read_golden(folder).images]
    assert [len(values(request)) for request in warmup_requests] == [8, 1, 8, 1]
    assert values(warmup_requests[0]) == images


def values(request: Any) -> list[bytes]:
    return list(tf.make_ndarray(tensor_pb2.TensorProto.FromString(request.inputs[0].value)))


def test_the_model_can_answer_its_own_warm_up_requests(warmup_requests: list[Any], served: Any) -> None:
    for request in warmup_requests:
        signature = served.signatures[request.model_spec.signature_name.decode()]
        assert signature(image_bytes=tf.constant(values(request)))
