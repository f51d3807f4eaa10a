"""Promises of what stands for earlier images: real where there is any, right in the mean, and nobody's judge."""

from dataclasses import replace

import numpy as np
from head_values import NEW, OLD, SIZE, World, world

from expansion_contract.resource import Solver
from expansion_trainer.head import chain, statistics
from expansion_trainer.head.chain import Earlier, added_material, added_statistics, topped_up
from expansion_trainer.head.fit import Labelled
from expansion_trainer.head.solve import Options, solve
from expansion_trainer.head.statistics import Statistics

COLUMNS = np.arange(2)


def positive(w: World) -> World:
    """Shifted to where hardly a number is negative, as pooled activations are."""
    return replace(w, means=np.abs(w.means) + 2)


def of_two(images: Labelled) -> Labelled:
    """The first two categories."""
    kept = images.labels < 2
    return Labelled(bottlenecks=images.bottlenecks[kept], labels=images.labels[kept])


def known(images: Labelled) -> Statistics:
    return statistics.of(images.bottlenecks, images.labels, 2)


def core(images: Labelled, each: int = 5) -> Labelled:
    kept = np.concatenate([np.flatnonzero(images.labels == c)[:each] for c in range(2)])
    return Labelled(bottlenecks=images.bottlenecks[kept], labels=images.labels[kept])


def test_real_bottlenecks_come_first_and_unchanged() -> None:
    images = of_two(positive(world()).new(60, 1))
    real = core(images)
    found = topped_up(real, known(images), COLUMNS, 0)
    np.testing.assert_array_equal(found.bottlenecks[: len(real)], real.bottlenecks)
    np.testing.assert_array_equal(found.labels[: len(real)], real.labels)
    np.testing.assert_array_equal(np.bincount(found.labels), [chain.EACH, chain.EACH])


def test_real_and_drawn_ones_together_have_the_category_s_mean_and_spread() -> None:
    images = of_two(positive(world()).new(200, 1))
    sums = known(images)
    found = topped_up(core(images), sums, COLUMNS, 0)
    for category in range(2):
        own = found.bottlenecks[found.labels == category]
        np.testing.assert_allclose(own.mean(axis=0), sums.means[category], atol=0.02)
        assert 0.8 < np.mean(own.var(axis=0) / sums.variances[category]) < 1.2


def test_drawn_ones_teach_and_never_judge() -> None:
    images = of_two(world().new(60, 1))
    found = topped_up(core(images), known(images), COLUMNS, 0)
    assert found.weights is not None
    assert (found.weights[:10] == 1).all()
    assert (found.weights[10:] < 1).all()


def test_nothing_is_drawn_below_what_a_real_one_can_be() -> None:
    w = world()
    images = of_two(w.new(60, 1))
    pooled = replace(images, bottlenecks=np.maximum(images.bottlenecks, 0))
    assert topped_up(core(pooled), known(pooled), COLUMNS, 0).bottlenecks.min() == 0
    assert topped_up(core(images), known(images), COLUMNS, 0).bottlenecks.min() < 0


def test_a_category_whose_images_are_all_at_hand_is_left_as_it_is() -> None:
    images = of_two(world().new(8, 1))
    assert len(topped_up(images, known(images), COLUMNS, 0)) == len(images)


def test_what_is_drawn_of_a_category_depends_on_no_other() -> None:
    """Later expansions must not change what stands for earlier ones."""
    images = of_two(world().new(60, 1))
    sums, real = known(images), core(images)
    alone = replace(real, bottlenecks=real.bottlenecks[:5], labels=real.labels[:5])
    both, one = topped_up(real, sums, COLUMNS, 0), topped_up(alone, sums, COLUMNS[:1], 0)
    np.testing.assert_array_equal(both.bottlenecks[both.labels == 0], one.bottlenecks)


