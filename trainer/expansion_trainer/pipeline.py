"""The stages of a run in their order: images in, a checked candidate and a report out. Everything it needs comes as an argument."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import tensorflow as tf

from expansion_contract import layout
from expansion_contract.report import (
    Category,
    Environment,
    Finding,
    HeadReport,
    Misclassified,
    RunReport,
)
from expansion_contract.resource import Mode
from expansion_contract.run import TrainingRun
from expansion_trainer.backbones import catalogue
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks.cache import Cache
from expansion_trainer.bottlenecks.extract import Extracted, extract, extract_arrays
from expansion_trainer.dataset import preflight
from expansion_trainer.dataset.scan import Scanned, SourceImage, scan
from expansion_trainer.dataset.split import Divided, Side, divide
from expansion_trainer.evaluation.score import Scores, score
from expansion_trainer.export import candidate, tensorboard
from expansion_trainer.export.check import Sample
from expansion_trainer.failure import EXPECTED, is_final, reason
from expansion_trainer.head.evidence import PROCEDURAL_IMAGES, procedural_image, procedural_images
from expansion_trainer.head.fit import BaseHead, FittedHead, expand, replace
from expansion_trainer.progress import Stage, Tracker
from expansion_trainer.report import page
from expansion_trainer.report.draft import Draft
from expansion_trainer.sides import Bottlenecks, Dealt, deal
from expansion_trainer.stores import Stores

PICTURES_SEED = 0
"""Procedural images are the same whatever the run's seed, so that every run finds their bottlenecks in the cache."""
CHECKED_IMAGES = 32
"""Test images on which the exported model is compared with the fitted head."""


