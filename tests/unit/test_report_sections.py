"""Promises about the parts of the page that a grown model fills: bounds, pairs, calibration, unknown pictures, history."""

import re
from html import unescape

import pytest
from test_report_page import METRICS, REPORT, RUN, text_of

from expansion_contract.report import (
    Calibration,
    CalibrationError,
    Category,
    Confusion,
    CurvePoint,
    DetectorScore,
    Estimate,
    Finding,
    HeadReport,
    JointBound,
    Metrics,
    NearCategory,
    Outcomes,
    Overlap,
    Proportion,
    RunReport,
    ScoreBin,
    Threshold,
    TriedHead,
    UnknownReport,
)
from expansion_trainer.report import charts
from expansion_trainer.report.evidence import evidence_reports
from expansion_trainer.report.page import page, summary

UNKNOWN = UnknownReport(
    method="Gen",
    coverage=0.95,
    thresholds=[
        Threshold(group="base", sure=0.5, n=100, source="drawn"),
        Threshold(group="new", sure=0.41, n=78),
    ],
    tried=[
        DetectorScore(method="Gen", auroc=0.83, chosen=True),
        DetectorScore(method="Energy", auroc=0.8),
    ],
    left_out=817,
    auroc=Estimate(value=0.843, low=0.819, high=0.867, n=215),
    auroc_of="test images of new categories",
    outcomes=[
        Outcomes(group="base", known=90, unsure=6, unknown=4),
        Outcomes(group="procedural", known=10, unsure=20, unknown=70),
    ],
)
CALIBRATION = Calibration(
    overall=CalibrationError(value=0.064, floor=0.028, n=863),
    new=CalibrationError(value=0.078, floor=0.059, n=215),
    bins=[ScoreBin(score=0.3, right=0.28, n=57), ScoreBin(score=0.9, right=0.8, n=57)],
)
GROWN = METRICS.model_copy(
    update={
        "base_before": Proportion.of(745, 1000),
        "base_after": Proportion.of(744, 1000),
        "base_top5_before": Proportion.of(926, 1000),
        "base_top5_after": Proportion.of(921, 1000),
        "steals": Proportion.of(6, 648),
        "steal_pairs": [Confusion(truth="American egret", answer="ibis", count=2)],
        "misses": Proportion.of(32, 215),
        "miss_pairs": [Confusion(truth="pyramid", answer="alp", count=3)],
        "joint": JointBound(why_not="900 of 1000 base categories have fewer than 5 images."),
        "calibration": CALIBRATION,
        "unknown": UNKNOWN,
        "macro_recall": Estimate(value=0.741, low=0.706, high=0.777, n=863),
    }
)
HEAD = HeadReport(
    solver="GradientDescent",
    l2=0.0,
    offset=-0.2,
    temperature=0.9,
    evidence=["replay"],
    steal_rate_validation=0.004,
    steal_images=100,
    steal_budget=0.005,
    base_rows_identical=True,
    tried=[
        TriedHead(solver="GradientDescent", accuracy=0.83, chosen=True),
        TriedHead(solver="Softmax", l2=1e-4, accuracy=0.79),
    ],
    curve=[
        CurvePoint(step=step, training_loss=1, training_accuracy=step / 100, validation_accuracy=step / 200)
        for step in (0, 50, 100)
    ],
)


def grown(**changes: object) -> RunReport:
    return REPORT.model_copy(update={"metrics": GROWN, "head": HEAD, **changes})


def text(report: RunReport) -> str:
    return unescape(text_of(page(report, RUN, {}))).replace("\u00a0", " ")


def test_steals_and_misses_are_shown_with_what_they_took() -> None:
    shown = text(grown())
    assert "Steals: 6 of 648" in shown
    assert "American egret ibis 2" in shown
    assert "Misses: 32 of 215" in shown
    assert "pyramid alp 3" in shown


def test_calibration_stands_beside_what_so_few_images_would_show_of_perfect_scores() -> None:
    shown = text(grown())
    assert "All 6.4 % 2.8 % 863" in shown
    assert "New 7.8 % 5.9 % 215" in shown
    assert "Scores of base categories were not verified" in shown
    assert "perfect scores would show 2.8 %" in summary(grown()).replace("\u00a0", " ")


def test_the_reliability_diagram_puts_a_perfect_score_on_the_diagonal() -> None:
    (point,) = charts.reliability([ScoreBin(score=0.5, right=0.5, n=50)])
    assert (point.x - charts.ORIGIN[0], charts.ORIGIN[1] - point.y) == (125, 125)
    assert point.high < point.y < point.low, "y grows downward"


def test_unknown_pictures_say_how_well_they_are_told_and_by_which_pictures() -> None:
    shown = text(grown())
    assert "finds the unknown one in 84 % of cases (82 % to 87 %; guessing: 50 %)" in shown
    assert "The unknown ones were 215 test images of new categories" in shown
    assert "Test images of base categories 90 % · 6 % · 4 % n = 100" in shown
    assert "100 pictures drawn by a program: none of its images is held out" in shown
    assert "Gen chosen 83.0 %" in shown


def test_what_was_not_measured_of_unknown_pictures_is_said() -> None:
    blind = UNKNOWN.model_copy(update={"auroc": None, "auroc_of": ""})
    shown = text(grown(metrics=GROWN.model_copy(update={"unknown": blind})))
    assert "was not measured" in shown
    without = UnknownReport(method="", coverage=0.95, thresholds=[], why_not="No image was held out.")
    assert "No image was held out." in text(grown(metrics=GROWN.model_copy(update={"unknown": without})))


