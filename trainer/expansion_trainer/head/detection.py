"""Makes the detector of unknown pictures for a fitted head: collects images it was not fitted on, and leaves new categories out in turn.

A category that was left out is the nearest to an unknown picture that there is: of the same domain, and certainly not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from expansion_trainer.columns import NEVER
from expansion_trainer.head import refits, statistics, unknown
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.fit import FittedHead
from expansion_trainer.head.material import Labelled
from expansion_trainer.head.refits import Fitting, Without
from expansion_trainer.head.softmax import Array, Flags, Labels
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.head.unknown import Detector, Known, Space, Trial, Tried

MOST_IMAGES = 4000
"""Of a kind, whose levels and areas are asked for."""
ENOUGH = 5
"""Images of a category, in the median, from which on distances to its mean are worth trying."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    fitting: Fitting
    answering: Answering
    fitted_answers_as: Labels  # (F,) the index each fitted column answers with, or NEVER
    groups: Labels  # (C,) of each index: 0 is the base, expansions count from 1
    validation: Labelled
    calibration: Sequence[Evidence]  # not fitted on; of those with labels the base's levels come
    coverage: float
    statistics: Statistics | None = (
        None  # of the fitted columns; None: of the new categories alone, or none at all
    )
    background: int = NEVER  # the new category, if any, that stands for everything else

    @property
    def drawn(self) -> Labelled:
        """Pictures that show nothing: they can say what is strange, and only that."""
        return self._of_kind("procedural", self.calibration)

    @property
    def photographs(self) -> Labelled:
        """Of whatever there is: they can say what is usual. Base columns, which alone know most of them, are fitted on none."""
        return self._of_kind("unlabelled", [*self.calibration, *self.fitting.evidence])

    def _of_kind(self, kind: str, evidence: Sequence[Evidence]) -> Labelled:
        parts = [e.bottlenecks for e in evidence if e.kind == kind]
        bottlenecks = np.concatenate([self.validation.bottlenecks[:0], *parts])
        return Labelled(bottlenecks=bottlenecks, labels=np.full(len(bottlenecks), NEVER))


@dataclass(frozen=True, kw_only=True, eq=False)
class Turn:
    """A head and a detector that have never seen some of the new categories."""

    without: Without
    answering: Answering
    detector: Detector
    added_from: int  # the fitted column of the first added category

    @property
    def kept_columns(self) -> Labels:
        return self.added_from + self.without.kept

    @property
    def left_out_columns(self) -> Labels:
        return self.added_from + self.without.left_out


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    detector: Detector
    tried: tuple[Tried, ...]
    left_out: int  # images of left-out categories by which the method was chosen
    turns: tuple[Turn, ...]


def detection(given: Given) -> Detection | None:
    """None if there is neither a held-out image nor a drawn one, so that nobody can say how the known or the unknown looks."""
    images = _held_out(given)
    if len(images.truth) == 0 and len(given.drawn) < unknown.FEW:
        return None
    left_out = [(without, _trial(given, without)) for without in refits.turns(given.fitting)]
    left_out = [(without, trial) for without, trial in left_out if _can_tell(trial)]
    found, tried = unknown.detector(
        images,
        _known(given.answering, given.drawn),
        [trial for _, trial in left_out],
        given.answering.answers_as,
        given.groups,
        _space(given, None),
        given.coverage,
    )
    if given.background != NEVER:
        index = given.fitted_answers_as[given.fitting.head.base_count + given.background]
        found = replace(found, background=int(index))
    return Detection(
        detector=found,
        tried=tried,
        left_out=sum(len(trial.strangers.truth) for _, trial in left_out),
        turns=tuple(_turn(given, found, without, trial) for without, trial in left_out),
    )


def _can_tell(trial: Trial) -> bool:
    return len(trial.known.truth) > 0 and len(trial.strangers.truth) > 0


def _held_out(given: Given) -> Known:
    """Validation images, calibration evidence whose category is known, and, if the first are few, training images fold by fold."""
    answering = given.answering
    images = _joined([_known(answering, part) for part in _aside(given, [given.validation])])
    if len(given.validation) < unknown.FEW:
        training, logits = refits.crossed(given.fitting)
        (known,) = _of_new(given, [training])
        images = _joined([images, _asked(known, answering.placed(logits))])
    return _where(images, images.truth != NEVER)


def _aside(given: Given, new: Sequence[Labelled]) -> list[Labelled]:
    """Labelled by index."""
    return [*_of_new(given, new), *_of_base(given)]


def _of_new(given: Given, parts: Sequence[Labelled]) -> list[Labelled]:
    """Images of the background are no images of anything known."""
    index = given.fitted_answers_as[given.fitting.head.base_count :].copy()
    if given.background != NEVER:
        index[given.background] = NEVER
    return [Labelled(bottlenecks=part.bottlenecks, labels=index[part.labels]) for part in parts]


def _of_base(given: Given) -> list[Labelled]:
    return [
        Labelled(bottlenecks=evidence.bottlenecks, labels=given.fitted_answers_as[evidence.labels])
        for evidence in given.calibration
        if evidence.labels is not None and len(evidence.labels)
    ]


