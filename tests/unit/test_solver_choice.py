"""Promises of how Auto chooses: the first solver stays unless another one's lead is no accident."""

import numpy as np
import pytest

from expansion_trainer.head.comparison import chosen
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead
from expansion_trainer.head.material import Labelled
from expansion_trainer.head.solved import Solved

IMAGES = 100
BASE = BaseHead(weights=np.zeros((2, 1), np.float32), bias=np.zeros(1, np.float32))
PHOTOGRAPHS = Evidence(kind="unlabelled", bottlenecks=np.full((20, 2), -1, np.float32))


def reading(place: int, solver: str) -> Solved:
    """A head whose one new row is one number of the bottleneck."""
    return Solved(
        weights=np.stack([np.zeros(2), np.eye(2)[place]], axis=1).astype(np.float32),
        bias=np.zeros(2, np.float32),
        base_count=1,
        solver=solver,
        l2=0.0,
        offset=0.0,
        temperature=1.0,
        evidence_kinds=("unlabelled",),
        steal_rate_validation=0.0,
        steal_images=20,
        chosen_on=IMAGES,
    )


def missed_by_the_first(count: int) -> Labelled:
    """New images that the second head answers rightly, and the first all but `count`."""
    bottlenecks = np.ones((IMAGES, 2), np.float32)
    bottlenecks[:count, 0] = -2
    return Labelled(bottlenecks=bottlenecks, labels=np.zeros(IMAGES, np.int64))


@pytest.mark.parametrize(
    ("count", "solver"),
    [
        pytest.param(2, "Softmax", id="1.4 standard errors"),
        pytest.param(3, "Softmax", id="1.8 standard errors"),
        pytest.param(6, "Discriminant", id="2.5 standard errors"),
    ],
)
def test_another_solver_must_lead_by_more_than_chance(count: int, solver: str) -> None:
    heads = [reading(0, "Softmax"), reading(1, "Discriminant")]
    found = chosen(heads, BASE, missed_by_the_first(count), (PHOTOGRAPHS,), 0.005)
    assert found.solver == solver
    assert found.choice is not None
    assert found.choice.contenders[1].ahead == pytest.approx(count / IMAGES)


def test_a_lead_that_hangs_on_one_photograph_is_chance() -> None:
    """One photograph that the first head takes for new sets its level above all images; without it the first one is ahead."""
    strange = np.full((20, 2), -1, np.float32)
    strange[0, 0] = 2
    heads = [reading(0, "Softmax"), reading(1, "Discriminant")]
    bottlenecks = np.ones((IMAGES, 2), np.float32)
    bottlenecks[:20, 1] = -2
    images = Labelled(bottlenecks=bottlenecks, labels=np.zeros(IMAGES, np.int64))
    for one, solver in (
        (Evidence(kind="unlabelled", bottlenecks=strange), "Softmax"),
        (_often(strange), "Discriminant"),
    ):
        found = chosen(heads, BASE, images, (one,), 0.005)
        assert found.choice is not None
        assert found.choice.contenders[1].ahead == pytest.approx(0.8)
        assert found.solver == solver


def _often(strange: np.ndarray) -> Evidence:
    """The same twenty times over, and as many photographs as are no accident."""
    return Evidence(kind="unlabelled", bottlenecks=np.repeat(strange, 20, axis=0))
