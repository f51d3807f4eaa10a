"""What the trainer answers: progress while it works, a report when it ends. Lenient: releases may differ."""

from typing import Literal

from expansion_contract.intervals import newcombe, wilson
from expansion_contract.schema import Lenient, Strict

FORMAT_VERSION: Literal[1] = 1


class Progress(Lenient):
    """Rewritten in storage every few seconds."""

    run_id: str
    stage: str
    percent: int
    message: str = ""
    images_per_second: float | None = None
    eta_seconds: float | None = None
    updated_at: str = ""


class Proportion(Lenient):
    """hits of n, with its 95 % Wilson interval."""

    hits: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, n: int) -> "Proportion":
        low, high = wilson(hits, n)
        return cls(hits=hits, n=n, value=hits / n if n else 0.0, low=low, high=high)


class Estimate(Lenient):
    """A figure that is no share of images, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """Images it is of."""


class Paired(Lenient):
    """The same images, answered before and after."""

    before: int
    """Right before."""
    after: int
    both: int
    """Right both times."""
    n: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Of the share that was lost: before minus after."""
        return newcombe(self.before, self.after, self.both, self.n, confidence)


class BaseDrop(Lenient):
    """How much accuracy the base categories lost: correct before minus correct after, over n images of base categories.

    `measured` False: no labelled base images are left to measure with. `lost` then counts steals among pictures of the `source`,
    or, of a pack, answers lost among bottlenecks that have helped to set the boundary.
    """

    measured: bool
    source: Literal["replay", "pack", "unlabelled", "procedural"]
    lost: int
    n: int
    value: float
    low: float
    high: float
    paired: Paired | None = None
    """None: there is no answer before to compare with, only a steal or none."""


class Category(Lenient):
    index: int
    name: str
    uid: str = ""
    """WordNet id, where there is one."""
    group: Literal["base", "new"]
    """`base`: the model that was grown had it."""
    state: Literal["active", "retired", "replaced"] = "active"
    """A retired or replaced category keeps its index and never answers."""
    alias_of: int | None = None
    """Answers of this index count for that one and carry its name."""


class Overlap(Lenient):
    """A new category that the base already knows."""

    category: str
    known: str
    """The base's category."""
    known_index: int
    share: Proportion
    """Images of the new category, of a sample, that the base answers with it."""
    same_name: bool
    """The names agree, too, or are synonyms."""
    action: Literal["Refuse", "KeepBoth", "Merge", "Replace"]


class NearCategory(Lenient):
    """An old category among the base's first answers to what a new one looks like on average."""

    index: int
    name: str
    uid: str = ""
    near: list[str]
    """The new categories, some of many."""
    images: int
    """Pictures of it that the run had, as images or as bottlenecks of a pack. The first one says most."""


class EvidenceReport(Lenient):
    """Something that stood for the old categories."""

    kind: str
    """replay, pack, unlabelled, procedural"""
    training: int
    calibration: int
    test: int = 0
    tells: str
    """What it can say."""
    cannot_tell: str


class CategoryScore(Lenient):
    name: str
    training_images: int
    validation_images: int
    test_images: int
    recall: Proportion | None = None
    """None: no test image landed on the test side."""
    precision: Proportion | None = None


class Confusion(Lenient):
    truth: str
    answer: str
    count: int


class CalibrationError(Lenient):
    """Mean distance between score and share of right answers, over bins of equally many images."""

    value: float
    floor: float
    """What scores that are exactly right would show on as many images: the error of so few images, not of the model."""
    n: int


class ScoreBin(Lenient):
    """Images of about the same score."""

    score: float
    right: float
    n: int


class Calibration(Lenient):
    """What a score is worth. A group without labelled test images is None."""

    overall: CalibrationError
    base: CalibrationError | None = None
    new: CalibrationError | None = None
    bins: list[ScoreBin] = []
    """Of all labelled test images, from the lowest score to the highest."""


class JointBound(Lenient):
    """What these bottlenecks allow: every row, the base's too, fitted anew on all labelled images together, without the test's."""

    overall: Proportion | None = None
    base: Proportion | None = None
    new: Proportion | None = None
    why_not: str = ""
    """Why it was not computed."""


class Threshold(Lenient):
    """What held-out images of a group say. `known_score` is the share of them that looks as strange; below 1 - coverage: unknown."""

    group: str
    """base, or new for each expansion's categories"""
    sure: float
    """A best score below: unsure."""
    n: int
    """Images that set it."""
    source: Literal["own", "pooled", "drawn"] = "own"
    """Held-out images of the group; of all groups, where it has too few; or, where it has none, pictures drawn by a program."""


class Outcomes(Lenient):
    """What is said of the test images of one group."""

    group: str
    """base, new, or what kind of pictures that show nothing the model knows"""
    known: int
    unsure: int
    unknown: int


class DetectorScore(Lenient):
    """A way to tell the known from the unknown, and how well it did on new categories that were left out in turn."""

    method: str
    auroc: float
    chosen: bool = False


