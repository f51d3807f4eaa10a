"""Promises of the evaluation of grown models: chains, merged, replaced and retired categories, bounds, and what is unknown."""

from dataclasses import dataclass
from dataclasses import replace as changed

import numpy as np
import pytest
from head_values import NEW, OLD, World, world

from expansion_contract.report import Category, Overlap, Proportion
from expansion_trainer.columns import columns
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.joint import Joint, joint
from expansion_trainer.evaluation.score import Model, Scores, Unseen, scored
from expansion_trainer.head import detection
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.fit import BaseHead, Evidence, FittedHead, Labelled, expand
from expansion_trainer.head.refits import Fitting

W = world(distance=0.8)
EARLIER = 2
"""Of the world's old categories, the last ones that an earlier expansion had added."""
BASE = tuple(Category(index=index, name=f"old {index}", group="base") for index in range(OLD))
NEW_NAMES = ["ash", "birch", "cedar"]


@dataclass(frozen=True)
class Counts:
    def counts(self, side: Side) -> tuple[int, ...]:
        return (30, 30, 30)


@pytest.fixture(scope="module")
def head() -> FittedHead:
    return expand(W.base, W.new(20, 1), W.new(10, 2), (W.replay(20, 3),), (), 0.05, 0)


def overlap(category: str, known: int, action: str) -> Overlap:
    return Overlap(
        category=category,
        known=BASE[known].name,
        known_index=known,
        share=Proportion.of(9, 10),
        same_name=False,
        action=action,  # type: ignore[arg-type]
    )


def model(head: FittedHead, *overlaps: Overlap, base: tuple[Category, ...] = BASE) -> Model:
    made = columns(base, NEW_NAMES, overlaps=overlaps)
    before = Answering.of_model(W.base, 1.0, base)
    return Model.of(head, before, [c.name for c in made.categories], made, NEW_NAMES)


def measured(head: FittedHead, *overlaps: Overlap, base: tuple[Category, ...] = BASE) -> Scores:
    unseen = Unseen(new=W.new(40, 4), base=W.old(30, 5), bystanders=None)
    return scored(model(head, *overlaps, base=base), unseen, Counts())


def answers(head: FittedHead, images: Labelled) -> np.ndarray:
    return head.logits(images.bottlenecks).argmax(axis=1)


def greedy(head: FittedHead, offset: float) -> FittedHead:
    return changed(head, bias=head.bias + np.r_[np.zeros(OLD), np.full(NEW, offset)].astype(np.float32))


def test_an_alias_and_its_target_are_right_for_both(head: FittedHead) -> None:
    """The alias' probability is added to its target's, so an answer can only move towards the two."""
    new, old = W.new(40, 4), W.old(30, 5)
    of_ash = answers(greedy(head, -9.0), new)[new.labels == 0]
    recall = measured(greedy(head, -9.0), overlap("ash", 0, "Merge")).metrics.categories[0].recall
    assert recall
    assert recall.hits >= np.isin(of_ash, [0, OLD]).sum() > (of_ash == OLD).sum()
    of_target = answers(greedy(head, 2.0), old)[old.labels == 0]
    plain, merged = measured(greedy(head, 2.0)), measured(greedy(head, 2.0), overlap("ash", 0, "Merge"))
    gained = (of_target == OLD).sum()
    assert plain.metrics.base_after
    assert merged.metrics.base_after
    assert gained > 0
    assert merged.metrics.base_after.hits >= plain.metrics.base_after.hits + gained
    assert merged.metrics.categories[0].name == "ash"


def test_a_merged_category_steals_nothing_from_its_target(head: FittedHead) -> None:
    bold = greedy(head, 2.0)
    plain, merged = measured(bold).metrics, measured(bold, overlap("ash", 0, "Merge")).metrics
    assert plain.steals
    assert merged.steals
    old = W.old(30, 5)
    assert ((answers(bold, old) == OLD) & (old.labels == 0)).any()
    assert merged.steals.hits < plain.steals.hits
    assert not [pair for pair in merged.steal_pairs if (pair.truth, pair.answer) == ("old 0", "ash")]


def test_images_of_a_replaced_category_are_counted_apart(head: FittedHead) -> None:
    plain, found = measured(head).metrics, measured(head, overlap("birch", 2, "Replace")).metrics
    assert found.replaced
    assert found.base_before
    assert found.base_after
    assert found.base_drop
    assert plain.base_before
    assert found.replaced.n == 30
    assert found.base_before.n == found.base_after.n == found.base_drop.n == plain.base_before.n - 30
    assert found.overall.n == plain.overall.n - 30
    assert found.steals
    assert found.steals.n == plain.base_before.n - 30


def test_a_category_that_the_base_had_retired_is_not_asked_for(head: FittedHead) -> None:
    gone = (*BASE[:1], BASE[1].model_copy(update={"state": "retired"}), *BASE[2:])
    found = measured(head, base=gone).metrics
    assert found.base_before
    assert found.base_before.n == 30 * (OLD - 1)
    assert found.replaced is None


