"""Exports the heads that bench-accuracy grew and asks the SavedModels, as a stranger would: are the old rows the pretrained
network's, bit by bit, on the disk, and does the model answer files as the figures say? `make bench-export`."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from expansion_benchmarks import tables
from expansion_benchmarks.features import Features, images_below, kept_head
from expansion_contract.report import Category
from expansion_trainer.export import saved_model
from expansion_trainer.export.loaded_model import LoadedModel, stored_head
from expansion_trainer.export.saved_model import Exported
from expansion_trainer.head.fit import FittedHead

ASKED = 32
"""Files of base categories that one model of each network answers."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One row of the accuracy table, from the disk."""

    backbone: str
    row: str
    identical: bool
    asked: int = 0
    agreeing: int = 0
    """Files answered as the head answers their bottlenecks."""


def checks(out: Path, data: Path, scratch: Path, everything: bool) -> Iterator[Checked]:
    seen: set[str] = set()
    for path in sorted((out / "heads").glob("*.npz")):
        network, _, row = path.stem.partition("-")
        if network in seen and not everything:
            continue
        features = Features(network=network, data=data, place=out / "cache", scratch=scratch)
        head = kept_head(path)
        folder = scratch / path.stem
        categories = [*features.categories, *_new(head)]
        saved_model.write(folder, Exported(backbone=features.backbone, head=head, categories=categories))
        agreeing = _agreeing(folder, head, features, data) if network not in seen else 0
        yield Checked(
            backbone=network,
            row=row,
            identical=_identical(folder, features),
            asked=ASKED if network not in seen else 0,
            agreeing=agreeing,
        )
        seen.add(network)


def _new(head: FittedHead) -> list[Category]:
    indices = range(head.base_count, len(head.bias))
    return [Category(index=index, name=f"new {index}", group="new") for index in indices]


def _identical(folder: Path, features: Features) -> bool:
    weights, bias = stored_head(folder)
    rows = features.base.rows
    count = len(rows.bias)
    same = weights[:, :count].tobytes() == rows.weights.tobytes()
    return bool(same and bias[:count].tobytes() == rows.bias.tobytes())


def _agreeing(folder: Path, head: FittedHead, features: Features, data: Path) -> int:
    from expansion_trainer.bottlenecks.engine import engine_of

    files = [image.read() for image in images_below(data / "images/imagenet-val")][:ASKED]
    engine = engine_of(features.backbone)
    rows = engine.bottlenecks([engine.decode(file) for file in files])
    expected = head.logits(rows).argmax(axis=1)
    answered = LoadedModel(folder).probabilities(files).argmax(axis=1)
    return int((expected == answered).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--one-each", action="store_true", help="one row of each network only")
    asked = parser.parse_args()
    found: list[dict[str, Any]] = []
    with TemporaryDirectory() as scratch:
        for one in checks(asked.out, asked.data, Path(scratch), not asked.one_each):
            found.append(vars(one))
            asks = f", {one.agreeing} of {one.asked} files answered as the head does" if one.asked else ""
            print(
                f"{one.backbone} {one.row}: base rows {'identical' if one.identical else 'CHANGED'}{asks}",
                flush=True,
            )
    (asked.out / "exported.json").write_text(json.dumps(found, indent=1) + "\n")
    print(tables.exported(found))


if __name__ == "__main__":
    main()
