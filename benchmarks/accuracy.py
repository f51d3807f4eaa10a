"""Grows real networks by real categories and measures what was learned and what was lost; `make bench-accuracy` runs it.

Bottlenecks are the product's own and are kept beside the output, so that a second run takes seconds.
"""

import argparse
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# The products of a fit are thin; beside other work a second thread of OpenBLAS waits more than it computes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from expansion_contract.dataset import Role, is_image
from expansion_contract.report import Metrics, Proportion
from expansion_contract.resource import Pretrained, Split, Weights
from expansion_development.pictures import digits
from expansion_storage.folder import FolderPrefix
from expansion_trainer.backbones import catalogue, weights
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks.cache import Cache
from expansion_trainer.bottlenecks.extract import extract, extract_arrays
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.dataset.split import Side, side_of
from expansion_trainer.evaluation import metrics
from expansion_trainer.evaluation.score import score
from expansion_trainer.head.evidence import PROCEDURAL_IMAGES, Evidence, procedural_images
from expansion_trainer.head.fit import BaseHead, FittedHead, Labelled, expand
from expansion_trainer.sides import picture_rows

FLOWERS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
FLOWER_SIDES = {Side.TRAINING: slice(0, 100), Side.VALIDATION: slice(100, 150), Side.TEST: slice(150, 250)}
FLOWER_IMAGES = 250
DIGITS_SPLIT = Split(validation_percent=10, test_percent=20)  # examples/digits
EVIDENCE_SPLIT = Split(validation_percent=10, test_percent=10)
UNLABELLED = 300
STEAL_BUDGET = 0.005
REPLAY, BASE_TEST, ELSEWHERE = "imagenet-one-per-category", "imagenet-val", "caltech101"
ELSEWHERE_EACH = 6
FLOWERS_ELSEWHERE = {"sunflower", "lotus", "water_lilly"}
"""Categories of ELSEWHERE that a new category may rightly answer."""
HEAD_HAS_SEEN = {"InceptionV3"}
"""The reconstructed weights' head was fitted on the very images that measure the base (it knows 98 % of them, and 57 % of others)."""
COLUMNS = ("base_before", "base_after", "base_drop", "new", "new_closed", "steals", "steals_elsewhere")

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Case:
    backbone: str
    new_set: str
    evidence: str


