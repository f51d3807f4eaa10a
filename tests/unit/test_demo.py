"""What the demo shows and writes down."""

import io
from collections.abc import Iterator
from typing import Any

import contract_values
import pytest

from expansion_contract.report import HeadReport, Proportion
from expansion_development.demo_parts import Answer, Asked, Seconds
from expansion_development.demo_summary import Outcome, summary, table
from expansion_development.pictures import NAMES, Picture, digits, photographs
from expansion_development.watching import GaveUp, Watching, progress_of

CAT, DIGIT = Picture(name="cat.png", content=b""), Picture(name="held-out-eight.png", content=b"")
ASKED = Asked(photographs=[CAT], digit=DIGIT, truth="eight")

HEAD = HeadReport(
    solver="Softmax", l2=0.1, offset=0.0, temperature=1.0, evidence=["procedural"], base_rows_identical=True
)
REPORT = contract_values.report().model_copy(update={"head": HEAD})


def outcome(after_cat: str = "tabby", after_digit: str = "eight") -> Outcome:
    return Outcome(
        control_plane=True,
        report=REPORT,
        asked=ASKED,
        categories_before=1000,
        categories_after=1010,
        before=[Answer(name="tabby", score=0.5), Answer(name="nail", score=0.1)],
        after=[Answer(name=after_cat, score=0.5), Answer(name=after_digit, score=0.9)],
        served_version=1,
        ready=True,
    )


def test_the_summary_holds_what_others_read() -> None:
    content = summary(outcome(), Seconds())
    metrics = REPORT.metrics
    assert metrics is not None
    assert Proportion(**content["new_accuracy"], hits=metrics.new.hits) == metrics.new
    assert content["photographs"] == [{"name": "cat.png", "before": "tabby", "after": "tabby"}]
    expected = {"categories_before": 1000, "categories_after": 1010, "served_version": 1, "ready": True}
    assert content | expected == content
    assert content["control_plane"] is True
    assert content["base_rows_identical"] is True
    assert "total" in content["seconds"]


@pytest.mark.parametrize(
    ("changes", "remarks"),
    [
        ({}, ["as before", "learned"]),
        ({"after_cat": "eight"}, ["changed", "learned"]),
        ({"after_digit": "three"}, ["as before", "wrong: it is eight"]),
    ],
)
def test_the_table_says_whether_a_cat_is_still_a_cat(changes: dict[str, str], remarks: list[str]) -> None:
    _, *rows = table(outcome(**changes))
    assert [row.endswith(remark) for row, remark in zip(rows, remarks, strict=True)] == [True, True]


def test_the_digits_are_ten_folders_of_png_files_and_one_is_held_out() -> None:
    pictures, held_out, truth = digits()
    assert {picture.name.partition("/")[0] for picture in pictures} == set(NAMES)
    assert len(pictures) == 1796
    assert len({picture.name for picture in pictures}) == 1796
    assert pictures[0].content.startswith(b"\x89PNG")
    assert held_out.content not in {picture.content for picture in pictures}
    assert truth in held_out.name


def test_the_photographs_are_real_files() -> None:
    assert [picture.content[:4] for picture in photographs()] == [
        *(b"\x89PNG", b"\x89PNG", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0")
    ]


def seen(*conditions: tuple[str, str, str, str], generation: int = 1, **status: Any) -> dict[str, Any]:
    listed = [dict(zip(("type", "status", "reason", "message"), one, strict=True)) for one in conditions]
    return {
        "metadata": {"generation": 1},
        "status": {"observedGeneration": generation, "conditions": listed, **status},
    }


def watched(*states: dict[str, Any]) -> str:
    remaining: Iterator[dict[str, Any]] = iter(states)
    out = io.StringIO()
    Watching(lambda: next(remaining), out, started=0.0).until_ready(60)
    return out.getvalue()


def test_a_condition_is_shown_when_it_changes_and_only_then() -> None:
    training = seen(("Trained", "Unknown", "Running", "Job a trains."))
    shown = watched(training, training, seen(("Ready", "True", "Served", "Version 1 answers.")))
    assert [line[10:].split()[:3] for line in shown.splitlines()] == [
        ["Trained", "Unknown", "Running"],
        ["Ready", "True", "Served"],
        ["Trained", "gone"],
    ]


def test_ready_of_an_earlier_spec_is_not_believed() -> None:
    old = seen(("Ready", "True", "Served", "Version 1 answers."), generation=0)
    stalled = seen(("Stalled", "True", "NoCategories", "No category folders."))
    with pytest.raises(GaveUp, match="No category folders"):
        watched(old, stalled)


def test_a_run_that_has_ended_has_no_progress() -> None:
    running = {"id": "r", "stage": "bottlenecks", "percent": 40, "imagesPerSecond": "52"}
    told = progress_of(seen(run=running))
    assert told is not None
    assert (told.stage, told.percent, told.images_per_second) == ("bottlenecks", 40, 52)
    assert progress_of(seen(run={**running, "outcome": "Succeeded"})) is None
