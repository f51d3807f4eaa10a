"""Promises about the way from logits to answers: indices stay, the gone never answer, an alias adds to its target."""

import numpy as np
import pytest

from expansion_contract.report import Category, Overlap, Proportion
from expansion_trainer.columns import Columns, answers_of, columns, in_index_order
from expansion_trainer.head.answering import Answering
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


def test_a_published_model_answers_as_its_categories_say() -> None:
    listed = [
        *BASE[:2],
        BASE[2].model_copy(update={"state": "replaced"}),
        Category(index=3, name="dog", group="new", alias_of=1),
        Category(index=4, name="puppy", group="new", alias_of=3),
        Category(index=5, name="rose", group="new", state="retired"),
    ]
    assert Answering.of_model(rows(6), 1.0, listed).answers_as.tolist() == [0, 1, -1, 1, 1, -1]
