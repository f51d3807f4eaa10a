"""Makes the complete folder of a candidate: the model, its categories, golden answers and warm-up requests, all checked."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from expansion_contract.report import Category
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.export import check, golden, saved_model, warmup
from expansion_trainer.export.check import Sample
from expansion_trainer.export.golden import Picture
from expansion_trainer.export.loaded_model import INPUT, PROBABILITIES, SERVING, LoadedModel
from expansion_trainer.export.saved_model import Exported
from expansion_trainer.head.fit import FittedHead


def write(
    folder: Path,
    backbone: Backbone,
    head: FittedHead,
    categories: Sequence[Category],
    samples: Sequence[Sample],
    drawn: Picture,
) -> None:
    """Of a model in which every fitted column is its own index and nothing says what is unknown."""
    written(folder, Exported(backbone=backbone, head=head, categories=categories), samples, drawn)


def written(folder: Path, exported: Exported, samples: Sequence[Sample], drawn: Picture) -> None:
    """A new folder; what an earlier attempt left is removed. `drawn`: a picture that is none of the categories."""
    shutil.rmtree(folder, ignore_errors=True)
    saved_model.write(folder, exported)
    model = LoadedModel(folder)
    check.check(folder, model, exported, samples)
    chosen = golden.chosen(model, [sample.image for sample in samples], drawn, _threshold(exported))
    golden.write(folder, model, chosen)
    warmup.write(folder, chosen, (SERVING, PROBABILITIES), INPUT)


def _threshold(exported: Exported) -> float | None:
    """The known score at which the first name changes, if it does."""
    if exported.detector is None or not exported.unknown_in_answers:
        return None
    return 1 - exported.detector.coverage
