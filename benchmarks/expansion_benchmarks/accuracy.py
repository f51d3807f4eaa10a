"""Grows real networks by real categories and measures what was learned and what was lost; `make bench-accuracy` runs it."""

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# The products of a fit are thin; beside other work a second thread of OpenBLAS waits more than it computes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from expansion_benchmarks import cases, sets, tables
from expansion_benchmarks.cases import EVIDENCE, Old, grown
from expansion_benchmarks.features import Features, digest_of, keep_head
from expansion_benchmarks.figures import Measured, figures, together
from expansion_benchmarks.sets import Source
from expansion_benchmarks.strangers import told
from expansion_benchmarks.targets import calibrated, verdict
from expansion_contract.resource import Solver
from expansion_trainer.dataset.split import Side
from expansion_trainer.head import fit
from expansion_trainer.head.solve import Options

NETWORKS = ("MobileNetV2", "EfficientNetLite0")
EXTRA = (
    ("InceptionV3", "flowers5", "replay"),
    ("InceptionV3", "flowers5", "unlabelled"),
    ("InceptionV3", "flowers5", "none"),
)
HEAD_HAS_SEEN = {"InceptionV3"}
"""The reconstructed weights' head was fitted on the very images that measure the base (it knows 98 % of them, and 57 % of others)."""
STRANGERS = ("replay", "none")
"""Evidence with which a row also measures how pictures of unknown things are told; it takes four more fits."""
SOLVERS = (
    *(
        f"head/{name}.py"
        for name in ("answering", "calibration", "discriminant", "evidence", "fit", "material", "witnesses")
    ),
    *(f"head/{name}.py" for name in ("softmax", "solve", "solved", "statistics", "comparison")),
    "packs/core.py",
)
"""Sources of the trainer on which a row depends."""
SETS = ("flowers5", "digits", "caltech")


@dataclass(frozen=True, kw_only=True)
class Asked:
    data: Path
    place: Path
    heads: Path
    scratch: Path
    networks: tuple[str, ...]
    evidence: tuple[str, ...]
    sources: tuple[Source, ...]
    options: Options

    @property
    def made_by(self) -> str:
        """Of what decides a row beside the images: an edit there makes it stale."""
        return digest_of(SOLVERS, str(self.options))

    def features(self, network: str) -> Features:
        return Features(network=network, data=self.data, place=self.place, scratch=self.scratch)


Kept = Mapping[tuple[str, str, str], dict[str, Any]]
"""Rows that an earlier run measured, by network, new set and evidence."""


def rows(asked: Asked, kept: Kept) -> Iterator[dict[str, Any]]:
    for network in asked.networks:
        features = asked.features(network)
        old = Old(features=features, data=asked.data)
        for source in asked.sources:
            missing = [
                evidence for evidence in asked.evidence if _is_missing(asked, kept, network, source, evidence)
            ]
            if missing:
                yield from _rows_of(asked, old, source, missing)


def _is_missing(asked: Asked, kept: Kept, network: str, source: Source, evidence: str) -> bool:
    if network in HEAD_HAS_SEEN and (network, source.name, evidence) not in EXTRA:
        return False
    found = kept.get((network, source.name, evidence))
    return found is None or found.get("made_by") != asked.made_by or found.get("deals") != source.turns


def _rows_of(asked: Asked, old: Old, source: Source, missing: Sequence[str]) -> Iterator[dict[str, Any]]:
    features = old.features
    deals = [sets.new_set(source, features, turn) for turn in range(source.turns)]
    elsewhere = None if source.folder.name == sets.ELSEWHERE else sets.elsewhere(asked.data, features)
    alone = _alone(deals)
    for evidence in missing:
        heads = [
            Measured(grown=grown(evidence, deal, old, asked.options), new=deal, old=old) for deal in deals
        ]
        keep_head(asked.heads / f"{features.network}-{source.name}-{evidence}.npz", heads[0].grown.head)
        row: dict[str, Any] = {"backbone": features.network, "new_set": source.name, "evidence": evidence}
        row |= together([figures(head, elsewhere) for head in heads])
        row |= {"alone": alone, "categories": len(deals[0].categories), "left_out": len(deals[0].left_out)}
        row |= {"head_has_seen_base_images": features.network in HEAD_HAS_SEEN, "deals": len(deals)}
        row |= {"unknown": told(heads[0]) if evidence in STRANGERS else None, "made_by": asked.made_by}
        row |= {"verdict": verdict(row), "calibrated": calibrated(row)}
        print(tables.line(row), flush=True)
        yield row


