"""The figures of a fitted head, on test images it never saw and with all logits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from expansion_contract.report import BaseDrop, CategoryScore, Confusion, Metrics
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation import metrics
from expansion_trainer.evaluation.metrics import Answers, proportion
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import BaseHead, FittedHead, Labelled
from expansion_trainer.head.softmax import Array, Flags, Labels

PAIRS = 50
"""Confusions named in the report."""


class Counts(Protocol):
    def counts(self, side: Side) -> Sequence[int]:
        """Images of each new category on this side."""


@dataclass(frozen=True, kw_only=True)
class Miss:
    """A test image of a new category that got another answer."""

    index: int  # among the test images of new categories
    answer: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    metrics: Metrics
    confusions: tuple[Confusion, ...]
    misclassified: tuple[Miss, ...]  # the surest first


def score(
    head: FittedHead,
    base: BaseHead | None,
    new_test: Labelled,
    base_test: Labelled | None,
    bystanders: Evidence | None,
    names: Sequence[str],
    counts: Counts,
) -> Scores:
    """`names`: of all categories, base first. Without a base (mode Replace) there are no base figures."""
    new = Part.of(head, new_test.bottlenecks, new_test.labels + head.base_count)
    old = _old(head, base, base_test)
    seen = new if old is None else new.beside(old)
    measured = Metrics(
        overall=proportion(seen.right),
        new=proportion(new.right),
        new_closed=proportion(new.answers.among_new == new.truth),
        new_top5=proportion((new.answers.best == new.truth[:, None]).any(axis=1)),
        calibration_error=metrics.calibration_error(seen.answers.score, seen.right),
        categories=list(_categories(new, seen, head.base_count, names, counts)),
        **(_base_figures(head, base, old, bystanders) if base else {}),
    )
    return Scores(
        metrics=measured,
        confusions=tuple(_confusions(seen, names)),
        misclassified=tuple(_misclassified(new, names)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Test images with their answers."""

    bottlenecks: Array  # (n, D)
    answers: Answers
    truth: Labels  # (n,), index among all categories

    @classmethod
    def of(cls, head: FittedHead, bottlenecks: Array, truth: Labels) -> "Part":
        return cls(bottlenecks=bottlenecks, answers=_answers(head, bottlenecks), truth=truth)

    @property
    def right(self) -> Flags:
        return self.answers.right(self.truth)

    def beside(self, other: "Part") -> "Part":
        return Part(
            bottlenecks=np.concatenate([self.bottlenecks, other.bottlenecks]),
            answers=metrics.joined(self.answers, other.answers),
            truth=np.concatenate([self.truth, other.truth]),
        )


def _answers(head: FittedHead, bottlenecks: Array) -> Answers:
    return metrics.answers(head, bottlenecks, head.base_count, head.temperature)


def _old(head: FittedHead, base: BaseHead | None, base_test: Labelled | None) -> Part | None:
    if base is None or base_test is None or len(base_test) == 0:
        return None
    return Part.of(head, base_test.bottlenecks, base_test.labels)


def _base_figures(
    head: FittedHead, base: BaseHead, old: Part | None, bystanders: Evidence | None
) -> dict[str, Any]:
    stolen = _stolen(head, old, bystanders)
    steals = {"steals": proportion(stolen)} if len(stolen) else {}
    if old is None:
        return steals | {"base_drop": _estimated_drop(stolen, bystanders)}
    before = metrics.answers(base, old.bottlenecks, 0, 1.0).right(old.truth)
    return steals | {
        "base_before": proportion(before),
        "base_after": proportion(old.right),
        "base_drop": metrics.measured_drop(before, old.right),
    }


def _stolen(head: FittedHead, old: Part | None, bystanders: Evidence | None) -> Flags:
    """Which images of no new category are answered with one. Drawings count only where there is no photograph."""
    seen = [old.answers.answer] if old else []
    if bystanders and (bystanders.kind != "procedural" or not old):
        seen.append(_answers(head, bystanders.bottlenecks).answer)
    return np.concatenate([np.zeros(0, dtype=np.int64), *seen]) >= head.base_count


def _estimated_drop(stolen: Flags, bystanders: Evidence | None) -> BaseDrop | None:
    """An upper estimate: a stolen image was not always answered rightly before."""
    if bystanders is None or len(stolen) == 0:
        return None
    share = proportion(stolen)
    return BaseDrop(
        measured=False,
        source=bystanders.kind,
        lost=share.hits,
        n=share.n,
        value=share.value,
        low=share.low,
        high=share.high,
    )


def _categories(
    new: Part, seen: Part, base_count: int, names: Sequence[str], counts: Counts
) -> Iterator[CategoryScore]:
    """Of the new ones. Precision is over all labelled test images, so an old image stolen by a category counts against it."""
    training, validation = counts.counts(Side.TRAINING), counts.counts(Side.VALIDATION)
    for index, name in enumerate(names[base_count:]):
        column = base_count + index
        own, given = new.right[new.truth == column], seen.right[seen.answers.answer == column]
        yield CategoryScore(
            name=name,
            training_images=training[index],
            validation_images=validation[index],
            test_images=len(own),
            recall=proportion(own) if len(own) else None,
            precision=proportion(given) if len(given) else None,
        )


def _confusions(seen: Part, names: Sequence[str]) -> Iterator[Confusion]:
    for truth, answer, count in metrics.confused(seen.truth, seen.answers.answer, PAIRS):
        yield Confusion(truth=names[truth], answer=names[answer], count=count)


def _misclassified(new: Part, names: Sequence[str]) -> Iterator[Miss]:
    wrong = np.flatnonzero(~new.right)
    for index in wrong[np.argsort(-new.answers.score[wrong], kind="stable")].tolist():
        answer, sureness = int(new.answers.answer[index]), float(new.answers.score[index])
        yield Miss(index=index, answer=names[answer], score=sureness)
