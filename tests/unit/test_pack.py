"""What a pack promises of its choice of real bottlenecks and of growing from version to version."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack_values import FROZEN, answers, bare, built, categories, digest, images

from expansion_contract.pack import Expansion
from expansion_contract.resource import Split
from expansion_trainer.dataset.split import Side, side_of
from expansion_trainer.head import statistics
from expansion_trainer.packs import core
from expansion_trainer.packs.pack import Images, Pack, grown

NONE = images([])


def same_rows(one: core.Core, other: core.Core) -> bool:
    return all(
        np.array_equal(getattr(one, column.name), getattr(other, column.name)) for column in fields(one)
    )


def shuffled(shown: Images, seed: int) -> Images:
    order = np.random.default_rng(seed).permutation(len(shown.labels))
    return Images(
        bottlenecks=shown.bottlenecks[order],
        labels=shown.labels[order],
        digests=[shown.digests[place] for place in order],
    )


def chosen(shown: Images) -> core.Core:
    return core.chosen(shown.bottlenecks, shown.labels, shown.digests)


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 99))
def test_the_same_bottlenecks_are_chosen_whatever_the_order_of_the_images(labels, seed):
    shown = images(labels)
    assert same_rows(chosen(shown), chosen(shuffled(shown, seed)))


@pytest.mark.parametrize(
    ("count", "fitting", "calibrating"), [(1, 1, 0), (2, 1, 1), (7, 4, 3), (10, 5, 5), (64, 5, 5)]
)
def test_ten_of_each_category_are_kept_five_for_each_purpose(count, fitting, calibrating):
    kept = chosen(images([2] * count + [0] * 30))
    mine = kept.where(kept.labels == 2)
    assert (int((~mine.calibrates).sum()), int(mine.calibrates.sum())) == (fitting, calibrating)


def test_a_content_that_lies_there_twice_is_kept_once():
    once = images([1] * 6)
    twice = Images(
        bottlenecks=np.concatenate([once.bottlenecks] * 2),
        labels=np.concatenate([once.labels] * 2),
        digests=[*once.digests, *once.digests],
    )
    assert same_rows(chosen(once), chosen(twice))


def test_the_choice_does_not_follow_the_side_that_the_digest_decides():
    """Without salt, the smallest digests would all be of one side."""
    everything = [digest(number) for number in range(400)]
    kept = sorted(everything, key=core.key)[:40]
    sides = Counter(side_of(content, Split(validation_percent=40, test_percent=40)) for content in kept)
    assert min(sides[side] for side in Side) >= 3


def test_a_run_calibrates_its_next_expansion_with_its_validation_images():
    training, validation = images([0] * 20, first=0), images([0] * 8, first=500)
    kept = core.of_sides(chosen(training), chosen(validation))
    from_validation = np.isin(kept.keys, chosen(validation).keys)
    assert np.array_equal(kept.calibrates, from_validation)
    assert Counter(kept.calibrates.tolist()) == {True: 5, False: 5}


def test_training_images_calibrate_only_where_validation_images_lack():
    training, validation = images([0] * 20, first=0), images([0] * 2, first=500)
    kept = core.of_sides(chosen(training), chosen(validation))
    assert Counter(kept.calibrates.tolist()) == {True: 5, False: 5}
    assert kept.calibrates[np.isin(kept.keys, chosen(validation).keys)].all()
    assert len(set(kept.keys.tolist())) == 10


def test_no_training_image_is_wasted_where_there_are_few():
    kept = core.of_sides(chosen(images([0] * 4)), chosen(images([0] * 6, first=500)))
    assert Counter(kept.calibrates.tolist()) == {True: 5, False: 4}


def column(pack: Pack, index: int) -> tuple:
    mine = pack.core.where(pack.core.labels == index)
    known = pack.statistics
    return (
        known.counts[index],
        known.means[index].tobytes(),
        known.variances[index].tobytes(),
        mine.bottlenecks.tobytes(),
        mine.calibrates.tobytes(),
    )


def test_what_was_known_of_earlier_categories_goes_on_bit_by_bit():
    before = built(images([0, 1, 2, 3] * 15))
    today = images([0, 1, 4, 4, 4, 4], first=900)
    after = grown(before, answers(5), today, NONE)
    assert [column(after, index) for index in range(FROZEN)] == [
        column(before, index) for index in range(FROZEN)
    ]
    assert after.statistics.counts[4] == 4


def test_replay_images_say_how_a_base_category_looks_of_which_nothing_was_known():
    today = images([0] * 6 + [4] * 20)
    after = grown(bare(), answers(5), today, images([0], first=800))
    assert after.statistics.counts.tolist() == [6, 0, 0, 0, 20]
    assert after.core.counts(5).tolist() == [7, 0, 0, 0, 10]


def test_statistics_are_of_training_images_alone():
    today, validation = images([4] * 9), images([4] * 7, first=600)
    after = grown(bare(), answers(5), today, validation)
    assert after.statistics.counts[4] == 9
    np.testing.assert_allclose(after.statistics.means[4], today.bottlenecks.mean(axis=0), rtol=1e-6)


def test_growing_in_two_steps_knows_what_growing_in_one_knows():
    first, second = images([4] * 12), images([5] * 14, first=700)
    both = Images(
        bottlenecks=np.concatenate([first.bottlenecks, second.bottlenecks]),
        labels=np.concatenate([first.labels, second.labels]),
        digests=[*first.digests, *second.digests],
    )
    base = built(images([0, 1, 2, 3] * 5, first=300))
    steps = grown(grown(base, answers(5), first, NONE), answers(6), second, NONE)
    whole = grown(base, answers(6), both, NONE)
    assert same_rows(steps.core, whole.core)
    for name in ("counts", "means", "scatter", "balanced_scatter", "variances"):
        np.testing.assert_allclose(
            getattr(steps.statistics, name), getattr(whole.statistics, name), atol=1e-9
        )
    assert steps.groups.tolist() == [0, 0, 0, 0, 1, 2]
    assert whole.groups.tolist() == [0, 0, 0, 0, 1, 1]


def test_every_expansion_is_remembered_with_how_it_was_calibrated():
    before = bare(expansions=(Expansion(offset=0.5, scale=3.0),))
    after = grown(before, answers(5), images([4] * 3), NONE)
    assert [(one.offset, one.scale) for one in after.expansions] == [(0.5, 3.0), (-0.25, 1.25)]
    assert (bare().scale, before.scale, after.scale) == (1.0, 3.0, 1.25)
    assert after.groups[4] == 2
    assert after.temperature == 1.5


def test_columns_stand_at_the_indices_the_model_answers_with():
    """Index 4 was given to a category that is fitted as column 5, and the other way round."""
    today = images([4] * 3 + [5] * 8)
    after = grown(bare(), answers(6, source=[0, 1, 2, 3, 5, 4]), today, NONE)
    assert after.statistics.counts.tolist() == [0, 0, 0, 0, 8, 3]
    assert after.core.counts(6).tolist() == [0, 0, 0, 0, 8, 3]
    np.testing.assert_allclose(after.statistics.means[5], today.bottlenecks[:3].mean(axis=0), rtol=1e-6)


def test_an_index_without_a_column_is_kept_empty():
    listed = list(categories(6, new=2))
    listed[4] = listed[4].model_copy(update={"state": "retired"})
    after = grown(
        bare(), answers(6, source=[0, 1, 2, 3, -1, 4], categories=tuple(listed)), images([4] * 3), NONE
    )
    assert after.statistics.counts.tolist() == [0, 0, 0, 0, 0, 3]
    assert after.groups.tolist() == [0, 0, 0, 0, 1, 1]
    assert len(after) == 6


@pytest.mark.parametrize("state", ["retired", "replaced"])
def test_a_category_that_answers_no_more_teaches_no_more_and_keeps_its_row(state):
    before = built(images([0, 1, 2, 3] * 15))
    listed = list(categories(5, new=1))
    listed[1] = listed[1].model_copy(update={"state": state})
    model = answers(5, categories=tuple(listed))
    after = grown(before, model, images([4] * 12, first=900), NONE)
    assert after.statistics.counts.tolist() == [15, 0, 15, 15, 12]
    assert after.core.counts(5).tolist() == [10, 0, 10, 10, 10]
    assert after.head is model.head
    expected = statistics.removed(before.statistics, [1])
    own = statistics.of(images([4] * 12, first=900).bottlenecks, np.zeros(12, np.int64), 1)
    np.testing.assert_allclose(np.diag(after.statistics.scatter), np.diag(expected.scatter + own.scatter))


def test_the_state_of_the_detector_is_the_newest_one():
    before = bare(state={"thresholds": np.array([1.0, 2.0])})
    after = grown(before, answers(5), images([4] * 3), NONE, {"thresholds": np.array([3.0])})
    assert {name: array.tolist() for name, array in after.state.items()} == {"thresholds": [3.0]}
