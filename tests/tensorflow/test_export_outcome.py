"""Promises about exported models that grew: indices, masked and merged columns, and what they say of pictures nobody knows."""

import base64
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expansion_contract import layout
from expansion_contract.report import Category, Overlap, Proportion
from expansion_contract.version import Golden
from expansion_trainer.bottlenecks.engine import Engine
from expansion_trainer.columns import Columns, columns
from expansion_trainer.export import candidate, check
from expansion_trainer.export.check import ExportMismatch, Sample
from expansion_trainer.export.loaded_model import LoadedModel, stored_categories, stored_head
from expansion_trainer.export.saved_model import Exported
from expansion_trainer.head import statistics, unknown
from expansion_trainer.head.evidence import procedural_image
from expansion_trainer.head.fit import FittedHead
from expansion_trainer.head.unknown import OUTCOMES, Detector, HeldOut

pytestmark = pytest.mark.tensorflow

BASE = 12
TODAY = ("zwei", "eins", "tench")
IMAGES = 60


@pytest.fixture(scope="module")
def samples(
    tiny_backbone: Any, make_picture: Callable[..., Any], encode: Callable[..., bytes]
) -> list[Sample]:
    engine = Engine(tiny_backbone)
    images = [encode(make_picture(seed, 48, 40)) for seed in range(IMAGES)]
    decoded = [engine.decode(image) for image in images]
    rows = np.concatenate([engine.bottlenecks(decoded[at : at + 12]) for at in range(0, IMAGES, 12)])
    return [Sample(image=image, bottleneck=row) for image, row in zip(images, rows, strict=True)]


@pytest.fixture(scope="module")
def head(tiny_backbone: Any) -> FittedHead:
    """New rows that answer some of the pictures, too: they look where the base's commonest answers do."""
    random = np.random.default_rng(5)
    rows = 2 * tiny_backbone.head_weights[:, :3] + random.normal(size=(16, 3)).astype(np.float32)
    return FittedHead(
        weights=np.concatenate([tiny_backbone.head_weights, rows], axis=1),
        bias=np.concatenate([tiny_backbone.head_bias, np.full(3, 0.25, np.float32)]),
        base_count=BASE,
        solver="Softmax",
        l2=0.001,
        offset=0.0,
        temperature=0.7,
        evidence_kinds=(),
        steal_rate_validation=None,
        steal_images=0,
        chosen_on=0,
    )


def overlap(category: str, known: int, action: str) -> Overlap:
    return Overlap(
        category=category,
        known=str(known),
        known_index=known,
        share=Proportion.of(9, 10),
        same_name=False,
        action=action,  # type: ignore[arg-type]
    )


def grown(tiny_backbone: Any, case: str) -> Columns:
    base = tiny_backbone.categories
    overlaps = (
        [overlap("tench", 0, {"merged": "Merge", "replaced": "Replace"}[case])] if case != "retired" else []
    )
    return columns(base, TODAY, given=("gone", "zwei"), overlaps=overlaps)


def exported(tiny_backbone: Any, head: FittedHead, case: str, **changes: Any) -> Exported:
    made = grown(tiny_backbone, case)
    value = Exported(backbone=tiny_backbone, head=head, categories=made.categories, columns=made)
    return replace(value, **changes)


def write(folder: Path, value: Exported, samples: list[Sample]) -> LoadedModel:
    candidate.written(folder, value, samples, procedural_image(0, value.backbone.input_size, 0))
    return LoadedModel(folder)


CASES = ["retired", "merged", "replaced"]