def test_ten_thousand_categories_fit_into_memory() -> None:
    many = 10_000
    sums = Statistics(
        counts=np.full(many, 9),
        means=np.ones((many, 4)),
        scatter=np.eye(4),
        balanced_scatter=np.eye(4),
        variances=np.ones((many, 4)),
    )
    real = Labelled(bottlenecks=np.ones((many, 4), np.float32), labels=np.arange(many))
    assert len(topped_up(real, sums, np.arange(many), 0)) <= chain.MOST_DRAWN


def test_without_an_earlier_expansion_today_s_images_are_all() -> None:
    w = world()
    training, validation = w.new(5, 1), w.new(3, 2)
    assert added_material(None, training, validation, 0) == (training, validation)


def test_sums_for_the_discriminant_do_not_depend_on_the_order_of_arrival() -> None:
    """Through a pack whose columns are the base's, one that is retired, and the earlier ones, with replay images in the first step."""
    w = world()
    replayed, images = w.old(8, 3), w.new(30, 1)
    nothing_known = statistics.empty(OLD, SIZE)
    once = added_statistics(nothing_known, np.arange(0), images, replayed)
    pack = statistics.merged(nothing_known, statistics.of(replayed.bottlenecks, replayed.labels, OLD))
    pack = statistics.appended(pack, statistics.empty(1, SIZE))
    first = of_two(images)
    pack = statistics.appended(pack, statistics.of(first.bottlenecks, first.labels, 2))
    last = Labelled(bottlenecks=images.bottlenecks[images.labels == 2], labels=np.zeros(30, np.int64))
    later = added_statistics(pack, np.array([OLD + 1, OLD + 2]), last, replayed)
    for field in ("counts", "means", "scatter", "balanced_scatter", "variances"):
        np.testing.assert_allclose(getattr(once, field), getattr(later, field), rtol=1e-9, atol=1e-9)


def test_five_steps_end_where_one_ends() -> None:
    """Through what a pack keeps: ten bottlenecks in half precision and the sums."""
    w = world(distance=0.9)
    test, old = w.new(300, 5), w.old(300, 6)
    once = _chained(w, [range(NEW)])
    step_by_step = _chained(w, [range(1), range(1, 2), range(2, NEW)])
    for images, first in ((test, OLD), (old, 0)):
        one, other = (
            (head.logits(images.bottlenecks).argmax(axis=1) == images.labels + first).mean()
            for head in (once, step_by_step)
        )
        assert abs(one - other) < 0.02


def _chained(w: World, steps: list[range]):  # type: ignore[no-untyped-def]
    images, validation = w.new(60, 1), w.new(10, 2)
    options = Options(solver=Solver.SOFTMAX, steal_budget=0.02, seed=0)
    head, earlier = None, None
    for step in steps:
        here = [_of(part, step) for part in (images, validation)]
        today = [replace(part, labels=part.labels - step[0]) for part in here]
        training, choosing = added_material(earlier, *today, 0)
        head = solve(w.base, training, choosing, (w.replay(20, 3),), (w.replay(20, 4),), options)
        so_far = [_of(part, range(step[-1] + 1)) for part in (images, validation)]
        earlier = _saved(*so_far, step[-1] + 1)
    assert head is not None
    return head


def _of(images: Labelled, categories: range) -> Labelled:
    kept = np.isin(images.labels, list(categories))
    return Labelled(bottlenecks=images.bottlenecks[kept], labels=images.labels[kept])


def _saved(images: Labelled, validation: Labelled, categories: int) -> Earlier:
    kept, aside = (
        np.concatenate([np.flatnonzero(part.labels == c)[:5] for c in range(categories)])
        for part in (images, validation)
    )
    halved = [
        Labelled(
            bottlenecks=part.bottlenecks[rows].astype(np.float16).astype(np.float32), labels=part.labels[rows]
        )
        for part, rows in ((images, kept), (validation, aside))
    ]
    sums = statistics.of(images.bottlenecks, images.labels, categories)
    assert sums.means.shape == (categories, SIZE)
    return Earlier(fitted=halved[0], calibrating=halved[1], statistics=sums, columns=np.arange(categories))
