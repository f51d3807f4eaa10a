"""The stages of a run in their order: images in, a checked candidate and a report out. Everything it needs comes as an argument."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from expansion_contract import layout
from expansion_contract.dataset import UNKNOWN
from expansion_contract.labels import Vocabulary, vocabulary
from expansion_contract.pack import Expansion
from expansion_contract.report import (
    Category,
    CurvePoint,
    Environment,
    EvidenceReport,
    Finding,
    HeadReport,
    Misclassified,
    NearCategory,
    Overlap,
    RunReport,
    TriedHead,
)
from expansion_contract.resource import Mode
from expansion_contract.run import TrainingRun
from expansion_trainer import published_base, starting_model
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks.cache import Cache
from expansion_trainer.bottlenecks.distortion import distortion
from expansion_trainer.bottlenecks.extract import Extracted, extract, extract_arrays, extract_copies
from expansion_trainer.columns import NEVER, Columns, columns
from expansion_trainer.dataset import near_duplicates, overlap, preflight
from expansion_trainer.dataset.scan import Scanned, SourceImage, scan
from expansion_trainer.dataset.split import Divided, Side, divide
from expansion_trainer.dataset.unlabelled import without_new_categories
from expansion_trainer.evaluation import nearest
from expansion_trainer.evaluation.joint import Joint, joint
from expansion_trainer.evaluation.score import Model, Scores, Unseen, scored
from expansion_trainer.export import candidate, tensorboard
from expansion_trainer.export.check import Sample
from expansion_trainer.export.saved_model import Exported
from expansion_trainer.failure import EXPECTED, is_final, reason
from expansion_trainer.growth import grown_head, shared_columns
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.detection import Detection, detection, given
from expansion_trainer.head.evidence import (
    PROCEDURAL_IMAGES,
    Evidence,
    procedural_image,
    procedural_images,
)
from expansion_trainer.head.fit import BaseHead, FittedHead, Labelled
from expansion_trainer.head.projection import narrowed
from expansion_trainer.head.refits import Fitting
from expansion_trainer.head.softmax import Rows
from expansion_trainer.head.solve import Options, replaced
from expansion_trainer.head.solved import Solved
from expansion_trainer.packs import files, pack, probes
from expansion_trainer.packs.pack import Answers, Pack
from expansion_trainer.progress import Stage, Tracker
from expansion_trainer.report import advice, page
from expansion_trainer.report.draft import Draft
from expansion_trainer.report.evidence import evidence_reports
from expansion_trainer.sides import Bottlenecks, Copies, Dealt, Known, deal
from expansion_trainer.starting_model import StartingModel
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
    enter(Stage.BACKBONE, f"Loading {_started_from(run)}")
    starting = starting_model.load(run, work.stores)

    enter(Stage.SCAN, f"Listing {run.categories.images}")
    scanned = scan(run, work.stores.open, _names(starting))

    enter(Stage.OVERLAP, f"Asking {starting.backbone.name} about a few images of each new category")
    overlaps = _overlaps(work, scanned, starting)

    enter(Stage.BOTTLENECKS, f"{len(scanned.images)} images through {starting.backbone.name}")
    extracted, bottlenecks = _extract(work, scanned, starting.backbone)

    enter(Stage.PREFLIGHT, f"Dividing and checking {len(scanned.images)} images")
    divided = _divide(work, scanned, extracted, starting)
    bottlenecks = _with_copies(work, scanned, divided, starting.backbone, bottlenecks)
    grown = _Grown(
        starting=starting,
        divided=divided,
        dealt=deal(divided, bottlenecks, Known.of(starting)),
        overlaps=overlaps,
        columns=_columns(work, starting, divided, overlaps),
        digests=bottlenecks.digests,
        frozen=starting.frozen if run.mode is Mode.EXPAND else 0,
    )

    work.draft.note(evidence=_evidence(grown.dealt))

    enter(Stage.HEAD, f"Fitting {len(divided.categories)} categories on {len(grown.dealt.training)} images")
    head = _fit(work, grown)
    told = _detection(run, grown, head)

    enter(Stage.EVALUATION, f"Measuring on {len(grown.dealt.test)} test images")
    scores = _measure(grown, head, told)

    enter(Stage.EXPORT, "Writing, checking and uploading the model")
    _export(work, grown, head, told, _samples(scanned, divided, bottlenecks))

    enter(Stage.REPORT, "Writing the report")
    _advise(work, grown, head, scores)
    reported = _head_report(head, run, grown)
    test_images = [scanned.images[row] for row in grown.dealt.images[Side.TEST].tolist()]
    return _report(work, reported, scores, test_images)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Grown:
    """What is known before a head is fitted."""

    starting: StartingModel
    divided: Divided
    dealt: Dealt
    overlaps: Sequence[Overlap]
    columns: Columns
    digests: NDArray[np.str_]  # of the scanned images' contents
    frozen: int  # columns of the pretrained network's that the model keeps


def _started_from(run: TrainingRun) -> str:
    return run.base.architecture if run.base else run.model.uri if run.model else "nothing"


def _names(starting: StartingModel) -> Vocabulary:
    """Of the categories that answer with their own name."""
    return vocabulary((c.uid, c.name) for c in starting.categories if _answers(c))


def _answers(category: Category) -> bool:
    return category.state == "active" and category.alias_of is None


def _overlaps(work: _Work, scanned: Scanned, starting: StartingModel) -> tuple[Overlap, ...]:
    """Before all images are computed. Raises CategoryOverlap."""
    if work.run.mode is Mode.REPLACE:
        return ()
    images = [scanned.images[index] for index in overlap.sample(scanned.images)]
    seen = extract(images, starting.backbone, Cache(place=work.stores.cache), lambda *_: None)
    names = sorted({image.folder for image in images})
    place = {name: index for index, name in enumerate(names)}
    labels = np.array([place[image.folder] for image in images], np.int64)[seen.ok]
    base, asked = starting.categories, work.run.categories
    answers = overlap.answered(starting.answering.logits, seen.bottlenecks[seen.ok], base)
    found = overlap.overlaps(answers, labels, names, base, asked)
    work.draft.note(overlaps=list(found))
    work.draft.add_findings(overlap.findings(answers, labels, names, base, asked))
    overlap.refuse(found)
    return found


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


def _divide(work: _Work, scanned: Scanned, extracted: Extracted, starting: StartingModel) -> Divided:
    run = work.run
    base = [category for category in starting.categories if _answers(category)]
    images, digests = scanned.images, extracted.digests
    near = near_duplicates.leaders(extracted.bottlenecks, digests, np.flatnonzero(extracted.ok).tolist())
    divided = divide(images, digests, extracted.ok, base, run.split, near)
    divided = without_new_categories(divided, extracted.bottlenecks, images, digests)
    checked = preflight.check(scanned, divided, extracted.why, run.mode)
    work.draft.note(dataset=preflight.dataset_report(scanned, divided, checked))
    work.draft.add_findings([*_missing_gpu(run), *checked.findings, *extracted.findings])
    checked.refuse_errors()
    return divided


def _with_copies(
    work: _Work, scanned: Scanned, divided: Divided, backbone: Backbone, bottlenecks: Bottlenecks
) -> Bottlenecks:
    """Of images on the training side only: nothing that chooses or measures is distorted."""
    asked, seed = work.run.distortions, work.run.training.seed
    if not asked.is_on:
        return bottlenecks
    parts = [sides[Side.TRAINING].rows for sides in (divided.new, divided.replay, divided.unlabelled)]
    rows = np.sort(np.concatenate(parts))
    n = len(rows) * asked.copies
    work.tracker.enter(Stage.PREFLIGHT, f"{n} distorted copies of {len(rows)} images through {backbone.name}")
    copies = extract_copies(
        [scanned.images[row] for row in rows.tolist()],
        bottlenecks.digests[rows].tolist(),
        lambda digest: [distortion(asked, seed, digest, number) for number in range(asked.copies)],
        backbone,
        Cache(place=work.stores.cache),
        work.tracker.step,
    )
    return replace(bottlenecks, copies=Copies(rows=rows, bottlenecks=copies))


def _columns(work: _Work, starting: StartingModel, divided: Divided, overlaps: Sequence[Overlap]) -> Columns:
    """Every category at its index, which it keeps from the last version of this output."""
    run = work.run
    previous = None if run.previous is None else published_base.categories(work.stores.open(run.previous))
    base = starting.categories if run.mode is Mode.EXPAND else ()
    return columns(base, divided.categories, run.given, previous, overlaps)


def _evidence(dealt: Dealt) -> list[EvidenceReport]:
    """What stood for the old categories: fitted on, chosen with, measured on."""
    measured = {"replay": len(dealt.base_test)} if dealt.base_test else {}
    if dealt.bystanders is not None and dealt.bystanders.kind != "pack":
        measured[dealt.bystanders.kind] = len(dealt.bystanders.bottlenecks)
    return evidence_reports(_sizes(dealt.evidence), _sizes(dealt.calibration), measured)


def _sizes(side: Sequence[Evidence]) -> dict[str, int]:
    return {evidence.kind: len(evidence.bottlenecks) for evidence in side}


def _fit(work: _Work, grown: _Grown) -> Solved:
    run, dealt = work.run, grown.dealt
    asked = run.training.head
    options = Options(
        solver=asked.solver,
        steal_budget=run.training.steal_budget_percent / 100,
        seed=run.training.seed,
        gradient_descent=asked.gradient_descent,
        random_projection=asked.random_projection.dimensions if asked.random_projection else None,
        watch=work.tracker.say,
    )
    if run.mode is Mode.REPLACE:
        return replaced(dealt.taught, dealt.validation, options)
    return grown_head(grown.starting, dealt, grown.overlaps, options)


def _detection(run: TrainingRun, grown: _Grown, head: Solved) -> Detection | None:
    """How pictures of nothing the model knows are told."""
    dealt, columns = grown.dealt, grown.columns
    fitting = Fitting(
        head=head,
        base=_base_columns(head) if run.mode is Mode.EXPAND else None,
        training=dealt.training,
        evidence=dealt.evidence,
        seed=run.training.seed,
        projected=head.projected,
    )
    background = grown.divided.categories.index(UNKNOWN) if run.categories.unknown_images else NEVER
    return detection(
        given(
            fitting,
            dealt.validation,
            dealt.calibration,
            run.training.unknown.coverage_percent / 100,
            Answering.of_head(head, columns),
            columns.fitted_answers_as,
            background=background,
        )
    )


def _base_columns(head: FittedHead) -> BaseHead:
    """With the rows of earlier expansions as they answer now."""
    return BaseHead(weights=head.weights[:, : head.base_count], bias=head.bias[: head.base_count])


def _measure(grown: _Grown, head: Solved, told: Detection | None) -> Scores:
    starting, dealt, divided = grown.starting, grown.dealt, grown.divided
    is_grown = head.base_count > 0
    before = starting.answering if is_grown else None
    names = [category.name for category in grown.columns.categories]
    model = Model.of(head, before, names, grown.columns, divided.categories)
    unseen = Unseen(
        new=dealt.test,
        base=dealt.base_test if is_grown else None,
        bystanders=dealt.bystanders if is_grown else None,
    )
    return scored(model, unseen, divided, told, _joint_bound(head, dealt))


def _joint_bound(head: Solved, dealt: Dealt) -> Joint | None:
    """Its rows see what the added ones see."""
    if head.base_count == 0:
        return None
    training, validation = (
        Labelled(bottlenecks=part.bottlenecks, labels=part.labels + head.base_count)
        for part in (dealt.training, dealt.validation)
    )
    if head.projected is None:
        return joint(head.base_count, training, validation, dealt.evidence, dealt.calibration)
    drawn = head.projected.projection
    sides = drawn.images(training), drawn.images(validation)
    bound = joint(head.base_count, *sides, drawn.evidence(dealt.evidence), drawn.evidence(dealt.calibration))
    return bound if bound.rows is None else Joint(rows=narrowed(bound.rows, drawn))


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
    work: _Work, grown: _Grown, head: Solved, told: Detection | None, samples: Sequence[Sample]
) -> None:
    folder, backbone = work.stores.scratch / layout.CANDIDATE, grown.starting.backbone
    categories = grown.columns.categories
    exported = Exported(
        backbone=backbone,
        head=head,
        categories=categories,
        columns=grown.columns,
        detector=told.detector if told else None,
        unknown_in_answers=work.run.training.unknown.in_answers,
        projected=head.projected,
    )
    drawn = procedural_image(0, backbone.input_size, PICTURES_SEED)
    candidate.written(folder, exported, samples, drawn)
    files.write(folder / layout.PACK, _pack(grown, exported, told))
    work.draft.note(
        categories=len(categories),
        new_categories=[category for category in categories if category.group == "new"],
        given=list(grown.columns.given),
        files=work.stores.upload_candidate(folder),
    )


def _pack(grown: _Grown, exported: Exported, told: Detection | None) -> Pack:
    """What the next expansion needs instead of today's images."""
    starting, head = grown.starting, exported.head
    after = Answers(
        categories=grown.columns.categories,
        head=Rows(weights=exported.weights, bias=exported.bias),
        source=grown.columns.source,
        temperature=head.temperature,
        expansion=Expansion(offset=head.offset, scale=head.scale),
    )
    training, validation = (
        grown.dealt.kept(side, head.base_count, grown.digests) for side in (Side.TRAINING, Side.VALIDATION)
    )
    before = starting.pack or probes.bare(starting.backbone)
    if head.base_count == 0:
        before = pack.emptied(before)
    return pack.grown(before, after, training, validation, told.detector.state() if told else None)


