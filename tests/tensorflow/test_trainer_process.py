"""Promises about the trainer as a process: exit codes, last words, and that being killed costs next to nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expansion_contract import dataset, environment, layout
from expansion_contract.dataset import Role
from expansion_contract.exit_codes import ExitCode
from expansion_contract.report import Progress, RunReport
from expansion_contract.resource import Categories, Mode
from expansion_contract.run import StorageAccess, TrainingRun
from expansion_storage import open_prefix

pytestmark = pytest.mark.tensorflow


def write_images(folder: Path, count: int) -> None:
    for number, name in enumerate(("dunkel", "hell")):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            random = np.random.default_rng(1000 * number + index)
            pixels = random.integers(120 * number, 120 * number + 100, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


class Job:
    """One run's document in storage, and processes that are started for it."""

    def __init__(self, tmp_path: Path, images: int = 30, **changes: Any) -> None:
        self.tmp_path = tmp_path
        write_images(tmp_path / "photos", images)
        address = str(tmp_path / "photos")
        entries = ((Role.NEW, entry) for entry in open_prefix(address, StorageAccess()).list())
        digest = dataset.read(entries, Categories(images=address), Mode.REPLACE).digest
        wire = {
            "runId": "0123456789abcdef",
            "owner": {"namespace": "default", "name": "shades"},
            "mode": "Replace",
            "base": {"architecture": "EfficientNetLite0", "weights": {"name": "imagenet"}},
            "categories": {"images": address},
            "split": {"validationPercent": 20, "testPercent": 20},
            "training": {},
            "datasetDigest": digest,
            "output": str(tmp_path / "models"),
            "cache": str(tmp_path / "cache"),
        }
        self.wire = {**wire, **changes}
        self.folder = tmp_path / "models" / layout.run("0123456789abcdef")
        self.folder.mkdir(parents=True)
        (self.folder / layout.RUN).write_text(json.dumps(self.wire))
        (tmp_path / "scratch").mkdir()

    def start(self) -> "subprocess.Popen[str]":
        variables = {
            **os.environ,
            environment.TERMINATION_LOG: str(self.tmp_path / "last-words"),
            environment.SCRATCH: str(self.tmp_path / "scratch"),
            "HOME": "/nonexistent",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "expansion_trainer", "--run", str(self.folder / layout.RUN)],
            env=variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def finish(self) -> tuple[int, str]:
        process = self.start()
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    @property
    def last_words(self) -> str:
        return (self.tmp_path / "last-words").read_text()

    @property
    def report(self) -> RunReport:
        return RunReport.model_validate_json((self.folder / layout.REPORT).read_bytes())

    def cached_rows(self) -> int:
        return sum(path.stat().st_size // (4 * 1280) for path in (self.tmp_path / "cache").rglob("*.rows"))


def test_a_run_that_succeeds_ends_with_0_and_says_so(tmp_path: Path) -> None:
    job = Job(tmp_path)
    code, output = job.finish()
    assert code == 0, output
    assert job.report.outcome == "Succeeded"
    assert job.last_words == "Run 0123456789abcdef succeeded: 2 categories."
    progress = Progress.model_validate_json((job.folder / layout.PROGRESS).read_bytes())
    assert (progress.stage, progress.percent) == ("Done", 100)
    assert "Bottlenecks (6 %): 60 images through EfficientNetLite0" in output


def test_it_leaves_nothing_in_scratch_and_writes_nowhere_else(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.finish()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_bad_data_ends_with_11_and_the_reason_in_the_last_words(tmp_path: Path) -> None:
    job = Job(tmp_path, images=1)
    code, output = job.finish()
    assert code == ExitCode.BAD_DATASET, output
    assert "of 'dunkel' falls on the training side" in job.last_words + output
    assert job.report.reason == "BadDataset"
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("{", "is not a run that this trainer understands", id="no JSON"),
        pytest.param('{"formatVersion": 2}', "formatVersion", id="of another release"),
    ],
)
def test_a_document_it_does_not_understand_ends_with_10(tmp_path: Path, content: str, words: str) -> None:
    job = Job(tmp_path)
    (job.folder / layout.RUN).write_text(content)
    code, _ = job.finish()
    assert code == ExitCode.INVALID_RUN
    assert words in job.last_words


def test_a_field_of_a_newer_operator_is_not_overlooked(tmp_path: Path) -> None:
    job = Job(tmp_path, fineTuneHarder=True)
    assert job.finish()[0] == ExitCode.INVALID_RUN
    assert "fineTuneHarder: there is no such field." in job.last_words


def test_a_missing_document_ends_with_14(tmp_path: Path) -> None:
    job = Job(tmp_path)
    (job.folder / layout.RUN).unlink()
    assert job.finish()[0] == ExitCode.STORAGE_REFUSED
    assert "run.json does not exist" in job.last_words


def test_sigterm_ends_with_143_and_keeps_what_was_computed(tmp_path: Path) -> None:
    job = Job(tmp_path, images=600)
    process = job.start()
    wait_for(job, process, "of 1200 images")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == ExitCode.TERMINATED, output
    kept = job.cached_rows()
    assert 0 < kept < 1200
    assert not (job.folder / layout.REPORT).exists()
    code, output = job.finish()
    assert code == 0, output
    assert job.cached_rows() == 1200


def test_a_trainer_killed_without_warning_succeeds_when_started_again(tmp_path: Path) -> None:
    job = Job(tmp_path)
    process = job.start()
    wait_for(job, process, "through EfficientNetLite0")
    process.kill()
    process.communicate(timeout=60)
    assert not (job.folder / layout.REPORT).exists()
    code, output = job.finish()
    assert code == 0, output
    assert job.report.outcome == "Succeeded"


def wait_for(job: Job, process: "subprocess.Popen[str]", message: str) -> None:
    """Until progress.json says so."""
    deadline = time.monotonic() + 200
    path = job.folder / layout.PROGRESS
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and message in Progress.model_validate_json(path.read_bytes()).message:
            return
        time.sleep(0.2)
    process.kill()
    raise AssertionError(f"It never said {message!r}: {process.communicate()[0]}")


def test_the_document_is_the_contracts(tmp_path: Path) -> None:
    job = Job(tmp_path)
    assert TrainingRun.model_validate(job.wire).run_id == "0123456789abcdef"
