"""What more evidence would buy, in sentences that follow from the run's own numbers; without a number where none follows.

An interval for more images is Wilson's for the same share of them. Nothing here says what a model *would* reach.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil

from expansion_contract.dataset import FEW, MANY, listed
from expansion_contract.intervals import wilson
from expansion_contract.report import CategoryScore, Finding, Metrics, NearCategory, Proportion
from expansion_trainer.report.figures import percent, worst_first

MORE = 300
"""Photographs that a sentence supposes."""
WIDE = 0.1
"""From here on an interval is worth a sentence."""
WORTH = 0.01
"""Of the test images of new categories: what the boundary costs below that is not worth a sentence."""
HARD = 0.9
"""New categories that are told apart less often are hard for these bottlenecks."""
PHOTOGRAPHS = frozenset({"replay", "pack", "unlabelled"})


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """How the line between old and new was drawn."""

    kinds: frozenset[str]  # of evidence
    budget: float  # of steals, a share
    images: int  # pictures of no new category by which it was drawn
    base_categories: int
    near: Sequence[NearCategory]

    @property
    def needed(self) -> int:
        """The fewest pictures of which one may be stolen without the next one's being stolen more often than the budget allows."""
        return ceil(1 / self.budget - 1e-9) - 1


def advice(metrics: Metrics, boundary: Boundary | None, test_percent: int) -> list[str]:
    """`boundary`: None in mode Replace."""
    about_old = () if boundary is None else _about_old(metrics, boundary, test_percent)
    return [*about_old, *_few(metrics.categories, test_percent), *_uncertain(metrics.new), *_hard(metrics)]


def findings(near: Sequence[NearCategory]) -> Iterator[Finding]:
    for sentence in _near(near):
        yield Finding(severity="note", reason="PicturesWouldHelp", message=sentence)


def _about_old(metrics: Metrics, boundary: Boundary, test_percent: int) -> Iterable[str]:
    return chain(
        _near(boundary.near),
        _unverified(boundary, test_percent),
        _steals(metrics.steals, boundary, test_percent),
        _unmeasured(metrics, boundary, test_percent),
        _cost(metrics),
    )


def _near(near: Sequence[NearCategory]) -> Iterator[str]:
    unseen = [one for one in near if one.images == 0]
    if not unseen:
        return
    new = list(dict.fromkeys(name for one in unseen for name in one.near))
    what = "this base category" if len(unseen) == 1 else f"each of these {len(unseen)} base categories"
    yield (
        f"One picture of {what}, near {listed(new)}, would help most: {listed([_named(one) for one in unseen])}. Put each into a"
        " folder of its name below spec.replay; nothing that this run was given shows how they look."
    )


def _named(category: NearCategory) -> str:
    return f"{category.name} ({category.uid})" if category.uid else category.name


def _unverified(boundary: Boundary, test_percent: int) -> Iterator[str]:
    """Those on the test side set no boundary."""
    if not boundary.kinds & PHOTOGRAPHS:
        least = ""
        if boundary.budget:
            least = (
                f"; {boundary.needed} are the fewest that can verify a budget of {percent(boundary.budget)}"
            )
        yield (
            "The boundary was set with pictures drawn by a program alone, which under-state steals. A few hundred photographs of"
            f" anything (spec.unlabelled) would say what is safe{least}."
        )
    elif boundary.budget and boundary.images < boundary.needed:
        more = ceil((boundary.needed - boundary.images) / (1 - test_percent / 100))
        yield (
            f"The steal budget of {percent(boundary.budget)} cannot be verified with {boundary.images} pictures of no new category:"
            f" {boundary.needed} are the fewest that can. About {more} more would do (spec.unlabelled, spec.replay);"
            f" {test_percent}\u00a0% of them are kept for the test."
        )