def _alone(deals: Sequence[sets.NewSet]) -> float:
    """Accuracy of a head of the new categories only, fitted on the same images: what there is to be learned."""
    right = total = 0
    for deal in deals:
        head = fit.replace(deal.sides[Side.TRAINING].labelled, deal.sides[Side.VALIDATION].labelled, 0)
        test = deal.sides[Side.TEST]
        right += int((head.logits(test.bottlenecks).argmax(axis=1) == test.labels).sum())
        total += len(test)
    return right / total


def plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} has no JSON")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("--data", type=Path, required=True, help="folder with images/ and weights/")
    found.add_argument("--out", type=Path, required=True, help="folder for accuracy.json and the cache")
    found.add_argument("--backbone", action="append", help="only this one; may be repeated")
    found.add_argument("--set", action="append", choices=SETS, help="only this one; may be repeated")
    found.add_argument("--evidence", action="append", choices=EVIDENCE, help="only this one; may be repeated")
    found.add_argument(
        "--new-set",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="also a set of yours, one folder for each category; categories that the base already answers are left out",
    )
    found.add_argument("--again", action="store_true", help="also rows whose solver has not changed since")
    found.add_argument("--solver", type=Solver, default=Solver.AUTO, choices=list(Solver))
    found.add_argument("--turns", type=int, default=3, help="deals of a set that has few images per category")
    return found


def asked(arguments: argparse.Namespace, scratch: Path) -> Asked:
    place = arguments.out / "cache"
    place.mkdir(parents=True, exist_ok=True)
    names = arguments.set or (() if arguments.new_set else SETS)
    known = [sets.known_source(name, arguments.data, place, arguments.turns) for name in names]
    given = [text.partition("=") for text in arguments.new_set]
    own = [sets.given_source(name, Path(folder), arguments.turns) for name, _, folder in given]
    return Asked(
        data=arguments.data,
        place=place,
        heads=arguments.out / "heads",
        scratch=scratch,
        networks=tuple(arguments.backbone or (*NETWORKS, *HEAD_HAS_SEEN)),
        evidence=tuple(arguments.evidence or EVIDENCE),
        sources=(*known, *own),
        options=replace(cases.OPTIONS, solver=arguments.solver),
    )


def main() -> None:
    arguments = parser().parse_args()
    path = arguments.out / "accuracy.json"
    written = json.loads(path.read_text()) if path.exists() and not arguments.again else []
    kept = {(row["backbone"], row["new_set"], row["evidence"]): row for row in written}
    with TemporaryDirectory() as scratch:
        wanted = asked(arguments, Path(scratch))
        for row in rows(wanted, kept):
            kept[row["backbone"], row["new_set"], row["evidence"]] = row
            path.write_text(json.dumps(_ordered(kept), indent=1, default=plain) + "\n")
    written = json.loads(path.read_text())
    print(tables.accuracy(written))
    print(tables.calibration(written))
    print(tables.strangers(written))


def _ordered(kept: Kept) -> list[dict[str, Any]]:
    order = [(*NETWORKS, *HEAD_HAS_SEEN), SETS, EVIDENCE]

    def place(key: tuple[str, str, str]) -> list[tuple[int, str]]:
        return [
            (names.index(part) if part in names else len(names), part)
            for part, names in zip(key, order, strict=True)
        ]

    return [kept[key] for key in sorted(kept, key=place)]


if __name__ == "__main__":
    main()
