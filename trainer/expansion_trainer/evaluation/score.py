"""The figures of a fitted head, on test images it never saw and with all logits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from expansion_contract.report import BaseDrop, CategoryScore, Confusion, JointBound, Metrics
from expansion_trainer.columns import NEVER, Columns
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation import metrics, resampled
from expansion_trainer.evaluation.calibrated import calibration
from expansion_trainer.evaluation.joint import Joint
from expansion_trainer.evaluation.metrics import Answers, proportion
from expansion_trainer.evaluation.unknowns import Asked, unknown_report
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.detection import Detection
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """What is measured, every category at its index, and what was there before."""

    answering: Answering
    before: Answering | None  # None in mode Replace: there is no base
    fitted_answers_as: Labels  # (F,) the index each fitted column answers with, or NEVER
    new: Labels  # (U,) the index of each of today's new categories
    names: Sequence[str]  # (C,)
    new_names: Sequence[str]  # (U,) of the folders, whatever they are merged with

    @classmethod
    def of(
        cls,
        head: FittedHead,
        before: Answering | None,
        names: Sequence[str],
        columns: Columns | None = None,
        new_names: Sequence[str] | None = None,
    ) -> "Model":
        """Without `columns` every fitted column is its own index."""
        base_count = 0 if before is None else len(before.answers_as)
        new = np.arange(base_count, len(head.bias)) if columns is None else columns.new
        return cls(
            answering=Answering.of_head(head, columns),
            before=before,
            fitted_answers_as=np.arange(len(head.bias)) if columns is None else columns.fitted_answers_as,
            new=new,
            names=names,
            new_names=new_names or [names[index] for index in new.tolist()],
        )

    @property
    def base_count(self) -> int:
        return 0 if self.before is None else len(self.before.answers_as)

    @property
    def truths(self) -> Labels:
        """(U,) the index that is right for images of each new category: an alias' is its target's."""
        return self.fitted_answers_as[self.base_count :]

    @property
    def own(self) -> Labels:
        """Indices of new categories that answer with their own name."""
        return np.intersect1d(self.truths, self.new)

    def answers(self, bottlenecks: Array) -> Answers:
        return metrics.answered(self.answering, bottlenecks, self.new)


def score(
    head: FittedHead,
    base: BaseHead | None,
    new_test: Labelled,
    base_test: Labelled | None,
    bystanders: Evidence | None,
    names: Sequence[str],
    counts: Counts,
) -> Scores:
    """Of a model in which every fitted column is its own index. `names`: of all categories, base first."""
    before = None if base is None else Answering.of(base, 1.0)
    test = Unseen(new=new_test, base=base_test if base else None, bystanders=bystanders if base else None)
    return scored(Model.of(head, before, names), test, counts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unseen:
    """Test images: nothing was fitted on them or chosen with them."""

    new: Labelled  # labels: today's new categories
    base: Labelled | None  # labels: columns of the model before
    bystanders: Evidence | None  # held-out images of no new category


def scored(
    model: Model, test: Unseen, counts: Counts, detection: Detection | None = None, joint: Joint | None = None
) -> Scores:
    new = Part.of(model, test.new.bottlenecks, model.truths[test.new.labels])
    old, replaced = _old(model, test.base)
    seen = new if old is None else new.beside(old)
    is_new = np.arange(len(seen.truth)) < len(new.truth)
    worth = calibration(seen.answers.score, seen.right, is_new)
    measured = Metrics(
        **_new_figures(model, new, seen),
        **(_base_figures(model, test, old, replaced) if model.before else {}),
        calibration_error=worth.overall.value if worth else None,
        calibration=worth,
        joint=_joint_bound(model, joint, new, old) if joint else None,
        unknown=unknown_report(detection, _asked(model, test)) if detection else None,
        categories=list(_categories(model, test, new, seen, counts)),
    )
    return Scores(
        metrics=measured,
        confusions=tuple(_confusions(seen.truth, seen.answers.answer, model.names)),
        misclassified=tuple(_misclassified(new, model.names)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Test images with their answers."""

    bottlenecks: Array  # (n, D)
    answers: Answers
    truth: Labels  # (n,), index among all categories
    before: Labels | None = None  # (n,), of a base image: its column in the model before

    @classmethod
    def of(cls, model: Model, bottlenecks: Array, truth: Labels, before: Labels | None = None) -> "Part":
        return cls(bottlenecks=bottlenecks, answers=model.answers(bottlenecks), truth=truth, before=before)

    @property
    def right(self) -> Flags:
        return self.answers.right(self.truth)

    def beside(self, other: "Part") -> "Part":
        return Part(
            bottlenecks=np.concatenate([self.bottlenecks, other.bottlenecks]),
            answers=metrics.joined(self.answers, other.answers),
            truth=np.concatenate([self.truth, other.truth]),
        )