def _steals(steals: Proportion | None, boundary: Boundary, test_percent: int) -> Iterator[str]:
    """Drawn pictures say too little about photographs for a bound to be worth anything."""
    if steals is None or not steals.n or not boundary.kinds & PHOTOGRAPHS or steals.high <= boundary.budget:
        return
    held_out = MORE * test_percent // 100
    n = steals.n + held_out
    low, high = wilson(round(steals.value * n), n)
    yield (
        f"Of {steals.n} held-out pictures of no new category {steals.hits} were answered with one, so {_between(steals.low, steals.high)} of"
        f" such pictures are. With {MORE} more, of which about {held_out} would be held out, the same share would mean"
        f" {_between(low, high)}.{_enough(steals, boundary.budget)}"
    )


def _enough(steals: Proportion, budget: float) -> str:
    """How many would bring the bound below the budget, if the share stays what it is."""
    if steals.value >= budget:
        return ""
    n = steals.n
    while wilson(round(steals.value * n), n)[1] > budget:
        n += max(1, n // 50)
    return f" About {n} held-out ones would bring it below the budget of {percent(budget)}."


def _unmeasured(metrics: Metrics, boundary: Boundary, test_percent: int) -> Iterator[str]:
    drop = metrics.base_drop
    if drop is None or drop.measured:
        return
    held_out = boundary.base_categories * test_percent // 100
    _, high = wilson(0, held_out)
    yield (
        f"What the base lost is an estimate. One image of each of its {boundary.base_categories} categories (spec.replay) would measure"
        f" it: about {held_out} of them would be held out, and none lost of {held_out} means at most {percent(high)}."
    )


def _cost(metrics: Metrics) -> Iterator[str]:
    lost = metrics.new_closed.hits - metrics.new.hits
    if metrics.new.n and lost >= WORTH * metrics.new.n:
        yield (
            f"The boundary to the old categories costs the new ones {lost} of {metrics.new.n} test images. Evidence about old categories"
            f" can win back at most those: {percent(metrics.new.value)} would become {percent(metrics.new_closed.value)}."
        )


def _few(categories: Sequence[CategoryScore], test_percent: int) -> Iterator[str]:
    small = [one for one in categories if _images(one) < FEW]
    if not small:
        return
    names = listed([f"{one.name} ({_images(one)})" for one in small])
    yield f"Fewer than {FEW} images: {names}. {_recall(small, test_percent)}"


def _images(category: CategoryScore) -> int:
    return category.training_images + category.validation_images + category.test_images


def _recall(small: Sequence[CategoryScore], test_percent: int) -> str:
    """Of the one of them that was tested most."""
    best = max(small, key=lambda one: one.test_images)
    n = MANY * test_percent // 100
    if best.recall is None or not best.recall.n:
        return f"Not one of their images is a test image, so nothing is known of their recall. With {MANY} images about {n} would be."
    low, high = wilson(round(best.recall.value * n), n)
    return (
        f"Of {best.name!r} {best.recall.hits} of {best.recall.n} test images are right: its recall lies"
        f" {_between(best.recall.low, best.recall.high)}. With {MANY} images about {n} would be test images, and the same share would mean"
        f" {_between(low, high)}."
    )


def _uncertain(new: Proportion) -> Iterator[str]:
    if new.n and new.high - new.low > WIDE:
        low, high = wilson(4 * new.hits, 4 * new.n)
        yield (
            f"The accuracy of the new categories lies {_between(new.low, new.high)}, by {new.n} test images. Four times as many, with the"
            f" same share right, would mean {_between(low, high)}."
        )


def _hard(metrics: Metrics) -> Iterator[str]:
    closed = metrics.new_closed
    if closed.n and closed.value < HARD:
        weakest = [one.name for one in worst_first(metrics.categories)[:3] if one.recall and one.recall.n]
        yield (
            f"Among themselves the new categories are told apart in {percent(closed.value)} of test images. No evidence about old"
            f" categories lifts their accuracy above that; more or better images of them would, of {listed(weakest)} first, or a larger"
            " network."
        )


def _between(low: float, high: float) -> str:
    return f"between {percent(low)} and {percent(high)}"
