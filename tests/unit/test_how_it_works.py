"""Promises about docs/how-it-works.md: its diagrams are what the script draws, its links lead somewhere, its plots are measured ones."""

import re
from pathlib import Path

import pytest

from expansion_benchmarks.diagrams import DIAGRAMS, drawn
from expansion_benchmarks.documents import BLOCK, BLOCKS, DOCUMENTS, PICTURES, filled

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-it-works.md"


@pytest.mark.parametrize("name", DIAGRAMS)
def test_a_diagram_is_what_the_script_draws(name: str) -> None:
    assert (ROOT / "docs" / f"{name}.svg").read_text() == drawn(DIAGRAMS[name]), "make diagrams"


def test_every_link_and_picture_of_the_page_is_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert len(targets) > 5
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", PAGE.read_text())
    trainer = ROOT / "trainer" / "expansion_trainer"
    assert len(named) > 15
    assert [name for name in named if name != "retrain.py" and not (trainer / name).exists()] == []


def test_every_marked_place_is_filled_by_the_benchmarks() -> None:
    marks = BLOCK.findall(PAGE.read_text())
    assert {name for _, name, _ in marks} <= BLOCKS.keys() | PICTURES.keys()
    assert f"docs/{PAGE.name}" in DOCUMENTS


def test_a_plot_is_shown_once_it_is_drawn_and_what_stood_there_stays_until_then(tmp_path: Path) -> None:
    page = "<!-- measured: picture-many -->\nLater.\n<!-- end -->\n"
    assert filled(page, tmp_path, tmp_path) == page
    (tmp_path / "many.svg").touch()
    assert "\n![Accuracy over the number of new categories" in (now := filled(page, tmp_path, tmp_path))
    assert "Later." not in now
    assert filled(now, tmp_path, tmp_path) == now
