"""What can end a run on purpose: the class decides the exit code, the message is for whoever wrote the resource."""

from typing import ClassVar

from expansion_contract.exit_codes import ExitCode


class TrainerError(Exception):
    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED
    reason: ClassVar[str] = ""
    """One word that says more than the exit code's; empty if there is none."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRun(TrainerError):
    """The run's document asks for something this trainer cannot do."""

    exit_code = ExitCode.INVALID_RUN


class BadDataset(TrainerError):
    """The images cannot be trained on; only their owner can change that."""

    exit_code = ExitCode.BAD_DATASET


class DatasetChanged(TrainerError):
    """The images are not those the run was made for; the operator makes a new run."""

    exit_code = ExitCode.DATASET_CHANGED


class BadWeights(TrainerError):
    """The network's weights are missing, damaged, or those of another network."""

    exit_code = ExitCode.BAD_WEIGHTS


WeightsError = BadWeights


class WeightsUnavailable(TrainerError):
    """The weights could not be fetched this time."""

    exit_code = ExitCode.WEIGHTS_UNAVAILABLE


class BaseMissing(TrainerError):
    """The published version that is grown is gone, or is not the one the run was made for."""

    exit_code = ExitCode.BASE_MISSING


class PackRefused(TrainerError):
    """A pack is damaged, or belongs to another network: with it every bottleneck would be silently wrong."""

    exit_code = ExitCode.PACK_REFUSED