def test_in_a_chain_everything_the_starting_model_had_is_base() -> None:
    """The rows of an earlier expansion are fitted again, so its images may change answers among old names, too: that counts."""
    frozen = OLD - EARLIER
    rows = BaseHead(weights=W.base.weights[:, :frozen], bias=W.base.bias[:frozen])
    earlier, new = W.old(20, 7), W.new(20, 1)
    mine = earlier.labels >= frozen
    added = Labelled(
        bottlenecks=np.concatenate([earlier.bottlenecks[mine], new.bottlenecks]),
        labels=np.concatenate([earlier.labels[mine] - frozen, new.labels + EARLIER]),
    )
    replayed = W.replay(20, 3)
    assert replayed.labels is not None
    of_frozen = replayed.labels < frozen
    evidence = Evidence(
        kind="replay", bottlenecks=replayed.bottlenecks[of_frozen], labels=replayed.labels[of_frozen]
    )
    head = expand(
        rows,
        added,
        Labelled(bottlenecks=added.bottlenecks[:0], labels=added.labels[:0]),
        (evidence,),
        (),
        0.05,
        0,
    )
    assert (head.base_count, len(head.bias)) == (frozen, OLD + NEW)
    found = scored(model(head), Unseen(new=W.new(40, 4), base=W.old(30, 5), bystanders=None), Counts())
    old, images = W.old(30, 5), W.new(40, 4)
    before = W.base.logits(old.bottlenecks).argmax(axis=1) == old.labels
    after = answers(head, old) == old.labels
    assert found.metrics.base_before
    assert found.metrics.base_drop
    assert found.metrics.base_drop.paired
    assert found.metrics.base_before.hits == before.sum()
    assert found.metrics.base_drop.lost == before.sum() - after.sum()
    assert found.metrics.base_drop.paired.both == (before & after).sum()
    assert found.metrics.new.hits == (answers(head, images) == images.labels + OLD).sum()
    assert found.metrics.steals
    assert found.metrics.steals.hits == (answers(head, old) >= OLD).sum()


def test_steals_and_misses_come_with_the_pairs_that_cause_them(head: FittedHead) -> None:
    for offset in (2.0, -2.0):
        found = measured(greedy(head, offset)).metrics
        assert found.steals
        assert found.misses
        assert sum(pair.count for pair in found.steal_pairs) == found.steals.hits
        assert sum(pair.count for pair in found.miss_pairs) == found.misses.hits
        assert all(pair.truth.startswith("old") and pair.answer in NEW_NAMES for pair in found.steal_pairs)
        assert all(pair.truth in NEW_NAMES and pair.answer.startswith("old") for pair in found.miss_pairs)
    assert measured(greedy(head, 2.0)).metrics.misses.hits < found.misses.hits  # type: ignore[union-attr]


def test_a_merged_image_with_another_old_answer_is_wrong_and_no_miss(head: FittedHead) -> None:
    """It is one old name taken for another, as among the base's own images."""
    shy = greedy(head, -9.0)
    merged = measured(shy, overlap("ash", 0, "Merge")).metrics
    new = W.new(40, 4)
    lost = (answers(shy, new) < OLD) & (new.labels != 0)
    assert merged.misses
    assert merged.misses.hits == lost.sum()
    wrong = [pair for pair in merged.miss_pairs if pair.truth == "old 0"]
    assert wrong == []
    recall = merged.categories[0].recall
    assert recall
    assert recall.hits < recall.n


def test_a_photograph_without_a_label_is_stolen_from_the_answer_it_had(head: FittedHead) -> None:
    bold, images = greedy(head, 3.0), W.unlabelled(30, 5)
    unseen = Unseen(new=W.new(40, 4), base=None, bystanders=images)
    found = scored(model(bold), unseen, Counts()).metrics
    before = W.base.logits(images.bottlenecks).argmax(axis=1)
    stolen = bold.logits(images.bottlenecks).argmax(axis=1) >= OLD
    truths = {f"old {index}" for index in before[stolen].tolist()}
    assert {pair.truth for pair in found.steal_pairs} == truths
    assert found.base_drop
    assert found.base_drop.paired is None


def test_drawn_pictures_are_counted_and_never_named(head: FittedHead) -> None:
    drawn = changed(W.unlabelled(30, 5), kind="procedural")
    unseen = Unseen(new=W.new(40, 4), base=None, bystanders=drawn)
    found = scored(model(greedy(head, 3.0)), unseen, Counts()).metrics
    assert found.steals
    assert found.steals.hits > 0
    assert found.steal_pairs == []


def test_a_packs_bottlenecks_estimate_the_drop_from_answers_before_and_after(head: FittedHead) -> None:
    bold, images = greedy(head, 3.0), W.replay(30, 5)
    unseen = Unseen(new=W.new(40, 4), base=None, bystanders=changed(images, kind="pack"))
    drop = scored(model(bold), unseen, Counts()).metrics.base_drop
    before = W.base.logits(images.bottlenecks).argmax(axis=1) == images.labels
    after = bold.logits(images.bottlenecks).argmax(axis=1) == images.labels
    assert drop
    assert (drop.measured, drop.source, drop.lost) == (False, "pack", before.sum() - after.sum())
    assert drop.paired


