"""What follows from the error that ended a run: the exit code, one word for programs, and whether a report should say so."""

from expansion_contract.exit_codes import PERMANENT, REASONS, ExitCode
from expansion_storage import StorageError, StorageRefused
from expansion_trainer.errors import TrainerError

Expected = TrainerError | StorageError
"""What a run may end with on purpose; everything else is a defect and keeps its traceback."""
EXPECTED = (TrainerError, StorageError)


def exit_code(error: Expected) -> ExitCode:
    if isinstance(error, TrainerError):
        return error.exit_code
    return ExitCode.STORAGE_REFUSED if isinstance(error, StorageRefused) else ExitCode.STORAGE_UNAVAILABLE


def reason(error: Expected) -> str:
    return error.reason or REASONS[exit_code(error)]


def is_final(error: Expected) -> bool:
    """Would the same inputs fail again? Only then is a report written: the next attempt's must not find it."""
    return exit_code(error) in PERMANENT
