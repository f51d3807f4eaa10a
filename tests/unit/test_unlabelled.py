"""Photographs that nobody labelled and that show a new category: found and left out, and hardly any others."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expansion_contract.dataset import Role
from expansion_storage.folder import FolderPrefix
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.dataset.split import Divided, Part, Side
from expansion_trainer.dataset.unlabelled import without_new_categories

SIZE = 24


def drawn(centres: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` bottlenecks around each centre."""
    rng = np.random.default_rng(seed)
    around = np.repeat(centres, count, axis=0)
    return np.maximum(around + rng.normal(scale=0.6, size=around.shape), 0).astype(np.float32)


CENTRES = np.abs(np.random.default_rng(7).normal(scale=2.0, size=(12, SIZE)))
NEW, OLD = CENTRES[:2], CENTRES[2:]


def data(photographs: np.ndarray, per_category: int = 40, categories: tuple[str, ...] = ("rose", "tulip")):
    """New training images of two categories, then the photographs, on all three sides."""
    new = drawn(NEW, per_category, seed=1)
    bottlenecks = np.concatenate([new, photographs])
    place = FolderPrefix(Path("photos"))
    images = [
        SourceImage(role=Role.UNLABELLED, place=place, key=f"{n}.jpg", size=1, etag="e")
        for n in range(len(bottlenecks))
    ]
    rows = np.arange(len(new), len(bottlenecks))
    empty = Part(rows=np.zeros(0, np.int64), labels=np.zeros(0, np.int64))
    parts = np.array_split(rows, [len(rows) * 8 // 10, len(rows) * 9 // 10])
    training = Part(rows=np.arange(len(new)), labels=np.repeat([0, 1], per_category))
    divided = Divided(
        categories=categories,
        new={Side.TRAINING: training, Side.VALIDATION: empty, Side.TEST: empty},
        replay=dict.fromkeys(Side, empty),
        unlabelled={side: Part(rows=part, labels=np.full(len(part), -1)) for side, part in zip(Side, parts, strict=True)},
        duplicates=0,
        findings=(),
    )  # fmt: skip
    digests = [hashlib.sha256(row.tobytes()).hexdigest() for row in bottlenecks]
    return divided, bottlenecks, images, digests


def left_out(before: Divided, after: Divided) -> set[int]:
    rows = [
        {int(row) for part in divided.unlabelled.values() for row in part.rows} for divided in (before, after)
    ]
    return rows[0] - rows[1]


def mixed(strangers: int, seed: int = 3) -> tuple[np.ndarray, set[int]]:
    """100 photographs of old things with `strangers` images of new categories among them, and which those are."""
    either = drawn(np.tile(NEW, (30, 1)), 1, seed + 1)[:strangers]
    photographs = np.concatenate([drawn(OLD, 10, seed), either])
    order = np.random.default_rng(seed).permutation(len(photographs))
    return photographs[order], {80 + place for place, one in enumerate(order) if one >= 100}


def test_photographs_of_other_things_all_stay():
    photographs, _ = mixed(0)
    given = data(photographs)
    after = without_new_categories(*given)
    assert left_out(given[0], after) == set()
    assert after.findings == ()


@pytest.mark.parametrize("strangers", [5, 20, 50])
def test_images_of_new_categories_among_them_are_left_out_on_every_side(strangers):
    photographs, which = mixed(strangers)
    given = data(photographs)
    gone = left_out(given[0], without_new_categories(*given))
    assert len(gone & which) >= 0.8 * strangers
    assert len(gone - which) <= 2


def test_the_finding_counts_them_and_names_the_categories_and_an_example():
    photographs, _ = mixed(20)
    given = data(photographs)
    after = without_new_categories(*given)
    (finding,) = after.findings
    count = len(left_out(given[0], after))
    assert finding.message.startswith(
        f"{count} of 120 images of spec.unlabelled seem to show new categories: "
    )
    for words in ("rose (", "tulip (", "for example photos/"):
        assert words in finding.message


def test_the_order_and_the_names_of_the_images_change_nothing():
    photographs, _ = mixed(20)
    divided, bottlenecks, images, digests = data(photographs)
    first = {
        digests[row]
        for row in left_out(divided, without_new_categories(divided, bottlenecks, images, digests))
    }
    order = np.random.default_rng(5).permutation(len(photographs))
    again = data(photographs[order])
    second = {again[3][row] for row in left_out(again[0], without_new_categories(*again))}
    assert first == second


def test_a_category_of_unknown_things_suspects_nothing():
    names = ("unknown", "zebra")
    background = data(np.concatenate([drawn(OLD, 10, 3), drawn(NEW[:1], 30, 4)]), categories=names)
    assert left_out(background[0], without_new_categories(*background)) == set()
    zebras = data(np.concatenate([drawn(OLD, 10, 3), drawn(NEW[1:], 30, 4)]), categories=names)
    assert len(left_out(zebras[0], without_new_categories(*zebras))) >= 24


@pytest.mark.parametrize(
    ("per_category", "photographs"),
    [pytest.param(2, 100, id="few new images"), pytest.param(40, 5, id="few photographs"), pytest.param(40, 0, id="none")],
)  # fmt: skip
def test_too_few_to_measure_by_are_left_as_they_are(per_category, photographs):
    given = data(drawn(NEW, 50, seed=4)[:photographs], per_category)
    assert without_new_categories(*given) is given[0]


def test_held_out_images_have_no_say():
    photographs, _ = mixed(20)
    divided, bottlenecks, images, digests = data(photographs)
    new = divided.new[Side.TRAINING]
    held_out = {Side.TRAINING: replace(new, rows=new.rows[:0], labels=new.labels[:0]), Side.TEST: new}
    moved = replace(divided, new={**divided.new, **held_out})
    assert without_new_categories(moved, bottlenecks, images, digests) is moved


def test_single_images_of_many_categories_still_suspect_only_what_is_near():
    photographs, _ = mixed(0)
    divided, bottlenecks, images, digests = data(photographs, 10)
    new = divided.new[Side.TRAINING]
    single = replace(
        divided,
        categories=tuple(str(n) for n in range(20)),
        new={**divided.new, Side.TRAINING: replace(new, labels=np.arange(20))},
    )
    assert left_out(single, without_new_categories(single, bottlenecks, images, digests)) == set()


def test_photographs_that_merely_look_like_a_new_category_stay_evidence():
    """Between an old thing and a new one: the looser the limits, the more of them they would take."""
    between = (0.8 * NEW[:1] + 0.2 * OLD[:1]).repeat(2, axis=0)
    given = data(np.concatenate([drawn(OLD, 6, seed=3), drawn(between, 40, seed=4)]))
    assert len(left_out(given[0], without_new_categories(*given))) <= 8