CASES = tuple(
    Case(backbone=backbone, new_set=new_set, evidence=evidence)
    for backbone, new_set in (
        ("MobileNetV2", "flowers5"),
        ("MobileNetV2", "digits"),
        ("EfficientNetLite0", "flowers5"),
        ("EfficientNetLite0", "digits"),
        ("InceptionV3", "flowers5"),
    )
    for evidence in ("replay", "unlabelled", "none")
)
WEIGHTS = {
    "MobileNetV2": "mobilenet_v2_imagenet.weights.h5",
    "InceptionV3": "inception_v3_imagenet_reconstructed.weights.h5",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Images of one folder, one for each content, by category and then in the order of their digests."""

    bottlenecks: Array  # (n, D)
    labels: NDArray[np.int64]  # (n,)
    digests: tuple[str, ...]

    def some(self, chosen: Sequence[int] | NDArray[np.int64]) -> "Pool":
        indices = np.asarray(chosen, dtype=np.int64)
        return Pool(
            bottlenecks=self.bottlenecks[indices],
            labels=self.labels[indices],
            digests=tuple(self.digests[index] for index in indices),
        )

    def on(self, side: Side, split: Split) -> "Pool":
        return self.some([i for i, digest in enumerate(self.digests) if side_of(digest, split) is side])

    @property
    def labelled(self) -> Labelled:
        return Labelled(bottlenecks=self.bottlenecks, labels=self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Everything the cases of one backbone share."""

    backbone: Backbone
    sets: dict[str, dict[Side, Pool]]
    replay: Pool
    base_test: Pool
    elsewhere: Pool  # photographs that no network here was fitted on; their labels mean nothing
    pictures: Array


@dataclass(frozen=True, kw_only=True)
class Bench:
    data: Path
    scratch: Path
    cache: Cache

    def material(self, name: str, sets: set[str]) -> Material:
        backbone = catalogue.load(self._pretrained(name), _copied, self.scratch)
        uids = [category.uid for category in backbone.categories]
        found: dict[str, dict[Side, Pool]] = {}
        if "flowers5" in sets:
            flowers = self._pool(self.data / "images/flowers", FLOWERS, backbone, most=FLOWER_IMAGES)
            found["flowers5"] = {side: _ranked(flowers, part) for side, part in FLOWER_SIDES.items()}
        if "digits" in sets:
            scans = self._pool(*self._digits(), backbone)
            found["digits"] = {side: scans.on(side, DIGITS_SPLIT) for side in Side}
        drawn = procedural_images(PROCEDURAL_IMAGES, backbone.input_size, 0)
        return Material(
            backbone=backbone,
            sets=found,
            replay=self._pool(self.data / "images" / REPLAY, uids, backbone),
            base_test=self._pool(self.data / "images" / BASE_TEST, uids, backbone),
            elsewhere=self._elsewhere(backbone),
            pictures=extract_arrays(
                drawn, PROCEDURAL_IMAGES, backbone, self.cache, _progress("drawn images")
            ),
        )

    def _elsewhere(self, backbone: Backbone) -> Pool:
        folder = self.data / "images" / ELSEWHERE
        names = sorted({path.name for path in folder.iterdir() if path.is_dir()} - FLOWERS_ELSEWHERE)
        return self._pool(folder, names, backbone, most=ELSEWHERE_EACH)

    def _pretrained(self, name: str) -> Pretrained:
        if name not in WEIGHTS:
            return Pretrained(architecture=name)
        path = (self.data / "weights" / WEIGHTS[name]).resolve()
        return Pretrained(
            architecture=name, weights=Weights(uri=f"file://{path}", sha256=weights.file_digest(path))
        )

    def _digits(self) -> tuple[Path, Sequence[str]]:
        folder = self.scratch / "digits"
        pictures, _, _ = digits()
        for picture in pictures:
            path = folder / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture.content)
        return folder, sorted({picture.name.partition("/")[0] for picture in pictures})

    def _pool(
        self, folder: Path, categories: Sequence[str], backbone: Backbone, most: int | None = None
    ) -> Pool:
        index = {name: label for label, name in enumerate(categories)}
        images = [image for image in _images(folder) if image.folder in index]
        if most is not None:
            images = _first_by_content(images, most)
        extracted = extract(images, backbone, self.cache, _progress(folder.name))
        first = {digest: row for row, digest in enumerate(extracted.digests) if extracted.ok[row]}
        labels = np.array([index[image.folder] for image in images], dtype=np.int64)
        order = sorted(first.values(), key=lambda row: (labels[row], extracted.digests[row]))
        everything = Pool(bottlenecks=extracted.bottlenecks, labels=labels, digests=extracted.digests)
        return everything.some(order)


def _copied(address: str, target: Path) -> None:
    target.write_bytes(Path(address.removeprefix("file://")).read_bytes())


def _images(folder: Path) -> Iterator[SourceImage]:
    place = FolderPrefix(folder)
    for entry in place.list():
        if is_image(entry.key):
            category = entry.key.partition("/")[0]
            yield SourceImage(
                role=Role.NEW, place=place, key=entry.key, size=entry.size, etag=entry.etag, folder=category
            )


def _first_by_content(images: Sequence[SourceImage], most: int) -> list[SourceImage]:
    """Of each category the images with the lowest digests, copies once."""
    unique = {hashlib.sha256(image.read()).hexdigest(): image for image in images}
    taken: Counter[str] = Counter()
    found = []
    for _, image in sorted(unique.items()):
        taken[image.folder] += 1
        if taken[image.folder] <= most:
            found.append(image)
    return found


def _ranked(pool: Pool, part: slice) -> Pool:
    """Of each category the images whose digests stand at these places."""
    return pool.some(
        np.concatenate([np.flatnonzero(pool.labels == label)[part] for label in np.unique(pool.labels)])
    )


def _progress(what: str) -> Any:
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        if done == total:
            print(f"  {what}: {total} images, {time.monotonic() - started:.0f} s", flush=True)

    return show


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    fitted: tuple[Evidence, ...]
    calibration: tuple[Evidence, ...]
    base_test: Pool


def given(case: Case, material: Material) -> Given:
    """Evidence divided as the product divides it; its own test side is not used, the base is measured on other images."""
    nothing = Given(fitted=(), calibration=(), base_test=material.base_test)
    found, pool = nothing, None
    if case.evidence == "replay":
        pool = material.replay
    elif case.evidence == "unlabelled":
        by_digest = np.argsort(np.array(material.base_test.digests))
        pool = material.base_test.some(by_digest[:UNLABELLED])
        found = replace(nothing, base_test=material.base_test.some(by_digest[UNLABELLED:]))
    sides = [_evidence(case, pool, material, side) for side in (Side.TRAINING, Side.VALIDATION)]
    return replace(found, fitted=sides[0], calibration=sides[1])