@pytest.mark.parametrize("case", CASES)
def test_the_exported_model_answers_as_the_columns_say(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path, case: str
) -> None:
    value = exported(tiny_backbone, head, case)
    model = write(tmp_path / "m", value, samples)
    found = model.probabilities([sample.image for sample in samples])
    expected = value.answering.probabilities(np.stack([sample.bottleneck for sample in samples]))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    made = grown(tiny_backbone, case)
    silent = np.setdiff1d(np.arange(len(made.categories)), made.answers_as)
    assert len(silent) == {"retired": 1, "merged": 2, "replaced": 2}[case]
    assert (found[:, silent] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    names = {name for answer in model.answers([s.image for s in samples]) for name in answer.names}
    assert "gone" not in names


@pytest.mark.parametrize("case", CASES)
def test_a_scale_makes_the_exported_model_surer_and_changes_no_answer(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path, case: str
) -> None:
    plain = exported(tiny_backbone, head, case)
    value = replace(plain, head=replace(head, scale=1.6, frozen=BASE))
    bottlenecks = np.stack([sample.bottleneck for sample in samples])
    found = write(tmp_path / "m", value, samples).probabilities([sample.image for sample in samples])
    np.testing.assert_allclose(found, value.answering.probabilities(bottlenecks), atol=1e-4)
    before = plain.answering.probabilities(bottlenecks)
    np.testing.assert_array_equal(found.argmax(axis=1), before.argmax(axis=1))
    assert np.abs(found - before).max() > 0.05
    weights, bias = stored_head(tmp_path / "m")
    assert weights[:, :BASE].tobytes() == tiny_backbone.head_weights.tobytes()
    assert bias[:BASE].tobytes() == tiny_backbone.head_bias.tobytes()


def test_two_columns_of_one_added_name_are_exported_as_the_one_answer_that_they_are(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path
) -> None:
    overlaps = [overlap("tench", BASE - 1, "Merge")]
    made = columns(tiny_backbone.categories, TODAY, given=("gone", "zwei"), overlaps=overlaps)
    often = head.bias.copy()
    often[made.source[-1]] += 4
    sure = replace(head, bias=often, scale=1.6, frozen=BASE - 1)
    value = Exported(backbone=tiny_backbone, head=sure, categories=made.categories, columns=made)
    found = write(tmp_path / "m", value, samples).probabilities([sample.image for sample in samples])
    bottlenecks = np.stack([sample.bottleneck for sample in samples])
    np.testing.assert_allclose(found, value.answering.probabilities(bottlenecks), atol=1e-4)
    assert (found.argmax(axis=1) == BASE - 1).any()


@pytest.mark.parametrize("case", CASES)
def test_base_rows_are_bit_identical_in_every_case(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path, case: str
) -> None:
    """Of a replaced category, too: it is silenced by a mask beside the rows."""
    write(tmp_path / "m", exported(tiny_backbone, head, case), samples)
    weights, bias = stored_head(tmp_path / "m")
    assert weights[:, :BASE].tobytes() == tiny_backbone.head_weights.tobytes()
    assert bias[:BASE].tobytes() == tiny_backbone.head_bias.tobytes()
    assert [c.name for c in stored_categories(tmp_path / "m")][BASE:] == [
        "gone",
        "zwei",
        "eins",
        {"merged": tiny_backbone.categories[0].name}.get(case, "tench"),
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    matrix: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class Projected:
    projection: Drawn
    weights: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class WithProjection(FittedHead):
    added: Projected

    def logits(self, bottlenecks: Any) -> Any:
        features = np.maximum(bottlenecks @ self.added.projection.matrix, 0)
        return super().logits(bottlenecks) + features @ self.added.weights


def test_a_random_projection_adds_to_new_logits_and_touches_no_base_row(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path
) -> None:
    x = np.stack([sample.bottleneck for sample in samples])
    random = np.random.default_rng(1)
    weights = random.normal(size=(40, BASE + 3)).astype(np.float32)
    weights[:, :BASE] = 0
    drawn = Drawn(matrix=random.normal(size=(x.shape[1], 40)).astype(np.float32))
    projected = Projected(projection=drawn, weights=weights)
    fields = {field.name: getattr(head, field.name) for field in dataclasses.fields(head)}
    value = exported(tiny_backbone, WithProjection(**fields, added=projected), "retired")
    model = write(tmp_path / "m", replace(value, projected=projected), samples)
    plain = exported(tiny_backbone, head, "retired").answering.probabilities(x)
    found = model.probabilities([sample.image for sample in samples])
    np.testing.assert_allclose(found, value.answering.probabilities(x), atol=1e-3)
    assert np.abs(found - plain).max() > 0.1
    rows, _ = stored_head(tmp_path / "m")
    assert rows[:, :BASE].tobytes() == tiny_backbone.head_weights.tobytes()


def test_a_touched_base_row_is_refused_wherever_its_index_is(
    tiny_backbone: Any, head: FittedHead, tmp_path: Path
) -> None:
    weights = head.weights.copy()
    weights[3, 5] = np.nextafter(weights[3, 5], np.float32(9))
    value = exported(tiny_backbone, replace(head, weights=weights), "retired")
    with pytest.raises(ExportMismatch, match="base's rows"):
        write(tmp_path / "m", value, [])


# Known, unsure, unknown


def detector(value: Exported, samples: list[Sample], method: str, **changes: Any) -> Detector:
    """With levels of these very samples, so that outcomes of all three kinds occur."""
    answering, made = value.answering, value.columns
    assert made is not None
    x = np.stack([sample.bottleneck for sample in samples])
    z = answering.logits(x)
    answer = answering.probabilities(x).argmax(axis=1)
    place = unknown.space(statistics.of(x, answer, len(made.categories)))
    numbers = unknown.familiarity(method, x, z, made.answers_as, place)  # type: ignore[arg-type]
    highest = answering.probabilities(x).max(axis=1).astype(np.float64)
    commonest = np.argsort(-np.bincount(answer, minlength=len(made.categories)))
    groups = np.isin(np.arange(len(made.categories)), commonest[1:]).astype(np.int64)
    images = HeldOut(
        numbers=numbers,
        highest=highest,
        group=groups[answer],
        belongs=groups[answer],
        right=np.ones(len(x), dtype=bool),
    )
    own = [unknown.level(images.where(images.group == group), 0.6, "own") for group in (0, 1)]
    return replace(
        Detector(
            method=method,  # type: ignore[arg-type]
            coverage=0.6,
            answers_as=made.answers_as,
            groups=groups,
            levels=(own[0], own[1]),
            space=place if method == "RelativeMahalanobis" else None,
        ),
        **changes,
    )


@pytest.mark.parametrize("method", unknown.METHODS)
def test_known_scores_and_outcomes_are_those_of_the_detector(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path, method: str
) -> None:
    value = exported(tiny_backbone, head, "merged")
    value = replace(value, detector=detector(value, samples[::2], method))
    model = write(tmp_path / "m", value, samples)
    x = np.stack([sample.bottleneck for sample in samples])
    z = value.answering.logits(x)
    assert value.detector
    answers = model.answers([sample.image for sample in samples])
    scores = value.detector.scores(x, z)
    np.testing.assert_allclose([answer.known_score for answer in answers], scores, atol=0.02)
    expected = [OUTCOMES[outcome] for outcome in value.detector.outcomes(x, z)]
    same = [a.outcome == e for a, e in zip(answers, expected, strict=True)]
    assert np.mean(same) > 0.95
    assert {"known", "unknown"} <= set(expected)


def test_an_outcome_does_not_depend_on_the_company_an_image_is_in(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path
) -> None:
    value = exported(tiny_backbone, head, "retired")
    model = write(tmp_path / "m", replace(value, detector=detector(value, samples, "Gen")), samples)
    images = [sample.image for sample in samples]
    together, alone = model.answers(images[:8]), [model.answers([image])[0] for image in images[:8]]
    np.testing.assert_allclose([a.known_score for a in together], [a.known_score for a in alone], atol=1e-3)


def test_the_word_unknown_stands_first_only_where_it_was_asked_for(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path
) -> None:
    value = exported(tiny_backbone, head, "retired")
    value = replace(value, detector=detector(value, samples, "Gen"))
    plain = write(tmp_path / "plain", value, samples)
    worded = write(tmp_path / "worded", replace(value, unknown_in_answers=True), samples)
    images = [sample.image for sample in samples]
    seen = set()
    for one, other in zip(plain.answers(images), worded.answers(images), strict=True):
        seen.add(one.outcome)
        first = "unknown" if one.outcome == "unknown" else one.names[0]
        assert other.names == (first, *one.names[1:])
        assert other.scores == one.scores
        assert "unknown" not in one.names
    assert {"known", "unknown"} <= seen


def test_no_golden_image_lies_where_its_name_could_change(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path
) -> None:
    value = exported(tiny_backbone, head, "retired", unknown_in_answers=True)
    value = replace(value, detector=detector(value, samples, "Gen"))
    model = write(tmp_path / "m", value, samples)
    golden = Golden.model_validate_json((tmp_path / "m" / layout.GOLDEN).read_bytes())
    answers = model.answers([base64.b64decode(image.image) for image in golden.images])
    assert all(abs(answer.known_score - 0.4) > 0.02 for answer in answers)


def test_an_answer_of_the_background_category_is_unknown(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path
) -> None:
    value = exported(tiny_backbone, head, "retired")
    x = np.stack([sample.bottleneck for sample in samples])
    commonest = int(np.bincount(value.answering.probabilities(x).argmax(axis=1)).argmax())
    generous = replace(detector(value, samples, "Gen"), coverage=0.999, background=commonest)
    model = write(tmp_path / "m", replace(value, detector=generous), samples)
    name = value.categories[commonest].name
    for answer in model.answers([sample.image for sample in samples]):
        assert (answer.outcome == "unknown") == (answer.names[0] == name) or answer.known_score < 0.002


def test_a_model_with_another_detector_than_the_fitted_one_is_never_exported(
    tiny_backbone: Any, head: FittedHead, samples: list[Sample], tmp_path: Path
) -> None:
    value = exported(tiny_backbone, head, "retired")
    right = replace(value, detector=detector(value, samples, "Gen"))
    model = write(tmp_path / "m", right, samples)
    wrong = replace(value, detector=detector(value, samples, "Energy"))
    with pytest.raises(ExportMismatch, match="known score"):
        check.check(tmp_path / "m", model, wrong, samples)


def test_a_model_without_a_base_has_outcomes_too(
    tiny_backbone: Any, samples: list[Sample], tmp_path: Path, head: FittedHead
) -> None:
    alone = replace(head, weights=head.weights[:, BASE:], bias=head.bias[BASE:], base_count=0)
    listed = tuple(Category(index=index, name=name, group="new") for index, name in enumerate(TODAY))
    made = columns((), TODAY)
    value = Exported(backbone=tiny_backbone, head=alone, categories=listed, columns=made)
    model = write(tmp_path / "m", replace(value, categories=made.categories), samples)
    assert len(model.answers([samples[0].image])[0].names) == 3
