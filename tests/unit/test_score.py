"""Promises of the evaluation: figures of the right images, and none where there is nothing to measure."""

from dataclasses import dataclass
from dataclasses import replace as changed

import numpy as np
import pytest
from head_values import OLD, nothing, world

from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.score import Scores, score
from expansion_trainer.head.fit import Evidence, FittedHead, Labelled, expand, replace

W = world(distance=0.8)
BASE_NAMES = [f"old {index}" for index in range(OLD)]
NEW_NAMES = ["ash", "birch", "cedar"]
NAMES = BASE_NAMES + NEW_NAMES


@dataclass(frozen=True)
class Counts:
    def counts(self, side: Side) -> tuple[int, ...]:
        return {Side.TRAINING: (30, 31, 32), Side.VALIDATION: (5, 6, 7), Side.TEST: (1, 1, 1)}[side]


@pytest.fixture(scope="module")
def head() -> FittedHead:
    return expand(W.base, W.new(20, 1), W.new(10, 2), (W.replay(20, 3),), (), 0.05, 0)


def greedy(head: FittedHead, offset: float) -> FittedHead:
    """The same head with its new categories pushed forward."""
    return changed(head, bias=head.bias + np.r_[np.zeros(OLD), np.full(3, offset)].astype(np.float32))


def scored(head: FittedHead, base_test: Labelled | None = None, bystanders: Evidence | None = None) -> Scores:
    return score(head, W.base, W.new(40, 4), base_test, bystanders, NAMES, Counts())


def test_the_base_is_measured_on_labelled_base_images(head: FittedHead) -> None:
    images = W.old(30, 5)
    found = scored(greedy(head, 3.0), images).metrics
    before = W.base.logits(images.bottlenecks).argmax(axis=1) == images.labels
    after = greedy(head, 3.0).logits(images.bottlenecks).argmax(axis=1) == images.labels
    assert found.base_before
    assert found.base_after
    assert found.base_drop
    assert (found.base_before.hits, found.base_after.hits) == (before.sum(), after.sum())
    assert (found.base_drop.measured, found.base_drop.source) == (True, "replay")
    assert found.base_drop.lost == before.sum() - after.sum() > 0


def test_everything_labelled_counts_in_overall(head: FittedHead) -> None:
    found = scored(head, W.old(30, 5)).metrics
    assert found.base_after
    assert found.overall.n == 120 + 180
    assert found.overall.hits == found.new.hits + found.base_after.hits


def test_new_categories_among_themselves_bound_what_they_reach(head: FittedHead) -> None:
    found = scored(greedy(head, -3.0)).metrics
    assert found.new.hits < found.new_closed.hits
    assert found.new.hits <= found.new_top5.hits


@pytest.mark.parametrize("kind", ["unlabelled", "procedural"])
def test_without_labelled_base_images_the_drop_is_estimated_from_steals(head: FittedHead, kind: str) -> None:
    found = scored(greedy(head, 3.0), None, changed(W.unlabelled(30, 5), kind=kind)).metrics
    assert found.base_before is None
    assert found.base_drop
    assert found.steals
    assert (found.base_drop.measured, found.base_drop.source) == (False, kind)
    assert found.base_drop.lost == found.steals.hits > 0


def test_drawings_say_nothing_about_steals_where_there_are_photographs(head: FittedHead) -> None:
    drawn = changed(W.unlabelled(50, 6), kind="procedural")
    found = scored(head, W.old(30, 5), drawn).metrics
    assert found.steals
    assert found.steals.n == 30 * OLD
    both = scored(head, W.old(30, 5), W.unlabelled(50, 6)).metrics
    assert both.steals
    assert both.steals.n == 80 * OLD


def test_with_nothing_old_at_all_nothing_is_claimed(head: FittedHead) -> None:
    found = scored(head).metrics
    assert (found.base_before, found.base_drop, found.steals) == (None, None, None)


def test_replacing_has_no_base_figures() -> None:
    alone = replace(W.new(20, 1), W.new(10, 2), 0)
    found = score(alone, None, W.new(40, 4), W.old(5, 5), W.unlabelled(5, 6), NEW_NAMES, Counts())
    assert (found.metrics.base_before, found.metrics.base_drop, found.metrics.steals) == (None, None, None)
    assert found.metrics.overall.n == found.metrics.new.n == 120


def test_every_new_category_has_its_recall_and_precision(head: FittedHead) -> None:
    bold, old, new = greedy(head, 3.0), W.old(30, 5), W.new(40, 4)
    found = scored(bold, old).metrics.categories
    assert [category.name for category in found] == NEW_NAMES
    assert [category.training_images for category in found] == [30, 31, 32]
    assert [category.validation_images for category in found] == [5, 6, 7]
    taken, own = (bold.logits(images.bottlenecks).argmax(axis=1) - OLD for images in (old, new))
    for index, category in enumerate(found):
        assert category.recall
        assert category.precision
        hits = ((own == index) & (new.labels == index)).sum()
        assert (category.recall.hits, category.recall.n, category.test_images) == (hits, 40, 40)
        assert category.precision.hits == hits
        assert category.precision.n == (own == index).sum() + (taken == index).sum()
    assert (taken >= 0).any(), "old images that a new category took count against its precision"


def test_a_category_without_test_images_has_no_recall(head: FittedHead) -> None:
    test = W.new(10, 4)
    part = Labelled(bottlenecks=test.bottlenecks[:20], labels=test.labels[:20])
    found = score(head, W.base, part, None, None, NAMES, Counts()).metrics.categories
    assert [category.recall is None for category in found] == [False, False, True]


def test_without_any_test_image_every_figure_says_so(head: FittedHead) -> None:
    found = score(head, W.base, nothing(), None, None, NAMES, Counts())
    assert (found.metrics.new.n, found.metrics.calibration_error, found.misclassified) == (0, None, ())


def test_misclassified_images_are_named_by_their_place_the_surest_first(head: FittedHead) -> None:
    shy, test = greedy(head, -3.0), W.new(40, 4)
    found = scored(shy)
    answers = shy.logits(test.bottlenecks).argmax(axis=1)
    assert {miss.index for miss in found.misclassified} == set(np.flatnonzero(answers != test.labels + OLD))
    assert all(NAMES[answers[miss.index]] == miss.answer for miss in found.misclassified)
    sureness = [miss.score for miss in found.misclassified]
    assert sureness == sorted(sureness, reverse=True)
    assert found.metrics.new.hits == 120 - len(found.misclassified)


def test_confusions_name_truth_and_answer(head: FittedHead) -> None:
    found = scored(greedy(head, 3.0), W.old(30, 5))
    wrong = found.metrics.overall.n - found.metrics.overall.hits
    assert sum(pair.count for pair in found.confusions) == wrong
    assert any(pair.truth in BASE_NAMES and pair.answer in NEW_NAMES for pair in found.confusions)