def test_the_best_five_are_counted_before_and_after(head: FittedHead) -> None:
    found, old = measured(greedy(head, 3.0)).metrics, W.old(30, 5)
    for rows, share in ((W.base, found.base_top5_before), (greedy(head, 3.0), found.base_top5_after)):
        best = np.argsort(-rows.logits(old.bottlenecks), axis=1)[:, :5]
        assert share
        assert share.hits == (best == old.labels[:, None]).any(axis=1).sum()
    assert found.overall_top5
    assert found.overall_top5.n == found.overall.n


# The joint bound


def bound(world: World, each: int) -> Joint:
    training = world.new(20, 1)
    labelled = changed(training, labels=training.labels + OLD)
    validation = world.new(10, 2)
    aside = changed(validation, labels=validation.labels + OLD)
    return joint(OLD, labelled, aside, (world.replay(each, 3),), (world.replay(5, 6),))


def test_the_joint_bound_is_measured_on_the_same_images(head: FittedHead) -> None:
    unseen = Unseen(new=W.new(40, 4), base=W.old(30, 5), bystanders=None)
    found = scored(model(head), unseen, Counts(), joint=bound(W, 20)).metrics
    assert found.joint
    assert found.joint.overall
    assert found.joint.base
    assert found.base_after
    assert (found.joint.overall.n, found.joint.base.n) == (found.overall.n, found.base_after.n)
    assert found.joint.overall.value > found.overall.value - 0.05


def test_without_enough_images_the_joint_bound_says_what_is_missing() -> None:
    refused = bound(W, 4)
    assert refused.rows is None
    assert refused.why_not.startswith(f"{OLD} of {OLD} base categories have fewer than 5 images")


def test_a_joint_bound_that_would_take_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expansion_trainer.evaluation.joint.MOST_WORK", 1.0)
    assert "would take about" in bound(W, 20).why_not


def test_the_joint_bound_needs_nothing_to_choose_on() -> None:
    training = W.new(20, 1)
    labelled = changed(training, labels=training.labels + OLD)
    none = Labelled(bottlenecks=training.bottlenecks[:0], labels=training.labels[:0])
    alone = joint(OLD, labelled, none, (W.replay(20, 3),), ())
    assert alone.rows is not None


# Unknown


@pytest.fixture(scope="module")
def detected(head: FittedHead) -> detection.Detection:
    fitting = Fitting(head=head, base=W.base, training=W.new(20, 1), evidence=(W.replay(20, 3),), seed=0)
    made = detection.detection(detection.given(fitting, W.new(40, 2), (W.replay(20, 6),), 0.95))
    assert made
    return made


def test_left_out_categories_measure_how_well_unknown_pictures_are_told(
    head: FittedHead, detected: detection.Detection
) -> None:
    unseen = Unseen(new=W.new(40, 4), base=W.old(30, 5), bystanders=None)
    found = scored(model(head), unseen, Counts(), detected).metrics.unknown
    assert found
    assert found.auroc
    assert "never seen" in found.auroc_of
    assert found.auroc.n == 40 * NEW
    assert 0.5 < found.auroc.low <= found.auroc.value <= found.auroc.high <= 1
    assert [(one.group, one.known + one.unsure + one.unknown) for one in found.outcomes] == [
        ("base", 30 * OLD),
        ("new", 40 * NEW),
    ]
    assert [one.chosen for one in found.tried].count(True) == 1


def test_an_image_is_either_known_or_strange_to_a_head(
    head: FittedHead, detected: detection.Detection
) -> None:
    new, old = W.new(40, 4), W.old(30, 5)
    found = scored(
        model(head), Unseen(new=new, base=old, bystanders=None), Counts(), detected
    ).metrics.unknown
    by_hand = []
    for turn in detected.turns:
        strange = np.isin(new.labels, turn.without.left_out)
        images = np.concatenate([new.bottlenecks[~strange], old.bottlenecks])
        known, other = (
            turn.detector.scores(x, turn.answering.logits(x)) for x in (images, new.bottlenecks[strange])
        )
        by_hand.append(np.mean(known[:, None] > other[None, :]) + np.mean(known[:, None] == other) / 2)
    assert found
    assert found.auroc
    assert found.auroc.value == pytest.approx(np.mean(by_hand))


def test_without_left_out_categories_given_pictures_stand_for_the_unknown(
    head: FittedHead, detected: detection.Detection
) -> None:
    alone = changed(detected, turns=())
    other = Evidence(kind="unlabelled", bottlenecks=world(2.0, seed=9).old(20, 1).bottlenecks)
    for kind, words in (("unlabelled", "may well show something"), ("procedural", "easier to tell")):
        unseen = Unseen(new=W.new(40, 4), base=None, bystanders=changed(other, kind=kind))
        found = scored(model(head), unseen, Counts(), alone).metrics.unknown
        assert found
        assert found.auroc
        assert words in found.auroc_of
    nothing = scored(model(head), Unseen(new=W.new(40, 4), base=None, bystanders=None), Counts(), alone)
    assert nothing.metrics.unknown
    assert nothing.metrics.unknown.auroc is None
