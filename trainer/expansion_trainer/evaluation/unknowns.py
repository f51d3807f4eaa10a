"""How well pictures of nothing the model knows are told, on test images: with new categories left out in turn, if there are several."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from expansion_contract.report import DetectorScore, Estimate, Outcomes, Threshold, UnknownReport
from expansion_trainer.evaluation.metrics import chunks
from expansion_trainer.evaluation.resampled import mean_auroc
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.detection import Detection, Turn
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.head.material import Labelled
from expansion_trainer.head.softmax import Array, Doubles, Labels
from expansion_trainer.head.unknown import KNOWN, UNKNOWN, UNSURE, Detector

LEFT_OUT = "test images of new categories that a head like this one had never seen"
PHOTOGRAPHS = "photographs without labels, which may well show something the model knows"
DRAWN = "pictures drawn by a program, which are easier to tell than photographs"


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """Test images, and what answers them."""

    new: Labelled
    new_columns: Labels  # (n,), fitted column of each new test image
    base: Array | None  # (m, D), test images of base categories that still answer
    bystanders: Evidence | None
    fitted_answers_as: Labels  # (F,)
    answering: Answering


def unknown_report(detection: Detection, asked: Asked) -> UnknownReport:
    detector = detection.detector
    auroc, of = _auroc(detection, asked)
    return UnknownReport(
        method=detector.method,
        coverage=detector.coverage,
        thresholds=list(_thresholds(detector)),
        tried=[
            DetectorScore(method=one.method, auroc=one.auroc, chosen=one.method == detector.method)
            for one in detection.tried
        ],
        left_out=detection.left_out,
        auroc=auroc,
        auroc_of=of,
        outcomes=list(_outcomes(detector, asked)),
    )


def _thresholds(detector: Detector) -> Iterator[Threshold]:
    """Without a base (mode Replace) there is none for it."""
    for group, name in enumerate(group_names(len(detector.levels))):
        if (detector.groups == group).any():
            level = detector.levels[group]
            yield Threshold(group=name, sure=level.sure, n=level.images, source=level.source)


def group_names(groups: int) -> list[str]:
    """The base, and every expansion; the last one is today's."""
    return ["base", *(f"expansion {group}" for group in range(1, groups - 1)), "new"][: max(groups, 1)]


def _auroc(detection: Detection, asked: Asked) -> tuple[Estimate | None, str]:
    """The pairs of every head that left some categories out, or what there is beside the test images."""
    found = mean_auroc([_pair(turn, detection, asked) for turn in detection.turns])
    if found is not None:
        return found, LEFT_OUT
    bystanders = asked.bystanders
    if bystanders is None or bystanders.labels is not None:
        return None, ""
    parts = [asked.new.bottlenecks] if asked.base is None else [asked.new.bottlenecks, asked.base]
    known, strange = (
        _scores(detection.detector, asked.answering, images)
        for images in (np.concatenate(parts), bystanders.bottlenecks)
    )
    return mean_auroc([(known, strange)]), DRAWN if bystanders.kind == "procedural" else PHOTOGRAPHS


def _pair(turn: Turn, detection: Detection, asked: Asked) -> tuple[Doubles, Doubles]:
    """An image is strange if no column that is left answers with its index."""
    own = asked.fitted_answers_as
    left_out = turn.left_out_columns
    remaining = own[np.setdiff1d(np.arange(len(own)), left_out)]
    strange = np.isin(asked.new_columns, left_out) & ~np.isin(own[asked.new_columns], remaining)
    known = np.isin(asked.new_columns, turn.kept_columns)
    images = [asked.new.bottlenecks[known]] + ([] if asked.base is None else [asked.base])
    return (
        _scores(turn.detector, turn.answering, np.concatenate(images)),
        _scores(turn.detector, turn.answering, asked.new.bottlenecks[strange]),
    )


def _scores(detector: Detector, answering: Answering, images: Array) -> Doubles:
    parts = [detector.scores(part, answering.logits(part)) for part in chunks(images)]
    return np.concatenate([np.zeros(0), *parts])


def _outcomes(detector: Detector, asked: Asked) -> Sequence[Outcomes]:
    groups = {"new": asked.new.bottlenecks}
    if asked.base is not None:
        groups = {"base": asked.base, **groups}
    if asked.bystanders is not None:
        groups[asked.bystanders.kind] = asked.bystanders.bottlenecks
    return [
        _counted(detector, asked.answering, name, images) for name, images in groups.items() if len(images)
    ]


def _counted(detector: Detector, answering: Answering, group: str, images: Array) -> Outcomes:
    outcomes = np.concatenate([detector.outcomes(part, answering.logits(part)) for part in chunks(images)])
    known, unsure, unknown = (int((outcomes == one).sum()) for one in (KNOWN, UNSURE, UNKNOWN))
    return Outcomes(group=group, known=known, unsure=unsure, unknown=unknown)