def _old(model: Model, images: Labelled | None) -> tuple[Part | None, Part | None]:
    """Test images of base categories that still answer, and of those that a new category replaced."""
    if model.before is None or images is None or len(images) == 0:
        return None, None
    truth = model.fitted_answers_as[images.labels]
    answered_before = model.before.answers_as[images.labels] != NEVER
    kept, replaced = answered_before & (truth != NEVER), answered_before & (truth == NEVER)
    parts = [
        Part.of(model, images.bottlenecks[rows], truth[rows], images.labels[rows]) if rows.any() else None
        for rows in (kept, replaced)
    ]
    return parts[0], parts[1]


def _new_figures(model: Model, new: Part, seen: Part) -> dict[str, Any]:
    by_category = resampled.recalls(seen.truth, seen.right)
    wrong = ~new.right
    to_base = wrong & ~np.isin(new.answers.answer, model.own) & np.isin(new.truth, model.own)
    missed = new.truth[to_base], new.answers.answer[to_base]
    return {
        "overall": proportion(seen.right),
        "overall_top5": proportion(seen.answers.among_best(seen.truth)),
        "macro_recall": resampled.macro_recall(by_category),
        "new": proportion(new.right),
        "new_closed": proportion(new.answers.among_new == new.truth),
        "new_top5": proportion(new.answers.among_best(new.truth)),
        "new_macro_recall": resampled.macro_recall(resampled.recalls(new.truth, new.right)),
        "misses": proportion(to_base) if model.before else None,
        "miss_pairs": list(_confusions(*missed, model.names)) if model.before else [],
    }


def _base_figures(model: Model, test: Unseen, old: Part | None, replaced: Part | None) -> dict[str, Any]:
    stolen = _stolen(model, test, old)
    figures: dict[str, Any] = {
        "steals": proportion(stolen.flags) if len(stolen.flags) else None,
        "steal_pairs": list(_confusions(stolen.truth, stolen.answer, model.names)),
        "replaced": proportion(np.isin(replaced.answers.answer, model.own)) if replaced else None,
        "base_drop": _estimated_drop(model, test.bystanders),
    }
    if old is None:
        return figures
    before = _before(model, old)
    return figures | {
        "base_before": proportion(before.right(_truth_before(model, old))),
        "base_after": proportion(old.right),
        "base_top5_before": proportion(before.among_best(_truth_before(model, old))),
        "base_top5_after": proportion(old.answers.among_best(old.truth)),
        "base_drop": metrics.measured_drop(before.right(_truth_before(model, old)), old.right),
    }


def _before(model: Model, images: Part) -> Answers:
    assert model.before is not None
    return metrics.answered(model.before, images.bottlenecks, np.zeros(0, np.int64))


def _truth_before(model: Model, images: Part) -> Labels:
    assert model.before is not None
    assert images.before is not None
    return model.before.answers_as[images.before]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stolen:
    """Images of no new category, and which of them are answered with one."""

    flags: Flags  # (n,)
    truth: Labels  # of the stolen ones: their category, or the base's answer before
    answer: Labels  # of the stolen ones


