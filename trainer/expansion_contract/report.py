"""What the trainer answers: progress while it works, a report when it ends. Lenient: releases may differ."""

from typing import Literal

from expansion_contract.intervals import wilson
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


class BaseDrop(Lenient):
    """How much accuracy the base categories lost: correct before minus correct after, over n images of base categories.

    `measured` False: no labelled base images exist, `lost` counts steals among pictures of the `source` instead.
    """

    measured: bool
    source: Literal["replay", "unlabelled", "procedural"]
    lost: int
    n: int
    value: float
    low: float
    high: float


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


class HeadReport(Lenient):
    solver: str
    l2: float
    offset: float
    temperature: float
    evidence: list[str]
    """What stood for the old categories: replay, pack, unlabelled, procedural."""
    steal_rate_validation: float | None = None
    base_rows_identical: bool


class Metrics(Lenient):
    """All on test images, all logits. `base_*` None where no labelled base images exist."""

    overall: Proportion
    new: Proportion
    new_closed: Proportion
    """New categories among themselves: the bound of `new`."""
    new_top5: Proportion
    base_before: Proportion | None = None
    base_after: Proportion | None = None
    base_drop: BaseDrop | None = None
    """None in mode Replace: there is no base."""
    steals: Proportion | None = None
    """Base or unlabelled images answered with a new category."""
    calibration_error: float | None = None
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
    """What more evidence would buy, a sentence each."""
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
