"""Promises of the figures: each is what its name says, and comes with an honest interval."""

import numpy as np
import pytest

from expansion_trainer.evaluation import metrics
from expansion_trainer.head.softmax import Rows


def flags(*runs: tuple[bool, int]) -> np.ndarray:
    return np.concatenate([np.full(n, value) for value, n in runs])


def identity(categories: int) -> Rows:
    """Logits are the bottlenecks themselves."""
    return Rows(weights=np.eye(categories, dtype=np.float32), bias=np.zeros(categories, np.float32))


def test_answers_are_the_highest_logit_of_all_and_of_the_new_categories() -> None:
    found = metrics.answers(identity(4), np.array([[5, 1, 2, 3], [0, 1, 9, 3]], np.float32), 2, 1.0)
    assert found.answer.tolist() == [0, 2]
    assert found.among_new.tolist() == [3, 2]
    assert found.best.tolist() == [[0, 3, 2, 1], [2, 3, 1, 0]]


def test_scores_are_softmax_after_temperature() -> None:
    logits = np.array([[1.0, 2.0, 4.0]], np.float32)
    expected = np.exp(2.0) / np.exp([0.5, 1.0, 2.0]).sum()
    assert metrics.answers(identity(3), logits, 0, 2.0).score[0] == pytest.approx(expected)


def test_answering_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).normal(size=(11, 6)).astype(np.float32)
    whole = metrics.answers(identity(6), images, 2, 1.5)
    monkeypatch.setattr(metrics, "CHUNK", 3)
    parts = metrics.answers(identity(6), images, 2, 1.5)
    np.testing.assert_array_equal(parts.best, whole.best)
    np.testing.assert_allclose(parts.score, whole.score)


def test_no_images_give_no_answers() -> None:
    assert len(metrics.answers(identity(3), np.zeros((0, 3), np.float32), 1, 1.0)) == 0


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


def test_confused_pairs_come_commonest_first_and_right_answers_are_none() -> None:
    truth, answer = np.array([0, 0, 0, 1, 2]), np.array([1, 1, 0, 2, 1])
    assert metrics.confused(truth, answer, 2) == [(0, 1, 2), (1, 2, 1)]
