"""How well a grown head tells pictures of the same domain that show nothing it knows: new categories are left out in turn."""

from typing import Any

import numpy as np

from expansion_benchmarks.cases import OPTIONS
from expansion_benchmarks.figures import Measured
from expansion_trainer.dataset.split import Side
from expansion_trainer.evaluation.unknowns import Asked, unknown_report
from expansion_trainer.head import detection
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.refits import Fitting

COVERAGE = 0.95
"""Share of known images that may be called known."""


def told(measured: Measured) -> dict[str, Any] | None:
    """As a run measures it: test images of kept categories and of the base against those of left-out ones."""
    head, what, new = measured.grown.head, measured.grown.given, measured.new
    fitting = Fitting(
        head=head,
        base=measured.old.features.base.rows,
        training=new.sides[Side.TRAINING].labelled,
        evidence=what.fitted,
        seed=OPTIONS.seed,
    )
    validation, test = (new.sides[side].labelled for side in (Side.VALIDATION, Side.TEST))
    found = detection.detection(detection.given(fitting, validation, what.calibration, COVERAGE))
    if found is None:
        return None
    asked = Asked(
        new=test,
        new_columns=test.labels + head.base_count,
        base=what.base_test.bottlenecks,
        bystanders=None,
        fitted_answers_as=np.arange(len(head.bias)),
        answering=Answering.of_head(head),
    )
    report = unknown_report(found, asked)
    auroc = report.auroc.model_dump() if report.auroc else None
    return {"method": report.method, "auroc": auroc, "of": report.auroc_of}
