"""Promises about how a run ends when it cannot go on."""

import pytest

from expansion_contract.exit_codes import ExitCode
from expansion_storage import ObjectMissing, StorageRefused, StorageUnavailable
from expansion_trainer.errors import BadDataset, BadWeights, DatasetChanged, InvalidRun, WeightsUnavailable
from expansion_trainer.failure import Expected, exit_code, is_final, reason


@pytest.mark.parametrize(
    ("error", "code", "word", "final"),
    [
        (InvalidRun(""), ExitCode.INVALID_RUN, "InvalidRun", True),
        (BadDataset(""), ExitCode.BAD_DATASET, "BadDataset", True),
        (DatasetChanged(""), ExitCode.DATASET_CHANGED, "DatasetChanged", True),
        (BadWeights(""), ExitCode.BAD_WEIGHTS, "BadWeights", True),
        (WeightsUnavailable(""), ExitCode.WEIGHTS_UNAVAILABLE, "WeightsUnavailable", False),
        (StorageRefused("", "AccessDenied"), ExitCode.STORAGE_REFUSED, "AccessDenied", True),
        (
            StorageUnavailable("", "EndpointUnreachable"),
            ExitCode.STORAGE_UNAVAILABLE,
            "EndpointUnreachable",
            False,
        ),
        (ObjectMissing(""), ExitCode.STORAGE_UNAVAILABLE, "ObjectMissing", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_only_a_person_can_mend_is_final_and_the_rest_is_tried_again(
    error: Expected, code: ExitCode, word: str, final: bool
) -> None:
    assert (exit_code(error), reason(error), is_final(error)) == (code, word, final)
