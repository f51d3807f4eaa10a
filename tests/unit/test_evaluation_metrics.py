"""Promises of the figures: each is what its name says, and comes with an honest interval."""

import numpy as np
import pytest

from expansion_contract.report import Proportion
from expansion_trainer.evaluation import calibrated, metrics, resampled
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.softmax import Rows


def flags(*runs: tuple[bool, int]) -> np.ndarray:
    return np.concatenate([np.full(n, value) for value, n in runs])


def identity(categories: int, temperature: float = 1.0) -> Answering:
    """Logits are the bottlenecks themselves."""
    rows = Rows(weights=np.eye(categories, dtype=np.float32), bias=np.zeros(categories, np.float32))
    return Answering.of(rows, temperature)


def test_answers_are_the_highest_logit_of_all_and_of_the_new_categories() -> None:
    found = metrics.answers(identity(4), np.array([[5, 1, 2, 3], [0, 1, 9, 3]], np.float32), 2)
    assert found.answer.tolist() == [0, 2]
    assert found.among_new.tolist() == [3, 2]
    assert found.best.tolist() == [[0, 3, 2, 1], [2, 3, 1, 0]]


def test_scores_are_softmax_after_temperature() -> None:
    logits = np.array([[1.0, 2.0, 4.0]], np.float32)
    expected = np.exp(2.0) / np.exp([0.5, 1.0, 2.0]).sum()
    assert metrics.answers(identity(3, 2.0), logits, 0).score[0] == pytest.approx(expected)


def test_answering_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).normal(size=(11, 6)).astype(np.float32)
    whole = metrics.answers(identity(6, 1.5), images, 2)
    monkeypatch.setattr(metrics, "CHUNK", 3)
    parts = metrics.answers(identity(6, 1.5), images, 2)
    np.testing.assert_array_equal(parts.best, whole.best)
    np.testing.assert_allclose(parts.score, whole.score)


def test_no_images_give_no_answers() -> None:
    assert len(metrics.answers(identity(3), np.zeros((0, 3), np.float32), 1)) == 0


@pytest.mark.parametrize(
    ("both", "lost", "won", "neither", "low", "high"),
    [
        pytest.param(36, 12, 2, 0, 0.0569, 0.3404, id="Newcombe 1998, method 10, first table"),
        pytest.param(14, 5, 0, 22, 0.0115, 0.2265, id="Altman and others 2000, table 6.2"),
    ],
)
def test_the_paired_interval_is_the_published_one(
    both: int, lost: int, won: int, neither: int, low: float, high: float
) -> None:
    before = flags((True, both + lost), (False, won + neither))
    after = flags((True, both), (False, lost), (True, won), (False, neither))
    assert metrics.paired(before, after).interval() == pytest.approx((low, high), abs=1e-4)


def test_the_paired_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1500):
        before = random.random(300) < 0.8
        after = before & (random.random(300) >= 0.02 / 0.8)
        low, high = metrics.paired(before, after).interval()
        covered += low <= 0.02 <= high
    assert 0.93 < covered / 1500 <= 1.0


def test_pairing_makes_the_interval_narrower_than_two_separate_ones() -> None:
    before = flags((True, 500), (False, 148))
    after = flags((True, 498), (False, 150))
    low, high = metrics.paired(before, after).interval()
    assert -0.005 < low < 2 / 648 < high < 0.02


def test_a_drop_counts_what_was_lost_on_the_same_images() -> None:
    drop = metrics.measured_drop(flags((True, 8), (False, 2)), flags((True, 7), (False, 3)))
    assert (drop.measured, drop.lost, drop.n, drop.value) == (True, 1, 10, pytest.approx(0.1))
    assert drop.low <= drop.value <= drop.high


