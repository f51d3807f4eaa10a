"""Promises about the way from logits to answers: indices stay, the gone never answer, an alias adds to its target."""

from dataclasses import replace

import numpy as np
import pytest

from expansion_contract.report import Category, Overlap, Proportion
from expansion_trainer.columns import Columns, answers_of, columns, in_index_order
from expansion_trainer.head.answering import Answering, folded_logits
from expansion_trainer.head.softmax import Rows

BASE = tuple(
    Category(index=index, name=name, group="base") for index, name in enumerate(["cat", "dog", "daisy"])
)
SIZE = 5


def overlap(category: str, known: int, action: str) -> Overlap:
    return Overlap(
        category=category,
        known=BASE[known].name,
        known_index=known,
        share=Proportion.of(9, 10),
        same_name=False,
        action=action,  # type: ignore[arg-type]
    )


CASES = [
    pytest.param(columns(BASE, ["rose", "tulip"]), id="new ones only"),
    pytest.param(columns(BASE, ["tulip"], given=["rose", "tulip"]), id="one retired"),
    pytest.param(columns(BASE, ["hound", "rose"], overlaps=[overlap("hound", 1, "Merge")]), id="one merged"),
    pytest.param(
        columns(BASE, ["hound", "rose"], overlaps=[overlap("hound", 1, "Replace")]), id="one replaced"
    ),
]


def rows(fitted: int) -> Rows:
    random = np.random.default_rng(3)
    return Rows(
        weights=random.normal(size=(SIZE, fitted)).astype(np.float32),
        bias=random.normal(size=fitted).astype(np.float32),
    )


@pytest.mark.parametrize("made", CASES)
def test_probabilities_are_those_of_the_columns(made: Columns) -> None:
    head = rows(int(made.source.max()) + 1)
    x = np.random.default_rng(4).normal(size=(20, SIZE)).astype(np.float32)
    found = Answering.of(head, 0.7, made).probabilities(x)
    z = in_index_order(made, head.logits(x)) / 0.7
    plain = np.exp(z - z.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, answers_of(made, plain / plain.sum(axis=1, keepdims=True)), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    silent = np.setdiff1d(np.arange(len(made.source)), made.answers_as)
    assert (found[:, silent] == 0).all()


SCALES = [0.25, 1.7, 6.0]


def scaled(made: Columns, scale: float) -> Answering:
    head = rows(int(made.source.max()) + 1)
    return replace(Answering.of(head, 0.7, made), scale=scale, frozen=len(BASE))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("made", CASES)
def test_a_scale_changes_no_label_and_no_order(made: Columns, scale: float) -> None:
    x = np.random.default_rng(5).normal(size=(4000, SIZE)).astype(np.float32)
    before, after = (scaled(made, one).probabilities(x) for one in (1.0, scale))
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-5)
    own = np.unique(made.answers_as[made.answering])
    order = np.argsort(before[:, own], axis=1)
    assert (np.diff(np.take_along_axis(after[:, own], order, axis=1), axis=1) >= 0).all()
    old = made.source[after.argmax(axis=1)] < len(BASE)
    np.testing.assert_array_equal(after[old], before[old])
    assert np.abs(after - before).max() > 0.05


def test_a_scale_stretches_how_far_a_new_category_is_ahead_of_the_best_old_one() -> None:
    fitted = np.array([[1.0, 3.0, 2.0, 4.5, 0.5], [1.0, 3.0, 2.0, 2.5, 0.5]], np.float32)
    model = replace(Answering.of(rows(5), 0.5), scale=2.0, frozen=3)
    np.testing.assert_allclose(model.placed(fitted), [[2, 6, 4, 12, 1], [2, 6, 4, 5, 1]], rtol=1e-6)


def test_a_merged_category_is_as_sure_as_the_old_one_whose_name_it_has() -> None:
    made = columns(BASE, ["hound"], overlaps=[overlap("hound", 1, "Merge")])
    x = np.random.default_rng(6).normal(size=(50, SIZE)).astype(np.float32)
    np.testing.assert_array_equal(scaled(made, 6.0).logits(x), scaled(made, 1.0).logits(x))


def test_two_columns_of_one_added_name_are_stretched_as_the_one_answer_that_they_are() -> None:
    made = columns(BASE, ["hound", "rose"], overlaps=[overlap("hound", 2, "Merge")])
    x = np.random.default_rng(8).normal(size=(400, SIZE)).astype(np.float32)
    plain, stretched = (
        folded_logits(replace(scaled(made, one), frozen=2).logits(x), made.answers_as) for one in (1.0, 2.5)
    )
    best = plain[:, :2].max(axis=1, keepdims=True)
    expected = np.where(plain > best, best + 2.5 * (plain - best), plain)
    np.testing.assert_allclose(stretched, expected, rtol=1e-5, atol=1e-5)


def test_a_model_without_an_old_category_that_answers_has_nothing_to_scale_by() -> None:
    alone = columns(BASE[:1], ["hound", "rose"], overlaps=[overlap("hound", 0, "Replace")])
    x = np.random.default_rng(7).normal(size=(50, SIZE)).astype(np.float32)
    plain = Answering.of(rows(3), 0.7, alone)
    np.testing.assert_array_equal(replace(plain, scale=6.0, frozen=1).logits(x), plain.logits(x))


def test_a_published_model_answers_as_its_categories_say() -> None:
    listed = [
        *BASE[:2],
        BASE[2].model_copy(update={"state": "replaced"}),
        Category(index=3, name="dog", group="new", alias_of=1),
        Category(index=4, name="puppy", group="new", alias_of=3),
        Category(index=5, name="rose", group="new", state="retired"),
    ]
    assert Answering.of_model(rows(6), 1.0, listed).answers_as.tolist() == [0, 1, -1, 1, 1, -1]