def test_before_and_after_stand_side_by_side_with_why_there_is_no_joint_bound() -> None:
    shown = text(grown())
    assert "Base, before 74.5 % n = 1000 Base, now 74.4 % n = 1000" in shown
    assert "was not computed: 900 of 1000 base categories have fewer than 5 images." in shown
    joint = JointBound(new=Proportion.of(90, 100), base=Proportion.of(740, 1000))
    shown = text(grown(metrics=GROWN.model_copy(update={"joint": joint})))
    assert "New, all rows together 90.0 %" in shown


def test_without_base_images_there_is_no_before_and_after() -> None:
    assert charts.bars(METRICS) == ()


def test_every_overlap_names_old_category_share_and_what_was_done() -> None:
    overlaps = [
        Overlap(
            category="rose",
            known="daisy",
            known_index=985,
            share=Proportion.of(17, 20),
            same_name=False,
            action="Replace",
        )
    ]
    shown = text(grown(overlaps=overlaps))
    assert "rose daisy 85 %" in shown
    assert "the old one answers never again" in shown
    assert "985 daisy replaced by rose" in shown


def test_retired_and_merged_categories_keep_their_index_on_the_page() -> None:
    listed = [
        Category(index=1000, name="gone", group="new", state="retired"),
        Category(index=1001, name="dog", group="new", alias_of=254),
        Category(index=1002, name="rose", group="new"),
    ]
    shown = text(grown(new_categories=listed))
    assert "1000 gone retired: answers never again" in shown
    assert "1001 dog merged with index 254" in shown
    assert "1002 rose" not in shown


def test_evidence_says_what_it_can_tell_and_what_it_cannot() -> None:
    used = evidence_reports({"replay": 900}, {"replay": 100}, {"procedural": 100})
    assert [(one.kind, one.training, one.calibration, one.test) for one in used] == [
        ("replay", 900, 100, 0),
        ("procedural", 0, 0, 100),
    ]
    shown = text(grown(evidence=used))
    assert "Images of base categories 900 100 0 what the base lost" in shown
    assert "they under-state steals" in shown


def test_advice_is_given_in_sentences() -> None:
    advice = "200 photographs more: about +6 points at the same drop."
    assert advice in text(grown(advice=[advice]))


def test_the_steal_budget_says_on_how_few_pictures_it_was_kept() -> None:
    shown = text(grown())
    assert (
        "0.4 % of 100 pictures of no new category are answered with one; at most 0.5 % was asked for."
        in shown
    )
    assert "So few pictures do not tell the true rate." in shown
    many = HEAD.model_copy(update={"steal_images": 50_000})
    assert "So few pictures" not in text(grown(head=many))


def test_a_fit_in_steps_shows_its_curve_and_the_heads_it_was_compared_with() -> None:
    html = page(grown(), RUN, {})
    first, second = re.findall(r'<polyline class="line ?(\w*)" points="([^"]*)"', html)
    assert first == ("", "40.0,200.0 335.0,105.0 630.0,10.0")
    assert second[0] == "second"
    assert "Softmax 1e-04 79.0 %" in text(grown())
    assert "<polyline" not in page(REPORT, RUN, {})


def test_names_cannot_write_html_anywhere() -> None:
    evil = "<script>alert(1)</script>\"'&"
    pair = Confusion(truth=evil, answer=evil, count=1)
    overlap = Overlap(
        category=evil,
        known=evil,
        known_index=1,
        share=Proportion.of(1, 1),
        same_name=True,
        action="Merge",
    )
    metrics = GROWN.model_copy(update={"steal_pairs": [pair], "miss_pairs": [pair]})
    html = page(
        grown(
            metrics=metrics,
            overlaps=[overlap],
            advice=[evil],
            new_categories=[Category(index=1000, name=evil, group="new", state="retired")],
        ),
        RUN,
        {},
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 8


@pytest.mark.parametrize("missing", ["calibration", "unknown", "joint", "misses", "macro_recall"])
def test_a_report_of_an_earlier_release_is_drawn_all_the_same(missing: str) -> None:
    metrics = Metrics.model_validate({**GROWN.model_dump(), missing: None})
    assert "Base, before" in text(grown(metrics=metrics))


def test_what_more_evidence_would_buy_stands_in_sentences_and_near_old_categories_in_a_table() -> None:
    near = [NearCategory(index=3, name="daisy", uid="n11939491", near=["sunflower", "tulip"], images=0)]
    shown = text(grown(advice=["One picture of this base category would help most."], near_base=near))
    assert "What more evidence would buy One picture of this base category would help most." in shown
    assert "daisy n11939491 sunflower, tulip 0" in shown


def test_of_many_near_old_categories_the_page_shows_the_first_and_counts_all() -> None:
    near = [NearCategory(index=i, name=f"kind{i}", near=["tulip"], images=0) for i in range(170)]
    shown = text(grown(advice=["A sentence."], near_base=near))
    assert "kind39 kind39 tulip 0" in shown
    assert "kind40" not in shown
    assert "report.json has 170 of them as nearBase." in shown


def test_what_stands_among_the_advice_is_not_said_twice() -> None:
    sentence = "One picture of this base category would help most."
    finding = Finding(severity="note", reason="PicturesWouldHelp", message=sentence)
    shown = text(grown(advice=[sentence], findings=[finding]))
    assert shown.count(sentence) == 1
    assert sentence in summary(grown(advice=[sentence], findings=[finding]))