def _advise(work: _Work, grown: _Grown, head: Solved, scores: Scores) -> None:
    """What more evidence would buy, and which pictures first."""
    run, boundary = work.run, None
    if grown.frozen:
        near = _near(grown)
        work.draft.note(near_base=near)
        work.draft.add_findings(advice.findings(near))
        boundary = advice.Boundary(
            kinds=frozenset(head.evidence_kinds),
            budget=run.training.steal_budget_percent / 100,
            images=head.steal_images,
            base_categories=sum(map(_answers, grown.starting.categories)),
            near=near,
        )
    work.draft.note(advice=advice.advice(scores.metrics, boundary, run.split.test_percent))


def _near(grown: _Grown) -> list[NearCategory]:
    """Old categories that are merged with a new one, or replaced by it, need no boundary to it."""
    starting, dealt = grown.starting, grown.dealt
    near = nearest.nearest(starting.answering, dealt.training, grown.divided.categories)
    shared = shared_columns(grown.overlaps)
    others = {index: names for index, names in near.items() if index not in shared}
    images = dealt.replayed(len(starting.categories))
    if starting.pack is not None:
        images += starting.pack.core.counts(len(images))
    return nearest.near_categories(others, starting.categories, images)


def _report(work: _Work, head: HeadReport, scores: Scores, test_images: Sequence[SourceImage]) -> RunReport:
    missed = [(test_images[miss.index], miss) for miss in scores.misclassified]
    work.draft.note(
        head=head,
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


def _head_report(head: Solved, run: TrainingRun, grown: _Grown) -> HeadReport:
    frozen = grown.frozen
    return HeadReport(
        solver=head.solver,
        l2=head.l2,
        offset=head.offset,
        temperature=head.temperature,
        scale=head.scale,
        evidence=list(head.evidence_kinds),
        steal_rate_validation=head.steal_rate_validation,
        steal_images=head.steal_images,
        chosen_on=head.chosen_on,
        base_rows_identical=frozen > 0,
        steal_budget=run.training.steal_budget_percent / 100 if frozen else None,
        random_projection=head.projected.projection.dimensions if head.projected else None,
        distorted_copies=grown.dealt.copies,
        tried=[
            TriedHead(solver=one.solver, accuracy=one.score, chosen=one.solver == head.solver)
            for one in (head.choice.contenders if head.choice else ())
        ],
        curve=[
            CurvePoint(
                step=point.step,
                training_loss=point.cross_entropy,
                training_accuracy=point.training_accuracy,
                validation_accuracy=point.validation_accuracy,
            )
            for point in head.curve
        ],
    )


def _write_summaries(stores: Stores, scores: Scores, head: HeadReport) -> None:
    folder = stores.scratch / "tensorboard"
    tensorboard.write(folder, scores.metrics, head.curve)
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