def _evidence(case: Case, pool: Pool | None, material: Material, side: Side) -> tuple[Evidence, ...]:
    rows = picture_rows(len(material.pictures), side)
    drawn = Evidence(kind="procedural", bottlenecks=material.pictures[rows])
    if pool is None:
        return (drawn,)
    part = pool.on(side, EVIDENCE_SPLIT)
    if case.evidence == "replay":
        return (Evidence(kind="replay", bottlenecks=part.bottlenecks, labels=part.labels), drawn)
    return (Evidence(kind="unlabelled", bottlenecks=part.bottlenecks), drawn)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    sides: dict[Side, Pool]

    def counts(self, side: Side) -> Sequence[int]:
        return [int(n) for n in np.bincount(self.sides[side].labels)]


def measured(case: Case, material: Material) -> dict[str, Any]:
    sides, evidence = material.sets[case.new_set], given(case, material)
    base = BaseHead(weights=material.backbone.head_weights, bias=material.backbone.head_bias)
    started = time.monotonic()
    head = expand(
        base,
        sides[Side.TRAINING].labelled,
        sides[Side.VALIDATION].labelled,
        evidence.fitted,
        evidence.calibration,
        STEAL_BUDGET,
        0,
    )
    seconds = time.monotonic() - started
    names = [*(c.name for c in material.backbone.categories), *map(str, np.unique(sides[Side.TEST].labels))]
    scores = score(
        head, base, sides[Side.TEST].labelled, evidence.base_test.labelled, None, names, Counts(sides=sides)
    )
    stolen = head.logits(material.elsewhere.bottlenecks).argmax(axis=1) >= head.base_count
    return row(case, scores.metrics, metrics.proportion(stolen), head, seconds)


def row(
    case: Case, measured: Metrics, elsewhere: Proportion, head: FittedHead, seconds: float
) -> dict[str, Any]:
    figures: dict[str, Any] = {name: getattr(measured, name, elsewhere) for name in COLUMNS}
    return {
        "backbone": case.backbone,
        "new_set": case.new_set,
        "evidence": case.evidence,
        **{name: figure.value for name, figure in figures.items()},
        "intervals": {name: [figure.low, figure.high] for name, figure in figures.items()},
        "n_base": figures["base_before"].n,
        "n_new": measured.new.n,
        "n_elsewhere": elsewhere.n,
        "head_has_seen_base_images": case.backbone in HEAD_HAS_SEEN,
        "calibration_error": measured.calibration_error,
        "l2": head.l2,
        "offset": head.offset,
        "temperature": head.temperature,
        "steal_rate_validation": head.steal_rate_validation,
        "fit_seconds": round(seconds, 1),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Per cent, with 95 % intervals. A star: the base's own head was fitted on the images that measure it."""
    head = [
        "backbone",
        "new set",
        "evidence",
        *(name.replace("_", " ") for name in COLUMNS),
        "n base",
        "n new",
    ]
    lines = [head, ["---"] * len(head)]
    for one in rows:
        cells = [_cell(one[name], *one["intervals"][name]) for name in COLUMNS]
        star = " *" if one["head_has_seen_base_images"] else ""
        counts = [str(one["n_base"]), str(one["n_new"])]
        lines.append([one["backbone"] + star, one["new_set"], one["evidence"], *cells, *counts])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and weights/")
    parser.add_argument(
        "--out", type=Path, required=True, help="the JSON file to write; the cache lies beside it"
    )
    parser.add_argument("--backbone", action="append", help="only this one; may be repeated")
    asked = parser.parse_args()
    cases = [case for case in CASES if not asked.backbone or case.backbone in asked.backbone]
    place = asked.out.parent / "cache"
    place.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as scratch:
        bench = Bench(data=asked.data, scratch=Path(scratch), cache=Cache(place=FolderPrefix(place)))
        for name in dict.fromkeys(case.backbone for case in cases):
            print(f"{name} ...", flush=True)
            own = [case for case in cases if case.backbone == name]
            material = bench.material(name, {case.new_set for case in own})
            rows += [measured(case, material) for case in own]
            asked.out.write_text(json.dumps(rows, indent=2) + "\n")
            print(table(rows[-len(own) :]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