def test_calibrated_scores_have_almost_no_calibration_error_and_boasting_ones_do() -> None:
    random = np.random.default_rng(0)
    score = random.uniform(0.3, 1, 20_000)
    right = random.random(20_000) < score
    assert metrics.calibration_error(score, right) == pytest.approx(0, abs=0.015)
    assert metrics.calibration_error(score, random.random(20_000) < score - 0.2) == pytest.approx(
        0.2, abs=0.015
    )


def test_boasting_and_modesty_do_not_cancel_out() -> None:
    score = np.repeat([0.5, 0.9], 7500)
    right = np.random.default_rng(0).random(15_000) < 1.4 - score
    assert metrics.calibration_error(score, right) == pytest.approx(0.4, abs=0.03)


def test_without_images_there_is_no_calibration_error() -> None:
    assert metrics.calibration_error(np.zeros(0), np.zeros(0, dtype=bool)) is None


def test_few_images_show_an_error_even_of_perfect_scores() -> None:
    """What is printed beside the error is what such scores would show, were they exactly right."""
    random = np.random.default_rng(0)
    for n in (30, 300, 30_000):
        score = random.uniform(0.3, 1, n)
        shown = [calibrated.calibration_error(score, random.random(n) < score) for _ in range(100)]
        assert calibrated.floor(score) == pytest.approx(np.mean(shown), rel=0.06)
    assert calibrated.floor(random.uniform(0.3, 1, 30)) > 5 * calibrated.floor(random.uniform(0.3, 1, 3000))


def test_base_and_new_are_calibrated_apart() -> None:
    """Boasting about the new and modest about the base is not calibrated, whatever the mean says."""
    random = np.random.default_rng(0)
    score, is_new = random.uniform(0.69, 0.71, 4000), np.arange(4000) < 2000
    right = random.random(4000) < np.where(is_new, 0.5, 0.9)
    found = calibrated.calibration(score, right, is_new)
    assert found
    assert found.base
    assert found.new
    assert found.overall.value < 0.05
    assert found.base.value == pytest.approx(0.2, abs=0.03)
    assert found.new.value == pytest.approx(0.2, abs=0.03)
    assert (found.overall.n, found.base.n, found.new.n) == (4000, 2000, 2000)
    assert sum(one.n for one in found.bins) == 4000


def test_without_base_images_nothing_is_said_of_their_scores() -> None:
    found = calibrated.calibration(np.array([0.5]), np.array([True]), np.array([True]))
    assert found
    assert (found.base, found.new and found.new.n) == (None, 1)


def test_macro_recall_counts_every_category_alike() -> None:
    found = resampled.macro_recall([Proportion.of(90, 100), Proportion.of(0, 1)])
    assert found
    assert found.value == pytest.approx(0.45)
    assert found.n == 101
    assert found.low <= 0.2
    assert found.high >= 0.85


def test_the_interval_of_macro_recall_covers_the_truth_about_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(1), 0
    for _ in range(200):
        each = random.beta(8, 2, size=30)  # mean 0.8
        recalls = [Proportion.of(int(random.binomial(12, p)), 12) for p in each]
        found = resampled.macro_recall(recalls)
        assert found
        covered += found.low <= 0.8 <= found.high
    assert covered > 0.9 * 200


def test_the_area_under_the_curve_is_how_often_the_known_one_scores_higher() -> None:
    found = resampled.mean_auroc([(np.array([1.0, 2.0]), np.array([0.0, 1.0]))])
    assert found
    assert found.value == pytest.approx((2 + 1.5) / 4)
    random = np.random.default_rng(0)
    sure = resampled.mean_auroc([(random.normal(1, 1, 400), random.normal(0, 1, 400))])
    assert sure
    assert sure.low < 0.760 < sure.high
    assert sure.high - sure.low < 0.08


def test_confused_pairs_come_commonest_first_and_right_answers_are_none() -> None:
    truth, answer = np.array([0, 0, 0, 1, 2]), np.array([1, 1, 0, 2, 1])
    assert metrics.confused(truth, answer, 2) == [(0, 1, 2), (1, 2, 1)]
