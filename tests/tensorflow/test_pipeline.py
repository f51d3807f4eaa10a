"""Promises about a whole run, with a real network and pictures made here: what it leaves in storage, and how it fails."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expansion_contract import dataset, layout
from expansion_contract.dataset import Role
from expansion_contract.report import Progress, RunReport
from expansion_contract.resource import parsed
from expansion_contract.run import TrainingRun, training_run
from expansion_storage import StorageUnavailable, open_prefix
from expansion_trainer.errors import BadDataset, DatasetChanged
from expansion_trainer.export.loaded_model import LoadedModel, stored_categories, stored_head
from expansion_trainer.pipeline import train
from expansion_trainer.progress import Listener, Stage, Tracker
from expansion_trainer.run_files import described
from expansion_trainer.stores import stores_of

pytestmark = pytest.mark.tensorflow

COLOURS = {"rot": (200, 30, 30), "gruen": (30, 170, 40), "blau": (40, 50, 200)}
IMAGES = 24


def striped(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """Stripes of one colour on noise: three easy categories."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 90, (64, 64, 3))
    pixels[:, :: int(random.integers(3, 9))] = colour
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir()
        for index in range(IMAGES):
            striped(colour, 1000 * number + index).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def listing_digest(run_spec: Any, photos: Path) -> str:
    entries = (
        (Role.NEW, entry)
        for entry in open_prefix(str(photos), TrainingRun.model_fields["storage"].default).list()
    )
    return dataset.read(entries, run_spec.categories, run_spec.mode).digest


def run_for(photos: Path, models: Path, cache: Path, **spec: Any) -> TrainingRun:
    body = {
        "metadata": {"name": "colours"},
        "spec": {
            "base": {"pretrained": {"architecture": "EfficientNetLite0"}},
            "categories": {"images": str(photos)},
            "split": {"validationPercent": 20, "testPercent": 30},
            "compute": {"gpusPerWorker": 0},
            "output": {"models": str(models)},
            "storage": {"cache": str(cache)},
            **spec,
        },
    }
    expansion = parsed(body)
    return training_run(expansion, listing_digest(expansion.spec, photos))


