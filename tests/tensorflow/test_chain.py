"""Promises about growing what was grown: 1000 to 1003 to 1005 without an image of an earlier step, and nobody's index moves."""

from pathlib import Path

import numpy as np
import pytest
from striped_runs import IMAGES, Grow, Grown, expansion, photograph, ticking

from expansion_contract import layout
from expansion_contract.run import StorageAccess
from expansion_storage import open_prefix
from expansion_storage.folder import FolderPrefix
from expansion_trainer import publishing, resource_file
from expansion_trainer.errors import BaseMissing
from expansion_trainer.export.loaded_model import stored_categories, stored_head
from expansion_trainer.packs import files
from expansion_trainer.pipeline import train
from expansion_trainer.progress import Tracker
from expansion_trainer.stores import stores_of

pytestmark = pytest.mark.tensorflow

FIRST, SECOND = ("rot", "gruen", "blau"), ("gelb", "lila")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def grow(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Grow:
    def grow(name: str, photos: Path, **spec: object) -> Grown:
        return Grown(expansion(place, name, photos, **spec), tmp_path_factory.mktemp("scratch"))

    return grow


@pytest.fixture(scope="module")
def first(place: Path, grow: Grow) -> Grown:
    return grow("first", photograph(place / "photos-first", *FIRST))


@pytest.fixture(scope="module")
def second(place: Path, grow: Grow, first: Grown) -> Grown:
    photos = photograph(place / "photos-second", *SECOND)
    return grow("second", photos, base={"model": {"uri": str(first.version)}})


def test_five_more_than_a_thousand_in_two_steps(second: Grown) -> None:
    assert second.report.categories == 1005
    listed = stored_categories(second.version)
    assert [(c.index, c.name, c.group) for c in listed[1000:]] == [
        (1000, "blau", "base"),
        (1001, "gruen", "base"),
        (1002, "rot", "base"),
        (1003, "gelb", "new"),
        (1004, "lila", "new"),
    ]


def test_what_the_first_step_learned_is_known_after_the_second(place: Path, second: Grown) -> None:
    for folder, names in (("photos-first", FIRST), ("photos-second", SECOND)):
        truth = sorted(names * IMAGES)
        right = [a == b for a, b in zip(second.first_names(place / folder), truth, strict=True)]
        assert np.mean(right) > 0.9, folder


def test_the_pretrained_rows_are_the_same_bit_by_bit_after_two_steps(first: Grown, second: Grown) -> None:
    for before, after in zip(stored_head(first.version), stored_head(second.version), strict=True):
        assert before[..., :1000].tobytes() == after[..., :1000].tobytes()


def test_the_network_and_so_its_cached_bottlenecks_are_the_same(first: Grown, second: Grown) -> None:
    assert second.report.backbone_digest == first.report.backbone_digest


def test_the_report_calls_base_what_the_starting_model_had(second: Grown) -> None:
    assert [category.name for category in second.report.new_categories] == ["gelb", "lila"]
    assert second.report.metrics is not None
    assert second.report.metrics.base_drop is not None


def test_a_pack_keeps_the_scale_that_every_step_reported(first: Grown, second: Grown) -> None:
    kept = files.read(FolderPrefix(second.version / layout.PACK))
    reported = [grown.report.head.scale for grown in (first, second) if grown.report.head is not None]
    assert [expansion.scale for expansion in kept.expansions] == reported
    assert kept.scale == reported[1]


def test_a_version_that_is_gone_ends_the_run_by_name(place: Path, grow: Grow, first: Grown) -> None:
    photos = photograph(place / "photos-third", "gelb")
    asked = expansion(place, "third", photos, base={"model": {"uri": str(first.version)}})
    output = open_prefix(asked.spec.output.models, StorageAccess())
    run = publishing.written_run(asked, resource_file.listing(asked), output)
    assert run.model is not None
    gone = run.model_copy(update={"model": run.model.model_copy(update={"uri": str(place / "nowhere")})})
    clock = ticking()
    with pytest.raises(BaseMissing, match="is no published version any more"):
        train(gone, stores_of(gone, place / "scratch-third"), Tracker(gone.run_id, lambda: next(clock), ()))


# Categories that go and come back


@pytest.fixture(scope="module")
def without_gruen(place: Path, grow: Grow, first: Grown) -> Grown:
    photos = place / "photos-first"
    kept = {"images": str(photos), "include": ["blau", "rot"], "onOverlap": "KeepBoth"}
    return grow("first", photos, categories=kept)


def test_a_category_that_is_left_out_keeps_its_index_and_never_answers(
    place: Path, first: Grown, without_gruen: Grown
) -> None:
    listed = stored_categories(without_gruen.version)
    assert [(c.index, c.name, c.state) for c in listed[1000:]] == [
        (1000, "blau", "active"),
        (1001, "gruen", "retired"),
        (1002, "rot", "active"),
    ]
    assert "gruen" not in without_gruen.first_names(place / "photos-first")


def test_growing_it_on_leaves_every_index_where_it_was(place: Path, grow: Grow, without_gruen: Grown) -> None:
    photos = photograph(place / "photos-fourth", "lila")
    grown = grow("fourth", photos, base={"model": {"uri": str(without_gruen.version)}})
    listed = stored_categories(grown.version)
    assert [(c.name, c.state) for c in listed[1000:]] == [
        ("blau", "active"),
        ("gruen", "retired"),
        ("rot", "active"),
        ("lila", "active"),
    ]
    truth = sorted([name for name in FIRST for _ in range(IMAGES)])
    answers = grown.first_names(place / "photos-first")
    kept = [a == b for a, b in zip(answers, truth, strict=True) if b != "gruen"]
    assert np.mean(kept) > 0.9
    assert "gruen" not in answers


# A model that replaced its base


@pytest.fixture(scope="module")
def alone(place: Path, grow: Grow, first: Grown) -> Grown:
    return grow("alone", place / "photos-first", mode="Replace")


def test_a_model_of_its_own_categories_alone_can_be_grown_later(
    place: Path, grow: Grow, alone: Grown, second: Grown
) -> None:
    photos = place / "photos-second"
    grown = grow("alone-grown", photos, base={"model": {"uri": str(alone.version)}})
    listed = stored_categories(grown.version)
    assert [c.name for c in listed] == ["blau", "gruen", "rot", "gelb", "lila"]
    for folder, names in (("photos-first", FIRST), ("photos-second", SECOND)):
        truth = sorted(names * IMAGES)
        right = [a == b for a, b in zip(grown.first_names(place / folder), truth, strict=True)]
        assert np.mean(right) > 0.9, folder
    assert grown.report.head is not None
    assert not grown.report.head.base_rows_identical
    assert grown.report.metrics is not None
    drop = grown.report.metrics.base_drop
    assert drop is not None
    assert (drop.measured, drop.source) == (False, "pack")
