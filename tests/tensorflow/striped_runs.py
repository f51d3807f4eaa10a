"""Runs that grow a real network by striped colours, published as the command line publishes them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from expansion_contract import layout
from expansion_contract.report import RunReport
from expansion_contract.resource import ClassifierExpansion, parsed
from expansion_contract.run import StorageAccess, TrainingRun
from expansion_storage import open_prefix
from expansion_trainer import publishing, resource_file
from expansion_trainer.export.loaded_model import LoadedModel
from expansion_trainer.pipeline import train
from expansion_trainer.progress import Tracker
from expansion_trainer.stores import stores_of

COLOURS = {
    "rot": (200, 30, 30),
    "gruen": (30, 170, 40),
    "blau": (40, 50, 200),
    "gelb": (220, 210, 20),
    "lila": (150, 20, 170),
}
IMAGES = 20


def striped(colour: tuple[int, int, int], seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 90, (64, 64, 3))
    pixels[:, :: int(random.integers(3, 9))] = colour
    return Image.fromarray(pixels.astype(np.uint8))


def photograph(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(IMAGES):
            picture = striped(COLOURS[name], 1000 * list(COLOURS).index(name) + index)
            picture.save(folder / name / f"{index}.png")
    return folder


def expansion(place: Path, name: str, photos: Path, **spec: Any) -> ClassifierExpansion:
    base = {"pretrained": {"architecture": "EfficientNetLite0"}}
    body = {
        "base": base,
        "categories": {"images": str(photos), "onOverlap": "KeepBoth"},
        "split": {"validationPercent": 20, "testPercent": 30},
        "compute": {"gpusPerWorker": 0},
        "acceptance": {"maximumBaseAccuracyDrop": None},
        "output": {"models": str(place / name)},
        "storage": {"cache": str(place / "cache")},
        **spec,
    }
    return parsed({"metadata": {"name": name}, "spec": body})


class Grown:
    """One run, published."""

    def __init__(self, asked: ClassifierExpansion, scratch: Path) -> None:
        output = open_prefix(asked.spec.output.models, StorageAccess())
        self.run: TrainingRun = publishing.written_run(asked, resource_file.listing(asked), output)
        clock = ticking()
        tracker = Tracker(self.run.run_id, lambda: next(clock), ())
        self.report: RunReport = train(self.run, stores_of(self.run, scratch), tracker)
        done = publishing.publish_if_accepted(asked, self.run, self.report, output, "2026-01-01T00:00:00Z")
        assert done.version is not None
        self.version = Path(asked.spec.output.models) / layout.version(done.version)

    def first_names(self, photos: Path) -> list[str]:
        images = [path.read_bytes() for path in sorted(photos.rglob("*.png"))]
        return [answer.names[0] for answer in LoadedModel(self.version).answers(images)]


def ticking() -> Iterator[datetime]:
    second = 0
    while True:
        second += 1
        yield datetime.fromtimestamp(second, UTC)


Grow = Callable[..., Grown]
