"""Makes the complete folder of a candidate: the model, its categories, golden answers and warm-up requests, all checked."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from expansion_contract.report import Category
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.export import check, golden, saved_model, warmup
from expansion_trainer.export.check import ExportMismatch, Sample
from expansion_trainer.export.golden import Picture
from expansion_trainer.export.loaded_model import INPUT, PROBABILITIES, SERVING, LoadedModel
from expansion_trainer.head.fit import FittedHead


def write(
    folder: Path,
    backbone: Backbone,
    head: FittedHead,
    categories: Sequence[Category],
    samples: Sequence[Sample],
    drawn: Picture,
) -> None:
    """A new folder; what an earlier attempt left is removed. `drawn`: a picture that is none of the categories."""
    shutil.rmtree(folder, ignore_errors=True)
    saved_model.write(folder, backbone, head, categories)
    model = LoadedModel(folder)
    check.check(folder, model, head, categories, samples)
    if head.base_count and not check.base_rows_identical(folder, backbone):
        raise ExportMismatch("The base's rows of the exported model are not the pretrained ones.")
    chosen = golden.chosen(model, [sample.image for sample in samples], drawn)
    golden.write(folder, model, chosen)
    warmup.write(folder, chosen, (SERVING, PROBABILITIES), INPUT)