def _known(answering: Answering, images: Labelled) -> Known:
    some = _some(images)
    return _asked(some, answering.logits(some.bottlenecks))


def _some(images: Labelled) -> Labelled:
    """No more than tell: all logits of many more would fill the memory."""
    rows = np.sort(np.random.default_rng(0).permutation(len(images.labels))[:MOST_IMAGES])
    return Labelled(bottlenecks=images.bottlenecks[rows], labels=images.labels[rows])


def _asked(images: Labelled, logits: Array) -> Known:
    return Known(bottlenecks=images.bottlenecks, logits=logits, truth=images.labels)


def _where(images: Known, chosen: Flags) -> Known:
    return Known(
        bottlenecks=images.bottlenecks[chosen], logits=images.logits[chosen], truth=images.truth[chosen]
    )


def _joined(parts: Sequence[Known]) -> Known:
    return Known(
        bottlenecks=np.concatenate([part.bottlenecks for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
    )


def _trial(given: Given, without: Without) -> Trial:
    """Known: held-out images of the kept categories and of the base. Strange: validation and training images of the others."""
    answering = without_them(given, without)
    kept = np.isin(given.validation.labels, without.kept)
    validation = Labelled(
        bottlenecks=given.validation.bottlenecks[kept], labels=given.validation.labels[kept]
    )
    known = _joined([_known(answering, part) for part in _aside(given, [validation, without.aside])])
    strange = strangers(given, without, [given.validation, given.fitting.training])
    return Trial(
        known=_where(known, known.truth != NEVER),
        strangers=_known(answering, strange),
        photographs=_known(answering, given.photographs),
        space=_space(given, without),
    )


def without_them(given: Given, without: Without) -> Answering:
    return replace(given.answering, rows=without.rows)


def strangers(given: Given, without: Without, sides: Sequence[Labelled]) -> Labelled:
    """Images of the left-out categories, but for those that another column knows under the same name."""
    own, base_count = given.fitted_answers_as, given.fitting.head.base_count
    left = np.setdiff1d(np.arange(len(own)), base_count + without.left_out)
    index = own[base_count:]
    lost = [category for category in without.left_out.tolist() if index[category] not in own[left]]
    parts = [(side, np.isin(side.labels, lost)) for side in sides]
    return Labelled(
        bottlenecks=np.concatenate([side.bottlenecks[rows] for side, rows in parts]),
        labels=np.concatenate([index[side.labels[rows]] for side, rows in parts]),
    )


def _space(given: Given, without: Without | None) -> Space | None:
    """Where distances to the means of all that is known can be taken; None if too little is known of the base's."""
    head, own = given.fitting.head, given.fitted_answers_as
    known = given.statistics or _of_training(given)
    gone = np.flatnonzero(own == NEVER)
    if without is not None:
        gone = np.union1d(
            gone, np.setdiff1d(np.arange(head.base_count, len(own)), head.base_count + without.kept)
        )
    left = statistics.removed(known, gone.tolist())
    answering = np.setdiff1d(np.arange(len(own)), gone)
    if len(answering) == 0 or np.median(left.counts[answering]) < ENOUGH:
        return None
    return unknown.space(left)


def _of_training(given: Given) -> Statistics:
    """Where nothing is known of the base: in mode Replace that is all there is."""
    fitting = given.fitting
    labels = fitting.training.labels + fitting.head.base_count
    return statistics.of(fitting.training.bottlenecks, labels, len(fitting.head.bias))


def _turn(given: Given, found: Detector, without: Without, trial: Trial) -> Turn:
    """The same method, with levels that the left-out categories had no part in."""
    used = trial.space if found.method == "RelativeMahalanobis" else None
    answering = without_them(given, without)
    seen, drawn = (
        unknown.held_out(found.method, part, found.answers_as, found.groups, used)
        for part in (trial.known, _known(answering, given.drawn))
    )
    levels = unknown.levels(seen, drawn.numbers, len(found.levels), found.coverage)
    return Turn(
        without=without,
        answering=answering,
        detector=replace(found, levels=levels, space=used),
        added_from=given.fitting.head.base_count,
    )


def given(
    fitting: Fitting,
    validation: Labelled,
    calibration: Sequence[Evidence],
    coverage: float,
    answering: Answering | None = None,
    fitted_answers_as: Labels | None = None,
    groups: Labels | None = None,
    statistics: Statistics | None = None,
    background: int = NEVER,
) -> Given:
    """What is not given is as in a model grown for the first time, from which nothing was retired or merged."""
    head: FittedHead = fitting.head
    model = answering or Answering.of_head(head)
    is_base = (model.source != NEVER) & (model.source < head.base_count)
    return Given(
        fitting=fitting,
        answering=model,
        fitted_answers_as=np.arange(len(head.bias)) if fitted_answers_as is None else fitted_answers_as,
        groups=(~is_base).astype(np.int64) if groups is None else groups,
        validation=validation,
        calibration=calibration,
        coverage=coverage,
        statistics=statistics,
        background=background,
    )
