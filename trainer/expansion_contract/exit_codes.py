"""How the trainer's process ends. The Job's podFailurePolicy and the operator's reasons are made from this table."""

from enum import IntEnum


class ExitCode(IntEnum):
    """10 to 19 are permanent: the same inputs will fail again, so the Job fails at once. The rest may be tried again."""

    SUCCEEDED = 0
    UNEXPECTED = 1
    INVALID_RUN = 10
    BAD_DATASET = 11
    DATASET_CHANGED = 12
    BAD_WEIGHTS = 13
    STORAGE_REFUSED = 14
    BASE_MISSING = 15
    PACK_REFUSED = 16
    STORAGE_UNAVAILABLE = 20
    WEIGHTS_UNAVAILABLE = 21
    TERMINATED = 143


PERMANENT = tuple(code for code in ExitCode if 10 <= code < 20)

REASONS = {
    ExitCode.UNEXPECTED: "TrainingFailed",
    ExitCode.INVALID_RUN: "InvalidRun",
    ExitCode.BAD_DATASET: "BadDataset",
    ExitCode.DATASET_CHANGED: "DatasetChanged",
    ExitCode.BAD_WEIGHTS: "BadWeights",
    ExitCode.STORAGE_REFUSED: "StorageRefused",
    ExitCode.BASE_MISSING: "BaseMissing",
    ExitCode.PACK_REFUSED: "PackRefused",
    ExitCode.STORAGE_UNAVAILABLE: "StorageUnavailable",
    ExitCode.WEIGHTS_UNAVAILABLE: "WeightsUnavailable",
    ExitCode.TERMINATED: "Terminated",
}
