"""Promises of the benchmarks: nothing is measured on what was learned, and no figure flatters."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expansion_benchmarks import documents, svg
from expansion_benchmarks.features import Pool, keep_head, kept_head
from expansion_benchmarks.figures import Calibration, Figure, calibration, gaps, together
from expansion_benchmarks.overlap import by_hand
from expansion_benchmarks.sets import Deal, dealt, given_source, some_categories
from expansion_benchmarks.sets import NewSet as Set
from expansion_benchmarks.targets import CALIBRATED, beyond_chance, verdict
from expansion_benchmarks.telling import Seen, numbers
from expansion_contract.labels import imagenet
from expansion_trainer.dataset.split import Side
from expansion_trainer.head import statistics, unknown
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.fit import FittedHead
from expansion_trainer.head.softmax import Rows


def pool(categories: int, each: int) -> Pool:
    labels = np.repeat(np.arange(categories), each)
    digests = np.array([f"{index:064x}" for index in range(len(labels))])
    return Pool(bottlenecks=np.arange(len(labels), dtype=np.float32)[:, None], labels=labels, digests=digests)


DEAL = Deal(training=5, validation=2, test=3)


def test_no_image_is_on_two_sides():
    sides = dealt(pool(4, 12), DEAL)
    seen = np.concatenate([sides[side].digests for side in Side])
    assert len(set(seen.tolist())) == len(seen) == 4 * (5 + 2 + 3)


def test_every_turn_tests_other_images():
    turns = [set(dealt(pool(4, 12), DEAL, turn)[Side.TEST].digests.tolist()) for turn in range(4)]
    assert sum(map(len, turns)) == len(set.union(*turns)) == 48


def test_a_category_with_few_images_learns_from_fewer_but_is_tested():
    sides = dealt(pool(1, 4), DEAL)
    assert [len(sides[side]) for side in (Side.TEST, Side.VALIDATION, Side.TRAINING)] == [3, 1, 0]


def test_chosen_categories_are_numbered_in_the_order_asked_for():
    whole = Set(categories=("a", "b", "c"), left_out=(), sides={Side.TEST: pool(3, 2)})
    some = some_categories(whole, np.array([2, 0]))
    assert some.categories == ("c", "a")
    assert some.sides[Side.TEST].labels.tolist() == [1, 1, 0, 0]


def row(lost: int, share: float, **changes: Any) -> dict[str, Any]:
    values = {
        "new_set": "flowers5",
        "evidence": "replay",
        "base_drop": Figure(value=lost / 348, low=0, high=0, n=348),
        "share": Figure(value=share, low=0, high=1, n=500),
        "identical": True,
    }
    return values | changes


@pytest.mark.parametrize(
    ("asked", "met"),
    [
        pytest.param(row(0, 0.99), True, id="at the target"),
        pytest.param(row(1, 0.99), True, id="one image is never too many"),
        pytest.param(row(2, 0.99), False, id="two of 348 are more than 0.3 points"),
        pytest.param(row(0, 0.989), False, id="a share just below"),
        pytest.param(row(0, 0.99, identical=False), False, id="a changed base row"),
        pytest.param(
            row(0, 0.87, new_set="mine"), True, id="an unknown set is taken to look like the old ones"
        ),
    ],
)
def test_a_row_reaches_its_target_or_says_why_not(asked: dict[str, Any], met: bool):
    found = verdict(asked)
    assert (found.met, found.why == "") == (met, met)


def test_new_images_of_several_deals_add_up_and_base_images_do_not():
    parts = [
        {"new": Figure(value=v, low=0, high=1, n=10), "base_before": Figure(value=v, low=0, high=1, n=10)}
        for v in (0.5, 0.9)
    ]
    both = together(parts)
    assert (both["new"].value, both["new"].n) == (0.7, 20)
    assert (both["base_before"].value, both["base_before"].n) == (0.7, 10)


def test_a_perfectly_calibrated_head_shows_its_floor():
    random = np.random.default_rng(3)
    score = random.uniform(0.2, 1, size=400)
    found = calibration(score, random.random(400) < score)
    assert isinstance(found, Calibration)
    assert 0.02 < found.floor < 0.08
    assert abs(found.error - found.floor) < 0.03


def test_few_perfect_heads_show_more_than_chance_and_one_that_is_too_sure_does():
    random = np.random.default_rng(3)
    score = random.uniform(0.2, 1, size=400)
    perfect = [calibration(score, random.random(400) < score) for _ in range(40)]
    assert 0 < sum(found.error > found.floor for found in perfect) < 40
    assert sum(found.error > found.most for found in perfect) <= 6
    too_sure = calibration(score, random.random(400) < score - 0.1)
    rows = [
        {"calibration": {group: asdict(one) for group, _ in CALIBRATED}} for one in (perfect[0], too_sure)
    ]
    assert [beyond_chance(row) for row in rows] == [(), ("overall", "base", "new")]


HEAD = FittedHead(
    weights=np.eye(2, dtype=np.float32),
    bias=np.zeros(2, np.float32),
    base_count=1,
    solver="Softmax",
    l2=1.0,
    offset=0.0,
    temperature=1.5,
    evidence_kinds=("replay",),
    steal_rate_validation=None,
    steal_images=0,
    chosen_on=0,
    scale=1.25,
    frozen=1,
)


def test_the_gap_is_how_far_new_is_ahead_of_old():
    assert gaps(np.array([[1, 3], [2, 0]], np.float32), 1).tolist() == [2, -2]


def test_a_head_is_kept_with_all_it_says_of_itself(tmp_path: Path):
    keep_head(tmp_path / "head.npz", HEAD)
    again = kept_head(tmp_path / "head.npz")
    assert again.weights.tobytes() == HEAD.weights.tobytes()
    assert (again.temperature, again.scale, again.frozen, again.steal_rate_validation) == (1.5, 1.25, 1, None)


def test_the_list_made_by_hand_names_imagenet_categories_only():
    assert {label for one in by_hand().values() for label in one.labels} <= {name for _, name in imagenet()}


def test_a_folder_that_cannot_be_dealt_is_refused_by_name(tmp_path: Path):
    (tmp_path / "kiwi").mkdir()
    (tmp_path / "kiwi/one.jpg").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"fruit=.*at least 3 images.*kiwi"):
        given_source("fruit", tmp_path, 1)


def test_a_block_without_a_measurement_keeps_what_it_says(tmp_path: Path):
    text = "a\n<!-- measured: many -->\nold\n<!-- end -->\nb\n"
    assert documents.filled(text, tmp_path) == text


def test_a_block_is_written_anew_and_nothing_around_it(tmp_path: Path):
    (tmp_path / "exported.json").write_text('[{"identical": true, "asked": 2, "agreeing": 2}]')
    text = "a\n<!-- measured: exported -->\nold\n<!-- end -->\nb\n"
    written = documents.filled(text, tmp_path)
    assert written.startswith("a\n<!-- measured: exported -->\n1 of 1 rows")
    assert written.endswith("<!-- end -->\nb\n")
    assert documents.filled(written, tmp_path) == written


@pytest.mark.parametrize("span", [(0, 3), (45, 95), (0, 0.83), (-12, 12)])
def test_an_axis_has_a_handful_of_round_ticks(span: tuple[float, float]):
    found = svg.ticks(*span)
    assert 5 <= len(found) <= 11
    assert span[0] <= found[0]
    assert found[-1] <= span[1]


def test_a_plot_escapes_its_words(tmp_path: Path):
    line = svg.Line(name="a < b", xs=[0, 1], ys=[0, 1])
    svg.write(
        svg.Plot(title="&", x="x", y="y", lines=[line], span_x=(0, 1), span_y=(0, 1)), tmp_path / "p.svg"
    )
    assert "a &lt; b" in (tmp_path / "p.svg").read_text()


def test_every_way_of_telling_tells_pictures_of_another_direction():
    """Three categories along axes of their own; what is strange lies along another one."""
    chance = np.random.default_rng(0)

    def around(axis: int, count: int) -> np.ndarray:
        return (np.eye(16)[axis] + chance.normal(0, 0.05, (count, 16))).astype(np.float32)

    labels = np.repeat(np.arange(3), 40)
    images = np.concatenate([around(axis, 40) for axis in range(3)])
    rows = Rows(weights=10 * np.eye(16, 3, dtype=np.float32), bias=np.zeros(3, np.float32))
    seen = Seen(
        answering=Answering.of(rows, 1.0),
        space=unknown.space(statistics.of(images, labels, 3)),
        bottlenecks=unknown.unit(images),
        plain=images,
        labels=labels,
    )
    known, strange = numbers(seen, around(1, 50)), numbers(seen, around(9, 50))
    assert len(known) == 12
    told = {name: unknown.auroc(known[name], strange[name]) for name in known}
    assert min(told.values()) > 0.85, told