def _stolen(model: Model, test: Unseen, old: Part | None) -> Stolen:
    """Drawings count only where there is no photograph, and are never named: they show nothing."""
    parts = [old] if old else []
    bystanders = test.bystanders
    if bystanders and (bystanders.kind != "procedural" or not old):
        parts.append(_watched(model, bystanders))
    flags = [np.isin(part.answers.answer, model.own) for part in parts]
    named = [flag & (part.truth != NEVER) for part, flag in zip(parts, flags, strict=True)]
    none = np.zeros(0, np.int64)
    return Stolen(
        flags=np.concatenate([np.zeros(0, dtype=bool), *flags]),
        truth=np.concatenate([none, *(part.truth[rows] for part, rows in zip(parts, named, strict=True))]),
        answer=np.concatenate(
            [none, *(part.answers.answer[rows] for part, rows in zip(parts, named, strict=True))]
        ),
    )


def _watched(model: Model, bystanders: Evidence) -> Part:
    """The truth of a photograph is the base's answer before, as far as anybody knows; none of what was replaced."""
    part = Part.of(model, bystanders.bottlenecks, np.full(len(bystanders.bottlenecks), NEVER))
    if bystanders.kind == "procedural":
        return part
    before = _before(model, part).answer if bystanders.labels is None else bystanders.labels
    truth = model.fitted_answers_as[before]
    known = truth != NEVER
    return Part.of(model, bystanders.bottlenecks[known], truth[known], before[known])


def _estimated_drop(model: Model, bystanders: Evidence | None) -> BaseDrop | None:
    if bystanders is None:
        return None
    seen = _watched(model, bystanders)
    if bystanders.labels is None:
        return metrics.stolen_drop(np.isin(seen.answers.answer, model.own), bystanders.kind)
    return metrics.pack_drop(_before(model, seen).right(_truth_before(model, seen)), seen.right)


def _joint_bound(model: Model, joint: Joint, new: Part, old: Part | None) -> JointBound:
    if joint.rows is None:
        return JointBound(why_not=joint.why_not)
    bound = replace(model, answering=replace(model.answering, rows=joint.rows, temperature=1.0, scale=1.0))
    parts = [Part.of(bound, part.bottlenecks, part.truth) for part in (new, old) if part is not None]
    return JointBound(
        overall=proportion(np.concatenate([part.right for part in parts])),
        new=proportion(parts[0].right),
        base=proportion(parts[1].right) if old else None,
    )


def _asked(model: Model, test: Unseen) -> Asked:
    return Asked(
        new=test.new,
        new_columns=model.base_count + test.new.labels,
        base=None if test.base is None else test.base.bottlenecks[_still_known(model, test.base)],
        bystanders=test.bystanders,
        fitted_answers_as=model.fitted_answers_as,
        answering=model.answering,
    )


def _still_known(model: Model, images: Labelled) -> Flags:
    return np.asarray(model.fitted_answers_as[images.labels] != NEVER)


def _categories(model: Model, test: Unseen, new: Part, seen: Part, counts: Counts) -> Iterator[CategoryScore]:
    """Of the new ones. Precision is over all labelled test images, so an old image stolen by a category counts against it."""
    training, validation = counts.counts(Side.TRAINING), counts.counts(Side.VALIDATION)
    for category, name in enumerate(model.new_names):
        own = new.right[test.new.labels == category]
        given = seen.right[seen.answers.answer == model.truths[category]]
        yield CategoryScore(
            name=name,
            training_images=training[category],
            validation_images=validation[category],
            test_images=len(own),
            recall=proportion(own) if len(own) else None,
            precision=proportion(given) if len(given) else None,
        )


def _confusions(truth: Labels, answer: Labels, names: Sequence[str]) -> Iterator[Confusion]:
    for first, second, count in metrics.confused(truth, answer, PAIRS):
        yield Confusion(truth=names[first], answer=names[second], count=count)


def _misclassified(new: Part, names: Sequence[str]) -> Iterator[Miss]:
    wrong = np.flatnonzero(~new.right)
    for index in wrong[np.argsort(-new.answers.score[wrong], kind="stable")].tolist():
        answer, sureness = int(new.answers.answer[index]), float(new.answers.score[index])
        yield Miss(index=index, answer=names[answer], score=sureness)
