"""Promises about who sees which images: nothing held out is ever fitted on or calibrated with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expansion_trainer.dataset.split import Divided, Part, Side
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.packs import core as cores
from expansion_trainer.sides import Bottlenecks, Copies, Dealt, Known, deal

NOTHING = Part(rows=np.zeros(0, np.int64), labels=np.zeros(0, np.int64))


def parts(first: int, sizes: tuple[int, int, int], labels: int = 3) -> dict[Side, Part]:
    """Consecutive rows from `first`."""
    found = {}
    for side, size in zip(Side, sizes, strict=True):
        rows = np.arange(first, first + size, dtype=np.int64)
        found[side] = Part(rows=rows, labels=rows % labels)
        first += size
    return found


def dealt(
    new: tuple[int, int, int],
    replay: tuple[int, int, int] = (0, 0, 0),
    unlabelled: tuple[int, int, int] = (0, 0, 0),
    pictures: int = 0,
    digests: list[str] | None = None,
    known: Known | None = None,
    copies: int = 0,
) -> Dealt:
    """Every bottleneck is its own row's number, those of procedural images count on from 10,000, a copy's is half a number higher."""
    starts = [0, sum(new), sum(new) + sum(replay)]
    divided = Divided(
        categories=("a", "b", "c"),
        new=parts(starts[0], new),
        replay=parts(starts[1], replay),
        unlabelled=parts(starts[2], unlabelled),
        duplicates=0,
        findings=(),
    )
    images = np.arange(sum(new) + sum(replay) + sum(unlabelled), dtype=np.float32)[:, None]
    drawn = 10_000 + np.arange(pictures, dtype=np.float32)[:, None]
    contents = np.array(digests or [f"{row:04}" for row in range(len(images))], np.str_)
    sides = (divided.new, divided.replay, divided.unlabelled)
    rows = np.concatenate([parts[Side.TRAINING].rows for parts in sides])
    distorted = np.repeat(images[rows, None] + 0.5, copies, axis=1) if copies else None
    bottlenecks = Bottlenecks(
        images=images,
        digests=contents,
        pictures=drawn,
        copies=None if distorted is None else Copies(rows=rows, bottlenecks=distorted),
    )
    return deal(divided, bottlenecks, known or Known())


def ids(*seen: Evidence | None) -> set[float]:
    return {float(row[0]) for evidence in seen if evidence is not None for row in evidence.bottlenecks}


SIZES = st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 4))


@given(new=SIZES, replay=SIZES, unlabelled=SIZES, pictures=st.integers(0, 23))
def test_fitting_choosing_and_measuring_share_no_image(
    new: tuple[int, int, int], replay: tuple[int, int, int], unlabelled: tuple[int, int, int], pictures: int
) -> None:
    d = dealt(new, replay, unlabelled, pictures)
    fitted = ids(*d.evidence) | set(d.training.bottlenecks[:, 0])
    chosen = ids(*d.calibration) | set(d.validation.bottlenecks[:, 0])
    measured = ids(d.bystanders) | set(d.test.bottlenecks[:, 0])
    if d.base_test is not None:
        measured |= set(d.base_test.bottlenecks[:, 0])
    assert not fitted & chosen
    assert not fitted & measured
    assert not chosen & measured


def test_only_what_is_fitted_on_has_distorted_copies() -> None:
    digests = [f"{97 * row % 101:03}" for row in range(24)]  # another order than the rows'
    d = dealt((6, 2, 2), (4, 2, 1), (3, 2, 2), pictures=10, digests=digests, copies=2)
    n = len(d.training)
    assert d.taught.groups is not None
    assert d.taught.is_copy is not None
    np.testing.assert_array_equal(d.taught.bottlenecks[:n], d.training.bottlenecks)
    np.testing.assert_array_equal(
        d.taught.bottlenecks[n:], np.repeat(d.training.bottlenecks + 0.5, 2, axis=0)
    )
    np.testing.assert_array_equal(d.taught.labels[n:], np.repeat(d.training.labels, 2))
    np.testing.assert_array_equal(d.taught.groups[n:], np.repeat(d.taught.groups[:n], 2))
    assert d.taught.is_copy.tolist() == [False] * n + [True] * 2 * n
    for evidence in d.evidence:
        if evidence.kind == "procedural":
            assert evidence.copies is None
        else:
            np.testing.assert_array_equal(
                evidence.copies, np.repeat(evidence.bottlenecks[:, None] + 0.5, 2, axis=1)
            )
    assert [e.copies for e in d.calibration] == [None] * 3
    assert d.copies == 2 * (6 + 4 + 3)


def core_of(rows: list[int], digests: list[str]) -> cores.Core:
    bottlenecks = np.array(rows, np.float32)[:, None]
    return cores.chosen(bottlenecks, np.array(rows) % 3, [digests[row] for row in rows])


@given(new=SIZES, replay=SIZES, unlabelled=SIZES, seed=st.integers(0, 99))
def test_a_pack_that_knows_today_s_images_brings_none_of_them_to_another_side(
    new: tuple[int, int, int], replay: tuple[int, int, int], unlabelled: tuple[int, int, int], seed: int
) -> None:
    many = sum(new) + sum(replay) + sum(unlabelled)
    digests = [f"{row:04}" for row in range(many + 5)]
    rows = np.random.default_rng(seed).permutation(many + 5)[: 5 + many // 2].tolist()
    d = dealt(new, replay, unlabelled, known=Known(core=core_of(rows, digests)))
    packed = {float(row) for row in rows if row >= many}
    assert ids(*(e for e in (*d.evidence, *d.calibration) if e.kind == "pack")) <= packed
    assert d.core is not None
    assert set(d.core.bottlenecks[:, 0]) <= packed


def test_a_pack_is_given_replay_images_and_never_a_test_image() -> None:
    d = dealt((6, 3, 3), replay=(4, 2, 2))
    digests = np.array([f"{row:04}" for row in range(20)])
    training, validation = (d.kept(side, 100, digests) for side in (Side.TRAINING, Side.VALIDATION))
    assert set(training.bottlenecks[:, 0]) == {0, 1, 2, 3, 4, 5, 12, 13, 14, 15}
    assert set(validation.bottlenecks[:, 0]) == {6, 7, 8, 16, 17}
    for kept in (training, validation):
        assert list(kept.digests) == [f"{int(row):04}" for row in kept.bottlenecks[:, 0]]
        expected = [int(row) % 3 + (100 if row < 12 else 0) for row in kept.bottlenecks[:, 0]]
        assert list(kept.labels) == expected


def test_images_stand_in_the_order_of_their_content_and_not_of_their_names() -> None:
    d = dealt((4, 0, 3), digests=["d", "b", "a", "c", "z", "y", "x"])
    assert list(d.training.bottlenecks[:, 0]) == [2, 1, 3, 0]
    assert list(d.training.labels) == [2, 1, 0, 0]
    assert list(d.images[Side.TEST]) == list(d.test.bottlenecks[:, 0]) == [6, 5, 4]


def test_labels_stay_with_their_bottlenecks() -> None:
    d = dealt((6, 3, 3), replay=(4, 2, 2))
    assert list(d.training.labels) == [int(row) % 3 for row in d.training.bottlenecks[:, 0]]
    assert d.base_test is not None
    assert list(d.base_test.labels) == [int(row) % 3 for row in d.base_test.bottlenecks[:, 0]]


@pytest.mark.parametrize(
    ("given_images", "kinds", "bystanders"),
    [
        pytest.param({"pictures": 10}, ["procedural"], "procedural", id="nothing given"),
        pytest.param(
            {"unlabelled": (5, 2, 2), "pictures": 10},
            ["unlabelled", "procedural"],
            "unlabelled",
            id="photographs",
        ),
        pytest.param(
            {"replay": (5, 2, 2), "pictures": 10}, ["replay", "procedural"], "procedural", id="replay images"
        ),
        pytest.param({}, [], None, id="mode Replace"),
    ],
)
def test_evidence_is_what_was_given_and_procedural_images_always(
    given_images: dict[str, object], kinds: list[str], bystanders: str | None
) -> None:
    d = dealt((6, 3, 3), **given_images)  # type: ignore[arg-type]
    assert [evidence.kind for evidence in d.evidence] == kinds
    assert [evidence.kind for evidence in d.calibration] == kinds
    assert (d.bystanders.kind if d.bystanders else None) == bystanders


def test_three_fifths_of_the_procedural_images_are_fitted_on() -> None:
    d = dealt((6, 3, 3), pictures=400)
    assert d.bystanders is not None
    sizes = [len(d.evidence[0].bottlenecks), len(d.calibration[0].bottlenecks), len(d.bystanders.bottlenecks)]
    assert sizes == [240, 80, 80]
