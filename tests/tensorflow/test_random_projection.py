"""Promises about a random projection end to end: asked for, fitted, exported, loaded back, answered with, and grown on."""

import base64
from pathlib import Path

import numpy as np
import pytest
from striped_runs import IMAGES, Grow, Grown, expansion, photograph

from expansion_contract import layout
from expansion_contract.version import Golden
from expansion_trainer.export.loaded_model import LoadedModel, stored_head, stored_projection

pytestmark = pytest.mark.tensorflow

DIMENSIONS = 96
PROJECTED = {"head": {"solver": "Softmax", "randomProjection": {"dimensions": DIMENSIONS}}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("projection")


@pytest.fixture(scope="module")
def grow(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Grow:
    def grow(name: str, photos: Path, **spec: object) -> Grown:
        return Grown(expansion(place, name, photos, **spec), tmp_path_factory.mktemp("scratch"))

    return grow


@pytest.fixture(scope="module")
def photos(place: Path) -> Path:
    return photograph(place / "photos", "rot", "gruen", "blau")


@pytest.fixture(scope="module")
def first(photos: Path, grow: Grow) -> Grown:
    return grow("first", photos, training=PROJECTED)


@pytest.fixture(scope="module")
def second(place: Path, grow: Grow, first: Grown) -> Grown:
    later = photograph(place / "photos-second", "gelb", "lila")
    return grow("second", later, base={"model": {"uri": str(first.version)}}, training=PROJECTED)


def share_right(grown: Grown, photos: Path, *names: str) -> float:
    truth = sorted(names * IMAGES)
    return float(np.mean([a == b for a, b in zip(grown.first_names(photos), truth, strict=True)]))


def test_the_report_and_its_page_say_how_many_random_features_there_are(first: Grown) -> None:
    head = first.report.head
    assert head is not None
    assert (head.solver, head.random_projection) == ("Softmax with random projection", DIMENSIONS)
    page = first.version.parents[1] / layout.run(first.run.run_id) / layout.REPORT_PAGE
    assert f"{DIMENSIONS} random features beside the bottleneck" in page.read_text()


def test_the_published_model_answers_with_it(photos: Path, first: Grown) -> None:
    found = stored_projection(first.version)
    assert found is not None
    assert found[1].shape == (DIMENSIONS, 1003)
    assert np.abs(found[1][:, 1000:]).max() > 0
    assert share_right(first, photos, "rot", "gruen", "blau") > 0.9


def test_no_base_logit_sees_it(first: Grown) -> None:
    assert first.report.head is not None
    assert first.report.head.base_rows_identical
    found = stored_projection(first.version)
    assert found is not None
    assert not found[1][:, :1000].any()


def test_the_golden_answers_are_those_of_the_model_with_it(first: Grown) -> None:
    golden = Golden.model_validate_json((first.version / layout.GOLDEN).read_bytes())
    answers = LoadedModel(first.version).answers([base64.b64decode(one.image) for one in golden.images])
    assert [list(answer.names) for answer in answers] == [one.names for one in golden.images]


def test_what_is_unknown_is_told_with_it(first: Grown) -> None:
    assert first.report.metrics is not None
    unknown = first.report.metrics.unknown
    assert unknown is not None
    assert unknown.left_out > 0
    assert len(unknown.tried) > 1


def test_a_later_expansion_grows_it_with_one_of_its_own(photos: Path, first: Grown, second: Grown) -> None:
    assert second.report.categories == 1005
    head = second.report.head
    assert head is not None
    assert head.random_projection == DIMENSIONS
    assert share_right(second, photos, "rot", "gruen", "blau") > 0.9
    later = Path(second.run.categories.images)
    assert share_right(second, later, "gelb", "lila") > 0.9
    for before, after in zip(stored_head(first.version), stored_head(second.version), strict=True):
        assert before[..., :1000].tobytes() == after[..., :1000].tobytes()