def train(run: TrainingRun, stores: Stores, tracker: Tracker) -> RunReport:
    """The whole run. What ends it on purpose passes, and is written as a failed report unless another attempt may succeed."""
    draft = Draft(run, tracker)
    try:
        return _train(_Work(run=run, stores=stores, tracker=tracker, draft=draft))
    except EXPECTED as error:
        if is_final(error):
            failed = draft.finished("Failed", reason=reason(error), message=str(error))
            _write_report(failed, run, stores, {})
        raise


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What every stage may use."""

    run: TrainingRun
    stores: Stores
    tracker: Tracker
    draft: Draft


def _train(work: _Work) -> RunReport:
    run, enter = work.run, work.tracker.enter
    assert run.base is not None, "availability.refused stops published bases earlier"
    enter(Stage.SCAN, f"Listing {run.categories.images}")
    scanned = scan(run, work.stores.open)

    enter(Stage.BACKBONE, f"Loading {run.base.architecture}")
    backbone = catalogue.load(run.base, work.stores.fetch, work.stores.scratch)

    enter(Stage.BOTTLENECKS, f"{len(scanned.images)} images through {backbone.name}")
    extracted, bottlenecks = _extract(work, scanned, backbone)

    enter(Stage.PREFLIGHT, f"Dividing and checking {len(scanned.images)} images")
    divided = _divide(work, scanned, extracted, backbone)
    dealt = deal(divided, bottlenecks)
    _tell_what_the_base_knows(work, dealt, divided, backbone)

    enter(Stage.HEAD, f"Fitting {len(divided.categories)} categories on {len(dealt.training)} images")
    head = _fit(run, dealt, backbone)

    enter(Stage.EVALUATION, f"Measuring on {len(dealt.test)} test images")
    scores = _measure(run, head, dealt, divided, backbone)

    enter(Stage.EXPORT, "Writing, checking and uploading the model")
    _export(work, head, backbone, divided, _samples(scanned, divided, bottlenecks))

    enter(Stage.REPORT, "Writing the report")
    return _report(work, head, scores, [scanned.images[row] for row in dealt.test_images.tolist()])


def _extract(work: _Work, scanned: Scanned, backbone: Backbone) -> tuple[Extracted, Bottlenecks]:
    """Procedural images are always drawn in mode Expand: they help beside photographs and cost seconds."""
    n, m = len(scanned.images), PROCEDURAL_IMAGES if work.run.mode is Mode.EXPAND else 0
    cache = Cache(place=work.stores.cache)
    extracted = extract(scanned.images, backbone, cache, lambda done, _: work.tracker.step(done, n + m))
    drawn = procedural_images(m, backbone.input_size, PICTURES_SEED)
    pictures = extract_arrays(drawn, m, backbone, cache, lambda done, _: work.tracker.step(n + done, n + m))
    work.draft.note(
        backbone=backbone.name,
        backbone_digest=backbone.digest,
        environment=_environment(extracted.precision),
    )
    digests = np.array(extracted.digests)
    return extracted, Bottlenecks(images=extracted.bottlenecks, digests=digests, pictures=pictures)


def _divide(work: _Work, scanned: Scanned, extracted: Extracted, backbone: Backbone) -> Divided:
    run = work.run
    divided = divide(scanned.images, extracted.digests, extracted.ok, backbone.categories, run.split)
    checked = preflight.check(scanned, divided, extracted.why, run.mode)
    work.draft.note(
        dataset=preflight.dataset_report(scanned, divided, checked),
        findings=[*_missing_gpu(run), *checked.findings, *extracted.findings],
    )
    checked.refuse_errors()
    return divided


def _tell_what_the_base_knows(work: _Work, dealt: Dealt, divided: Divided, backbone: Backbone) -> None:
    if work.run.mode is Mode.EXPAND:
        answers = _base(backbone).logits(dealt.training.bottlenecks)
        known = preflight.known_to_base(
            answers, dealt.training.labels, divided.categories, backbone.categories
        )
        work.draft.add_findings(known)


def _base(backbone: Backbone) -> BaseHead:
    return BaseHead(weights=backbone.head_weights, bias=backbone.head_bias)


def _fit(run: TrainingRun, dealt: Dealt, backbone: Backbone) -> FittedHead:
    if run.mode is Mode.REPLACE:
        return replace(dealt.training, dealt.validation, run.training.seed)
    return expand(
        _base(backbone),
        dealt.training,
        dealt.validation,
        dealt.evidence,
        dealt.calibration,
        run.training.steal_budget_percent / 100,
        run.training.seed,
    )


def _measure(
    run: TrainingRun, head: FittedHead, dealt: Dealt, divided: Divided, backbone: Backbone
) -> Scores:
    return score(
        head,
        _base(backbone) if run.mode is Mode.EXPAND else None,
        dealt.test,
        dealt.base_test,
        dealt.bystanders,
        [category.name for category in _categories(run, backbone, divided)],
        divided,
    )


def _categories(run: TrainingRun, backbone: Backbone, divided: Divided) -> list[Category]:
    """In the order of the head's columns: the base's first, appended to and never moved."""
    base = list(backbone.categories) if run.mode is Mode.EXPAND else []
    new = (
        Category(index=len(base) + index, name=name, group="new")
        for index, name in enumerate(divided.categories)
    )
    return [*base, *new]


def _samples(scanned: Scanned, divided: Divided, bottlenecks: Bottlenecks) -> list[Sample]:
    """Test images as they lie in storage, from as many categories as there are; training images where nothing was held out."""
    part = divided.new[Side.TEST] if len(divided.new[Side.TEST]) else divided.new[Side.TRAINING]
    _, firsts = np.unique(part.labels, return_index=True)
    others = np.setdiff1d(np.arange(len(part)), firsts)
    rows = part.rows[np.concatenate([firsts, others])[:CHECKED_IMAGES]]
    return [
        Sample(image=scanned.images[row].read(), bottleneck=bottlenecks.images[row]) for row in rows.tolist()
    ]


def _export(
    work: _Work, head: FittedHead, backbone: Backbone, divided: Divided, samples: Sequence[Sample]
) -> None:
    folder = work.stores.scratch / layout.CANDIDATE
    categories = _categories(work.run, backbone, divided)
    drawn = procedural_image(0, backbone.input_size, PICTURES_SEED)
    candidate.write(folder, backbone, head, categories, samples, drawn)
    work.draft.note(
        categories=len(categories),
        new_categories=[category for category in categories if category.group == "new"],
        files=work.stores.upload_candidate(folder),
    )


def _report(work: _Work, head: FittedHead, scores: Scores, test_images: Sequence[SourceImage]) -> RunReport:
    missed = [(test_images[miss.index], miss) for miss in scores.misclassified]
    work.draft.note(
        head=_head_report(head),
        metrics=scores.metrics,
        confusions=list(scores.confusions),
        misclassified=[
            Misclassified(key=image.address, truth=image.folder, answer=miss.answer, score=miss.score)
            for image, miss in missed
        ],
    )
    _write_summaries(work.stores, scores, head)
    thumbnails = _thumbnails([image for image, _ in missed[: page.THUMBNAILS]])
    work.tracker.finish()
    report = work.draft.finished("Succeeded")
    _write_report(report, work.run, work.stores, thumbnails)
    return report


def _head_report(head: FittedHead) -> HeadReport:
    return HeadReport(
        solver=head.solver,
        l2=head.l2,
        offset=head.offset,
        temperature=head.temperature,
        evidence=list(head.evidence_kinds),
        steal_rate_validation=head.steal_rate_validation,
        base_rows_identical=head.base_count > 0,
    )


def _write_summaries(stores: Stores, scores: Scores, head: FittedHead) -> None:
    folder = stores.scratch / "tensorboard"
    tensorboard.write(folder, scores.metrics, ())
    stores.upload_run_folder(folder, "tensorboard")


def _thumbnails(images: Sequence[SourceImage]) -> dict[str, str]:
    drawn = ((image.address, page.thumbnail(image.read())) for image in images)
    return {address: picture for address, picture in drawn if picture is not None}


def _write_report(report: RunReport, run: TrainingRun, stores: Stores, thumbnails: Mapping[str, str]) -> None:
    """report.json last: whoever finds it finds the page, too."""
    stores.write_run_file(layout.REPORT_PAGE, page.page(report, run, thumbnails).encode())
    stores.write_run_file(layout.REPORT, report.to_json())


def _environment(precision: str) -> Environment:
    return Environment(
        trainer=version("classifier-expansion"),
        tensorflow=tf.__version__,
        device=_device(),
        precision=precision,
    )


def _device() -> str:
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return ", ".join(names) or "CPU"


def _missing_gpu(run: TrainingRun) -> Iterator[Finding]:
    if run.gpus and not tf.config.list_physical_devices("GPU"):
        yield Finding(
            severity="warning",
            reason="GpuNotVisible",
            message=f"spec.compute.gpusPerWorker is {run.gpus}, but TensorFlow sees no GPU: this run was computed on the CPU. Check the"
            " node's device plugin and driver, and that the trainer's image is the one for GPUs.",
        )
