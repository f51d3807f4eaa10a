"""The trainer in a Job: one run's document in, an exit code out. Everything else it has to say goes to storage and the log."""

import argparse
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from expansion_contract import environment, layout
from expansion_contract.exit_codes import ExitCode
from expansion_contract.problems import sentences
from expansion_contract.report import Progress, RunReport
from expansion_contract.run import StorageAccess, TrainingRun
from expansion_storage import StorageError
from expansion_trainer.errors import InvalidRun
from expansion_trainer.failure import EXPECTED, exit_code
from expansion_trainer.progress import Listener, Tracker, utc_now
from expansion_trainer.stores import Stores, read_document, stores_of

TOLD_EVERY = 15.0
"""Seconds between two rewritings of progress.json."""
LAST_WORDS = 4096
"""Bytes that Kubernetes keeps of a termination message."""

log = logging.getLogger("expansion_trainer")


class Terminated(BaseException):
    """Somebody wants the process gone. No Exception, so that nothing takes it for a failure of its own."""


def main(arguments: list[str] | None = None) -> int:
    address = _parser().parse_args(arguments).run
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, _terminate)
    with tempfile.TemporaryDirectory(prefix="run-", dir=_scratch(os.environ)) as scratch:
        prepare_tensorflow(Path(scratch))
        return _ended(address, Path(scratch), os.environ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m expansion_trainer", description=__doc__)
    parser.add_argument(
        "--run",
        required=True,
        metavar="ADDRESS",
        help=f"of the run's document, for example s3://…/{layout.RUN}",
    )
    return parser


def _terminate(_: int, __: FrameType | None) -> None:
    raise Terminated


def prepare_tensorflow(scratch: Path) -> None:
    """Before its first import: quiet, and writing nowhere but in scratch."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_HOME", str(scratch / "keras"))


def _ended(address: str, scratch: Path, variables: Mapping[str, str]) -> ExitCode:
    """Translates how the run ended. What nobody expected keeps its traceback and ends the process with 1: it may be retried."""
    try:
        report = _trained(address, scratch, environment.storage_access(variables))
    except EXPECTED as error:
        log.error("%s", error)
        _leave_last_words(str(error), variables)
        return exit_code(error)
    except Terminated:
        log.warning("Terminated; the bottlenecks computed so far are in the cache.")
        return ExitCode.TERMINATED
    except Exception as error:
        _leave_last_words(f"{type(error).__name__}: {error}", variables)
        raise
    _leave_last_words(f"Run {report.run_id} succeeded: {report.categories} categories.", variables)
    return ExitCode.SUCCEEDED


def _trained(address: str, scratch: Path, access: StorageAccess) -> RunReport:
    run = parsed(read_document(address, access), address)
    stores = stores_of(run, scratch)
    tracker = Tracker(run.run_id, utc_now, (Listener(_log_stage, 60.0), _in_storage(stores)))
    from expansion_trainer.pipeline import train  # takes seconds: TensorFlow

    return train(run, stores, tracker)


def parsed(content: bytes, address: str) -> TrainingRun:
    try:
        return TrainingRun.model_validate_json(content)
    except ValidationError as error:
        raise InvalidRun(
            f"{address} is not a run that this trainer understands: {' '.join(sentences(error))} Use the trainer image of the"
            " release that wrote it."
        ) from None


def _in_storage(stores: Stores) -> Listener:
    def hear(progress: Progress) -> None:
        try:
            stores.write_run_file(layout.PROGRESS, progress.to_json())
        except StorageError as error:
            log.warning("The progress could not be written: %s", error)

    return Listener(hear, TOLD_EVERY)


def _log_stage(progress: Progress) -> None:
    speed = f", {progress.images_per_second:.0f} images/s" if progress.images_per_second else ""
    log.info("%s (%d %%): %s%s", progress.stage, progress.percent, progress.message, speed)


def _scratch(variables: Mapping[str, str]) -> str | None:
    """None: the system's folder for temporary files."""
    return variables.get(environment.SCRATCH) or None


def _leave_last_words(message: str, variables: Mapping[str, str]) -> None:
    if path := variables.get(environment.TERMINATION_LOG):
        kept = message.encode()[:LAST_WORDS].decode(errors="ignore")
        Path(path).write_text(kept, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
