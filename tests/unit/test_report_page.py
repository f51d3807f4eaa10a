"""Promises about the page that people read."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from expansion_contract.report import (
    BaseDrop,
    Category,
    CategoryScore,
    Confusion,
    DatasetReport,
    Environment,
    File,
    Finding,
    HeadReport,
    Metrics,
    Misclassified,
    Proportion,
    Quarantined,
    RunReport,
)
from expansion_contract.resource import Categories, Mode, Pretrained, Split, Training
from expansion_contract.run import Owner, TrainingRun
from expansion_trainer.report.page import (
    FINDINGS,
    THUMBNAILS,
    page,
    percent,
    seconds,
    summary,
    thumbnail,
    worst_first,
)

RUN = TrainingRun(
    run_id="0123456789abcdef",
    owner=Owner(namespace="default", name="digits"),
    mode=Mode.EXPAND,
    base=Pretrained(architecture="EfficientNetLite0"),
    categories=Categories(images="s3://photos/digits/"),
    split=Split(),
    training=Training(),
    dataset_digest=f"sha256:{'d' * 64}",
    output="s3://models/digits/",
    cache="s3://models/bottleneck-cache/",
)


def score(name: str, hits: int, n: int) -> CategoryScore:
    return CategoryScore(
        name=name,
        training_images=140,
        validation_images=18,
        test_images=n,
        recall=Proportion.of(hits, n) if n else None,
        precision=Proportion.of(hits, n + 1),
    )


METRICS = Metrics(
    overall=Proportion.of(320, 342),
    new=Proportion.of(330, 342),
    new_closed=Proportion.of(331, 342),
    new_top5=Proportion.of(342, 342),
    base_drop=BaseDrop(
        measured=False, source="procedural", lost=1, n=200, value=0.005, low=0.001, high=0.028
    ),
    calibration_error=0.021,
    categories=[score("three", 30, 36), score("one", 36, 36), score("eight", 29, 38), score("two", 0, 0)],
)
REPORT = RunReport(
    run_id=RUN.run_id,
    outcome="Succeeded",
    started_at="2026-01-01T00:00:00Z",
    finished_at="2026-01-01T00:01:09Z",
    seconds={"Scan": 0.4, "Bottlenecks": 52.1, "Head": 11.3, "Export": 14.2},
    environment=Environment(trainer="0.1.0", tensorflow="2.21.0", device="CPU", precision="float32"),
    backbone="EfficientNetLite0",
    backbone_digest="b" * 64,
    findings=[
        Finding(severity="note", reason="FewImages", message="Fewer than 100 images: 'three' (80)."),
        Finding(severity="error", reason="CategoryUnreadable", message="No image of 'nine' can be read."),
        Finding(severity="warning", reason="UndecodableImages", message="2 of 1797 images cannot be read."),
    ],
    dataset=DatasetReport(
        digest=RUN.dataset_digest,
        images=1797,
        new_categories=4,
        training_images=1258,
        validation_images=180,
        test_images=342,
        quarantined=[Quarantined(key="s3://photos/digits/nine/a.jpg", why="a text file")],
        duplicates=3,
    ),
    head=HeadReport(
        solver="Softmax",
        l2=0.003,
        offset=-0.21,
        temperature=0.93,
        scale=1.31,
        evidence=["procedural"],
        base_rows_identical=True,
    ),
    metrics=METRICS,
    confusions=[
        Confusion(truth="eight", answer="one", count=5),
        Confusion(truth="three", answer="eight", count=9),
    ],
    misclassified=[Misclassified(key="eight/7.png", truth="eight", answer="one", score=0.71)],
    categories=1004,
    new_categories=[
        Category(index=1000 + i, name=n, group="new") for i, n in enumerate(["eight", "one", "three", "two"])
    ],
    files=[File(path="saved_model.pb", size=1234567, sha256="a" * 64)],
)


def picture(width: int = 40, height: int = 30) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(out, "PNG")
    return out.getvalue()


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.S)))


def test_the_headline_numbers_come_with_interval_and_count() -> None:
    text = text_of(page(REPORT, RUN, {})).replace("\u00a0", " ")
    assert "1000 categories became 1004" in text
    assert "96.5 %" in text
    assert "94.0 % to 98.0 %, n = 342" in text


def test_an_estimated_drop_never_reads_like_a_measured_one() -> None:
    text = text_of(page(REPORT, RUN, {}))
    assert "Base accuracy lost, estimated" in text
    assert "pictures drawn by a program are now answered with a new category" in text
    measured = METRICS.model_copy(
        update={"base_drop": METRICS.base_drop.model_copy(update={"measured": True, "source": "replay"})}
    )  # type: ignore[union-attr]
    assert "estimated" not in text_of(page(REPORT.model_copy(update={"metrics": measured}), RUN, {}))


def test_base_accuracy_stands_before_and_after() -> None:
    metrics = METRICS.model_copy(
        update={"base_before": Proportion.of(79, 100), "base_after": Proportion.of(78, 100)}
    )
    text = text_of(page(REPORT.model_copy(update={"metrics": metrics}), RUN, {})).replace("\u00a0", " ")
    assert "79.0 % → 78.0 %" in text


def test_how_sure_the_answers_were_made_is_named() -> None:
    assert "temperature 0.930, scale 1.310" in text_of(page(REPORT, RUN, {}))


def test_errors_come_before_warnings_before_notes() -> None:
    text = text_of(page(REPORT, RUN, {}))
    assert text.index("CategoryUnreadable") < text.index("UndecodableImages") < text.index("FewImages")


def test_many_findings_unfold_and_none_is_lost() -> None:
    many = [Finding(severity="note", reason="X", message=f"number {i}.") for i in range(FINDINGS + 3)]
    html = page(REPORT.model_copy(update={"findings": many}), RUN, {})
    assert "<summary>3 more</summary>" in html
    assert all(finding.message in html for finding in many)
    assert "Worth knowing" in html


def test_without_base_images_no_figure_pretends_to_cover_the_base() -> None:
    assert "All test images" not in text_of(page(REPORT, RUN, {}))
    metrics = METRICS.model_copy(
        update={"base_before": Proportion.of(79, 100), "base_after": Proportion.of(79, 100)}
    )
    assert "All test images" in text_of(page(REPORT.model_copy(update={"metrics": metrics}), RUN, {}))


def test_the_weakest_category_comes_first_and_the_unmeasured_last() -> None:
    assert [category.name for category in worst_first(METRICS.categories)] == ["eight", "three", "one", "two"]
    assert "not measured: no test image" in text_of(page(REPORT, RUN, {}))


def test_names_cannot_write_html() -> None:
    evil = "<script>alert(1)</script>\"'&"
    report = REPORT.model_copy(
        update={
            "metrics": METRICS.model_copy(update={"categories": [score(evil, 1, 2)]}),
            "confusions": [Confusion(truth=evil, answer=evil, count=1)],
            "misclassified": [Misclassified(key=evil, truth=evil, answer=evil, score=0.5)],
            "findings": [Finding(severity="note", reason="X", message=evil)],
            "reason": evil,
        }
    )
    html = page(report, RUN, {evil: thumbnail(picture()) or ""})
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 6


class References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "data", "action"}]
        if tag in {"script", "link", "iframe"}:
            self.found.append(tag)


def test_the_page_asks_for_nothing_from_anywhere() -> None:
    html = page(REPORT, RUN, {"eight/7.png": thumbnail(picture()) or ""})
    references = References()
    references.feed(html)
    assert len(references.found) == 1
    assert references.found[0].startswith("data:image/jpeg;base64,")
    assert "url(" not in html
    assert "@import" not in html


def test_a_misclassified_image_is_shown_with_truth_answer_and_score() -> None:
    html = page(REPORT, RUN, {"eight/7.png": thumbnail(picture()) or ""})
    assert "is eight answered one 71 %" in re.sub(r"\s+", " ", text_of(html).replace("\u00a0", " "))


def test_no_more_images_are_shown_than_fit_a_page() -> None:
    many = [Misclassified(key=str(i), truth="a", answer="b", score=0.5) for i in range(40)]
    small = thumbnail(picture()) or ""
    html = page(REPORT.model_copy(update={"misclassified": many}), RUN, {miss.key: small for miss in many})
    assert html.count("<img") == THUMBNAILS
    assert f"{THUMBNAILS} of 40" in text_of(html)


def test_a_failed_run_has_a_page_that_says_why() -> None:
    failed = RunReport(
        run_id=RUN.run_id,
        outcome="Failed",
        reason="BadDataset",
        message="No image of 'nine' can be read. Replace them.",
        started_at="2026-01-01T00:00:00Z",
        finished_at="2026-01-01T00:00:02Z",
    )
    text = text_of(page(failed, RUN, {}))
    assert "this run failed" in text
    assert "BadDataset No image of &#39;nine&#39; can be read. Replace them." in text


def test_mode_replace_speaks_of_no_base() -> None:
    run = RUN.model_copy(update={"mode": Mode.REPLACE})
    metrics = METRICS.model_copy(update={"base_drop": None})
    head = REPORT.head.model_copy(update={"evidence": [], "base_rows_identical": False})  # type: ignore[union-attr]
    text = text_of(
        page(REPORT.model_copy(update={"metrics": metrics, "head": head, "categories": 4}), run, {})
    )
    assert "digits: 4 categories" in text
    assert "old categories" not in text
    assert "Base accuracy" not in text


@pytest.mark.parametrize("image", [b"", b"no image", picture()[:200]], ids=["empty", "text", "truncated"])
def test_an_unreadable_image_has_no_thumbnail(image: bytes) -> None:
    assert thumbnail(image) is None


def test_a_thumbnail_is_small_however_large_the_image_is() -> None:
    assert len(thumbnail(picture(2000, 1500)) or "") < 33_000


@pytest.mark.parametrize(
    ("value", "text"), [(0.42, "0.4 s"), (59.9, "1 min 00 s"), (69.0, "1 min 09 s"), (3700.0, "1 h 01 min")]
)
def test_durations_read_naturally(value: float, text: str) -> None:
    assert seconds(value).replace("\u00a0", " ") == text


def test_percentages_round_to_a_tenth() -> None:
    assert percent(0.94736).replace("\u00a0", " ") == "94.7 %"


def test_the_text_summary_names_the_weakest_categories_and_every_finding() -> None:
    text = summary(REPORT)
    assert "Weakest: eight 76.3 % (n = 38)" in text
    assert "error: No image of 'nine' can be read." in text


def test_the_page_is_one_small_file(tmp_path: Path) -> None:
    assert len(page(REPORT, RUN, {}).encode()) < 30_000
