"""Promises about new categories that the base knows already: refused early, merged, replaced; and about pictures of nothing it knows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from skimage import data
from test_chain import Grown, expansion, photograph

from expansion_contract.report import RunReport
from expansion_trainer.dataset.overlap import CategoryOverlap
from expansion_trainer.export.loaded_model import LoadedModel, stored_categories, stored_head
from expansion_trainer.failure import reason

pytestmark = pytest.mark.tensorflow
Grow = Callable[..., Grown]


def variants(picture: Image.Image, count: int) -> list[Image.Image]:
    """One photograph, cut and lit in many ways."""
    random = np.random.default_rng(7)
    found = []
    for _ in range(count):
        left, top = (int(random.integers(0, 30)) for _ in range(2))
        cut = picture.crop((left, top, picture.width - int(random.integers(0, 30)), picture.height - top))
        found.append(ImageEnhance.Brightness(cut).enhance(float(random.uniform(0.8, 1.2))))
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`kaffee` is what ImageNet calls espresso; `rot` and `blau` are striped."""
    folder = photograph(tmp_path_factory.mktemp("photos"), "rot", "blau")
    (folder / "kaffee").mkdir()
    for index, picture in enumerate(variants(Image.fromarray(data.coffee()), 24)):
        picture.save(folder / "kaffee" / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def grow(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Grow:
    place = tmp_path_factory.mktemp("overlaps")

    def grow(name: str, on_overlap: str = "KeepBoth", **spec: Any) -> Grown:
        # Neighbouring colours are the nearest thing to one another: only the coffee is the subject here.
        overlaps = [{"category": "kaffee", "onOverlap": on_overlap}]
        categories = {"images": str(photos), "onOverlap": "KeepBoth", "overlaps": overlaps}
        categories |= spec.pop("categories", {})
        asked = expansion(place, name, photos, categories=categories, **spec)
        return Grown(asked, tmp_path_factory.mktemp("scratch"))

    return grow


def best(version: Path, picture: Path) -> str:
    return LoadedModel(version).answers([picture.read_bytes()])[0].names[0]


def test_what_the_base_knows_is_refused_before_the_images_are_computed(grow: Grow) -> None:
    with pytest.raises(CategoryOverlap, match=r"'kaffee' -> 'espresso' \(.*% of 24 images") as refused:
        grow("refused", "Refuse")
    assert reason(refused.value) == "CategoryOverlap"


@pytest.fixture(scope="module")
def merged(grow: Grow) -> Grown:
    return grow("merged", "Merge")


def test_a_merged_category_answers_with_the_bases_name(merged: Grown, photos: Path) -> None:
    assert best(merged.version, photos / "kaffee" / "3.png") == "espresso"
    listed = stored_categories(merged.version)
    (espresso,) = (category.index for category in listed[:1000] if category.name == "espresso")
    (alias,) = (category for category in listed if category.alias_of is not None)
    assert (alias.name, alias.alias_of) == ("espresso", espresso)


def test_merging_leaves_the_pretrained_rows_alone(merged: Grown, grow: Grow) -> None:
    kept = grow("kept", "KeepBoth")
    for one, other in zip(stored_head(merged.version), stored_head(kept.version), strict=True):
        assert one[..., :1000].tobytes() == other[..., :1000].tobytes()


@pytest.fixture(scope="module")
def replaced(grow: Grow) -> Grown:
    return grow("replaced", "Replace")


def test_a_replacing_category_answers_and_the_bases_never_does(replaced: Grown, photos: Path) -> None:
    version = replaced.version
    assert best(version, photos / "kaffee" / "3.png") == "kaffee"
    (espresso,) = (c for c in stored_categories(version) if c.name == "espresso")
    assert espresso.state == "replaced"
    probabilities = LoadedModel(version).probabilities([(photos / "kaffee" / "3.png").read_bytes()])
    assert probabilities[0, espresso.index] == 0
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)


def test_the_report_names_the_overlap_and_what_was_done_about_it(merged: Grown) -> None:
    report: RunReport = merged.report
    (found,) = (one for one in report.overlaps if one.category == "kaffee")
    assert (found.known, found.action, found.share.n) == ("espresso", "Merge", 24)
    assert {finding.reason for finding in report.findings} >= {"CategoryOverlap"}


# Pictures of nothing it knows


def grey(level: int, random: np.random.Generator) -> Image.Image:
    """A wall, say."""
    wall = np.full((64, 64, 3), level, np.uint8)
    return Image.fromarray(wall + random.integers(0, 12, wall.shape, np.uint8))


@pytest.fixture(scope="module")
def with_unknown(grow: Grow, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    folder = tmp_path_factory.mktemp("background")
    random = np.random.default_rng(3)
    for index in range(40):
        grey(int(random.integers(40, 200)), random).save(folder / f"{index}.png")
    spec = {"unknown": {"coveragePercent": 90, "inAnswers": True}}
    return grow("unknown", "KeepBoth", categories={"unknownImages": str(folder)}, training=spec)


def test_background_pictures_become_a_category_named_unknown(with_unknown: Grown) -> None:
    assert [c.name for c in stored_categories(with_unknown.version)[1000:]] == [
        "blau",
        "kaffee",
        "rot",
        "unknown",
    ]


def test_a_picture_of_the_background_is_answered_with_unknown(with_unknown: Grown, tmp_path: Path) -> None:
    for level in (50, 120, 190):
        grey(level, np.random.default_rng(level)).save(tmp_path / "wall.png")
        assert best(with_unknown.version, tmp_path / "wall.png") == "unknown"


def test_every_answer_says_how_known_its_picture_is(with_unknown: Grown, photos: Path) -> None:
    answer = LoadedModel(with_unknown.version).answers([(photos / "rot" / "1.png").read_bytes()])[0]
    assert answer.outcome in {"known", "unsure", "unknown"}
    assert with_unknown.report.metrics is not None
    assert with_unknown.report.metrics.unknown is not None
    assert with_unknown.report.metrics.unknown.coverage == pytest.approx(0.9)