@dataclass
class Trained:
    """What one run was asked, what it answered and what it said meanwhile."""

    run: TrainingRun
    folder: Path  # runs/<id>
    scratch: Path
    said: list[Progress] = field(default_factory=list)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def clock(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def train(self) -> RunReport:
        tracker = Tracker(self.run.run_id, self.clock, (Listener(self.said.append, 0),))
        return train(self.run, stores_of(self.run, self.scratch), tracker)

    @property
    def report(self) -> RunReport:
        return RunReport.model_validate_json((self.folder / layout.REPORT).read_bytes())

    @property
    def candidate(self) -> Path:
        return self.folder / layout.CANDIDATE


Prepare = Callable[..., Trained]


@pytest.fixture(scope="module")
def prepare(photos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    def prepare(images: Path = photos, **spec: Any) -> Trained:
        models, scratch = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("scratch")
        run = run_for(images, models, cache, **spec)
        return Trained(run=run, folder=models / layout.run(run.run_id), scratch=scratch)

    return prepare


@pytest.fixture(scope="module")
def expanded(prepare: Prepare) -> Trained:
    trained = prepare()
    trained.train()
    return trained


def test_a_run_grows_the_thousand_categories_by_the_new_ones(expanded: Trained) -> None:
    report = expanded.report
    assert report.outcome == "Succeeded"
    assert report.categories == 1003
    assert [(c.index, c.name) for c in report.new_categories] == [
        (1000, "blau"),
        (1001, "gruen"),
        (1002, "rot"),
    ]
    categories = stored_categories(expanded.candidate)
    assert len(categories) == 1003
    assert (categories[0].name, categories[0].group, categories[-1].group) == ("tench", "base", "new")


def test_the_new_categories_are_recognised(expanded: Trained, photos: Path) -> None:
    metrics = expanded.report.metrics
    assert metrics is not None
    assert metrics.new.n > 10
    assert metrics.new.value > 0.8
    answers = LoadedModel(expanded.candidate).answers([(photos / "rot" / "1.png").read_bytes()])
    assert answers[0].names[0] == "rot"


def test_the_base_rows_of_the_model_are_the_pretrained_ones(expanded: Trained) -> None:
    head = expanded.report.head
    assert head is not None
    assert head.base_rows_identical
    assert head.evidence == ["procedural"]


def test_the_report_names_old_categories_whose_pictures_would_help_most(expanded: Trained) -> None:
    report = expanded.report
    assert report.near_base
    assert {name for one in report.near_base for name in one.near} == set(COLOURS)
    assert {one.images for one in report.near_base} == {0}
    (said,) = [finding.message for finding in report.findings if finding.reason == "PicturesWouldHelp"]
    assert report.near_base[0].name in said
    assert report.advice[0] == said
    assert report.near_base[0].uid in (expanded.folder / layout.REPORT_PAGE).read_text()


def test_the_report_lists_the_candidate_completely(expanded: Trained) -> None:
    assert expanded.report.files == described(expanded.candidate)
    assert {"saved_model.pb", layout.CATEGORIES, layout.GOLDEN} <= {
        file.path for file in expanded.report.files
    }


def test_page_report_and_summaries_lie_where_people_look(expanded: Trained) -> None:
    page = (expanded.folder / layout.REPORT_PAGE).read_text()
    assert "1000 categories became 1003" in page
    assert list((expanded.folder / "tensorboard").glob("events.out.tfevents.*"))


def test_progress_names_every_stage_in_order(expanded: Trained) -> None:
    stages = list(dict.fromkeys(progress.stage for progress in expanded.said))
    assert stages == [stage.value for stage in Stage]
    assert all(
        before.percent <= after.percent
        for before, after in zip(expanded.said, expanded.said[1:], strict=False)
    )
    assert list(expanded.report.seconds) == [stage.value for stage in Stage if stage is not Stage.DONE]


def test_a_long_fit_says_what_it_is_at(expanded: Trained) -> None:
    said = [progress.message for progress in expanded.said if progress.stage == Stage.HEAD]
    assert said[1].startswith("Fit 1 of at most ")
    assert len(said) > 20


def test_the_same_inputs_and_seed_give_the_same_head_from_the_cache(
    expanded: Trained, prepare: Prepare, cache: Path
) -> None:
    kept = sorted(path.name for path in cache.rglob("*.rows"))
    again = prepare()
    again.train()
    for first, second in zip(stored_head(expanded.candidate), stored_head(again.candidate), strict=True):
        assert first.tobytes() == second.tobytes()
    assert sorted(path.name for path in cache.rglob("*.rows")) == kept


def test_renamed_images_give_the_same_head(
    expanded: Trained, prepare: Prepare, photos: Path, tmp_path: Path
) -> None:
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        target = tmp_path / path.parent.name / f"renamed-{number}.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    renamed = prepare(tmp_path)
    renamed.train()
    for before, after in zip(stored_head(expanded.candidate), stored_head(renamed.candidate), strict=True):
        assert before.tobytes() == after.tobytes()
    assert renamed.report.dataset == expanded.report.dataset.model_copy(  # type: ignore[union-attr]
        update={"digest": renamed.run.dataset_digest}
    )


def test_mode_replace_knows_the_new_categories_only(prepare: Prepare) -> None:
    replaced = prepare(mode="Replace")
    report = replaced.train()
    assert report.categories == 3
    assert [category.index for category in stored_categories(replaced.candidate)] == [0, 1, 2]
    assert report.metrics is not None
    assert report.metrics.base_drop is None
    assert report.metrics.new.value > 0.8
    assert report.head is not None
    assert report.head.evidence == []


def test_unlabelled_photographs_are_evidence_beside_the_procedural_ones(
    prepare: Prepare, tmp_path: Path
) -> None:
    for index in range(30):
        striped((index * 8, 120, 250 - index * 8), 9000 + index).save(tmp_path / f"{index}.png")
    trained = prepare()
    run = trained.run.model_copy(update={"unlabelled": str(tmp_path)})
    entries = [
        *((Role.NEW, entry) for entry in open_prefix(run.categories.images, run.storage).list()),
        *((Role.UNLABELLED, entry) for entry in open_prefix(str(tmp_path), run.storage).list()),
    ]
    trained.run = run.model_copy(
        update={"dataset_digest": dataset.read(entries, run.categories, run.mode).digest}
    )
    report = trained.train()
    assert report.head is not None
    assert set(report.head.evidence) == {"unlabelled", "procedural"}
    assert report.metrics is not None
    assert report.metrics.base_drop is not None
    assert report.metrics.base_drop.source == "unlabelled"


def test_a_wish_for_gpus_that_are_not_there_is_reported(prepare: Prepare) -> None:
    trained = prepare(mode="Replace")
    trained.run = trained.run.model_copy(update={"gpus": 1})
    findings = trained.train().findings
    assert [finding.severity for finding in findings if finding.reason == "GpuNotVisible"] == ["warning"]


# How it fails


def test_images_that_changed_since_the_run_was_made_end_it_with_a_report(prepare: Prepare) -> None:
    trained = prepare()
    trained.run = trained.run.model_copy(update={"dataset_digest": "sha256:0"})
    with pytest.raises(DatasetChanged):
        trained.train()
    assert (trained.report.outcome, trained.report.reason) == ("Failed", "DatasetChanged")
    assert "changed after run" in trained.report.message


def test_a_category_without_a_readable_image_ends_the_run_and_the_report_names_the_files(
    prepare: Prepare, photos: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    for path in photos.rglob("*.png"):
        target = copied / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (copied / "texte").mkdir()
    for index in range(3):
        (copied / "texte" / f"{index}.jpg").write_text(f"no image {index}")
    trained = prepare(copied, mode="Replace")
    with pytest.raises(BadDataset, match="No image of 'texte' can be read"):
        trained.train()
    report = trained.report
    assert report.outcome == "Failed"
    assert report.dataset is not None
    assert len(report.dataset.quarantined) == 3
    assert "CategoryUnreadable" in {finding.reason for finding in report.findings}
    assert "texte/0.jpg" in (trained.folder / layout.REPORT_PAGE).read_text()
    assert not trained.candidate.exists()


def test_what_may_succeed_next_time_leaves_no_report(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    trained = prepare(mode="Replace")
    access = trained.run.storage.model_copy(update={"endpoint_url": "http://127.0.0.1:9"})
    trained.run = trained.run.model_copy(update={"cache": "s3://cache/", "storage": access})
    with pytest.raises(StorageUnavailable):
        trained.train()
    assert not (trained.folder / layout.REPORT).exists()


def test_the_report_says_what_the_contract_says(expanded: Trained) -> None:
    wire = json.loads((expanded.folder / layout.REPORT).read_text())
    assert wire["formatVersion"] == 1
    assert wire["backbone"] == "EfficientNetLite0"
    assert len(wire["backboneDigest"]) == 64
    assert wire["environment"]["precision"] == "float32"