class UnknownReport(Lenient):
    """How pictures of nothing the model knows are told."""

    method: str
    coverage: float
    """Share of held-out images of known categories that the thresholds let through."""
    thresholds: list[Threshold]
    tried: list[DetectorScore] = []
    left_out: int = 0
    """Images of left-out new categories on which the methods were compared."""
    auroc: Estimate | None = None
    """On test images: known ones against unknown ones; 0.5 is guessing."""
    auroc_of: str = ""
    """Which images were the unknown ones."""
    outcomes: list[Outcomes] = []
    why_not: str = ""
    """Why there is no detector."""


class Misclassified(Lenient):
    key: str
    truth: str
    answer: str
    score: float


class Finding(Lenient):
    """Something its owner should know. Errors end a run; warnings and notes do not."""

    severity: Literal["error", "warning", "note"]
    reason: str
    message: str
    category: str | None = None


class Quarantined(Lenient):
    """An image that could not be read, and why."""

    key: str
    why: str


class DatasetReport(Lenient):
    digest: str
    images: int
    new_categories: int
    training_images: int
    validation_images: int
    test_images: int
    replay_images: int = 0
    unlabelled_images: int = 0
    quarantined: list[Quarantined] = []
    duplicates: int = 0


class TriedHead(Lenient):
    """A head that was fitted and compared, at the same steal rate as the others."""

    solver: str
    l2: float | None = None
    accuracy: float
    """Of held-out new images, against all categories."""
    chosen: bool = False


class CurvePoint(Lenient):
    """Where a fit in steps stood."""

    step: int
    training_loss: float
    training_accuracy: float
    validation_accuracy: float | None = None


class HeadReport(Lenient):
    solver: str
    l2: float
    offset: float
    temperature: float
    scale: float = 1.0
    """Of how far a new category that answers is ahead of the best of the pretrained network's: above 1 such answers are surer."""
    evidence: list[str]
    """What stood for the old categories: replay, pack, unlabelled, procedural."""
    steal_rate_validation: float | None = None
    steal_images: int = 0
    """n of that rate: a quantile of few photographs is not the true rate."""
    steal_budget: float | None = None
    chosen_on: int = 0
    """Held-out new images on which L2, offset and scale were chosen."""
    base_rows_identical: bool
    random_projection: int | None = None
    """Random directions that new rows see beside the bottleneck."""
    distorted_copies: int = 0
    """Of images on the training side, that Softmax and GradientDescent were fitted on beside these."""
    tried: list[TriedHead] = []
    curve: list[CurvePoint] = []


class Metrics(Lenient):
    """All on test images, all logits. `base_*` None where no labelled base images exist.

    `base` is everything that the starting model had. An alias counts for its target; images of a replaced category are only
    in `replaced`.
    """

    overall: Proportion
    overall_top5: Proportion | None = None
    macro_recall: Estimate | None = None
    """Every tested category counts alike, base and new."""
    new: Proportion
    new_closed: Proportion
    """New categories among themselves: the bound of `new`."""
    new_top5: Proportion
    new_macro_recall: Estimate | None = None
    base_before: Proportion | None = None
    base_after: Proportion | None = None
    base_top5_before: Proportion | None = None
    base_top5_after: Proportion | None = None
    base_drop: BaseDrop | None = None
    """None in mode Replace: there is no base."""
    steals: Proportion | None = None
    """Base or unlabelled images answered with a new category."""
    steal_pairs: list[Confusion] = []
    """Where the truth is not known, it is the base's answer before."""
    misses: Proportion | None = None
    """New images answered with a base category."""
    miss_pairs: list[Confusion] = []
    replaced: Proportion | None = None
    """Images of base categories that a new one replaced, answered with that one."""
    joint: JointBound | None = None
    calibration_error: float | None = None
    """Of `calibration`, overall."""
    calibration: Calibration | None = None
    unknown: UnknownReport | None = None
    categories: list[CategoryScore]


class File(Strict):
    path: str
    """Relative to the candidate's or the version's folder."""
    size: int
    sha256: str


class Environment(Lenient):
    trainer: str
    tensorflow: str
    device: str
    precision: str


class RunReport(Lenient):
    """`report.json`: the contract. `report.html` and the dashboards are drawn from it."""

    format_version: Literal[1] = FORMAT_VERSION
    run_id: str
    outcome: Literal["Succeeded", "Failed"]
    reason: str = ""
    """Of a failure: one word, see exit_codes.REASONS."""
    message: str = ""
    """Of a failure: what happened and what to do."""
    started_at: str
    finished_at: str
    seconds: dict[str, float] = {}
    """Wall seconds of each stage."""
    environment: Environment | None = None
    backbone: str = ""
    backbone_digest: str = ""
    findings: list[Finding] = []
    dataset: DatasetReport | None = None
    head: HeadReport | None = None
    evidence: list[EvidenceReport] = []
    advice: list[str] = []
    """What more evidence would buy, a sentence each. Figures in it follow from this run's own."""
    near_base: list[NearCategory] = []
    """Old categories whose pictures would say most about where the new ones may end, the nearest first."""
    overlaps: list[Overlap] = []
    metrics: Metrics | None = None
    confusions: list[Confusion] = []
    misclassified: list[Misclassified] = []
    categories: int = 0
    """Base and new; their names stand in the candidate's assets.extra/categories.json."""
    new_categories: list[Category] = []
    given: list[str] = []
    """New categories that ever got an index at this output, retired ones too, in the order of their indices."""
    files: list[File] = []
    """Of the candidate, complete: what is published is exactly this."""
