import pytest
from contract_values import metrics, report
from hypothesis import given
from hypothesis import strategies as st

from expansion_contract.gate import verdict
from expansion_contract.intervals import wilson
from expansion_contract.report import BaseDrop, Paired, Proportion
from expansion_contract.resource import Acceptance


def accepted(**thresholds: float) -> bool:
    return verdict(report(), Acceptance(**{"maximum_base_accuracy_drop": None, **thresholds})).accepted


@pytest.mark.parametrize(
    ("threshold", "passes", "fails"),
    [
        ("minimum_accuracy", 0.95, 0.951),
        ("minimum_new_category_accuracy", 0.95, 0.96),
        ("maximum_base_accuracy_drop", 0.004, 0.003),
        ("minimum_category_recall", 0.80, 0.81),
    ],
)
def test_each_threshold_decides(threshold: str, passes: float, fails: float):
    assert accepted(**{threshold: passes})
    assert not accepted(**{threshold: fails})


def test_the_message_names_field_number_and_sample_size():
    message = verdict(report(), Acceptance(minimum_new_category_accuracy=0.99)).message
    assert (
        message
        == "New-category accuracy 0.950 (n=100) is not at least spec.acceptance.minimumNewCategoryAccuracy 0.990."
    )


def test_the_worst_category_is_named():
    message = verdict(report(), Acceptance(minimum_category_recall=0.9)).message
    assert message.startswith("Recall of 'rose', the worst category, 0.800 (n=50) is not at least")


def test_with_confidence_the_bound_is_compared():
    assert accepted(minimum_new_category_accuracy=0.94)
    assert not accepted(minimum_new_category_accuracy=0.94, confidence=0.95)
    assert accepted(minimum_new_category_accuracy=0.89, confidence=0.95)


def test_a_drop_near_the_limit_on_few_images_is_not_accepted_with_confidence():
    few = BaseDrop(measured=True, source="replay", lost=0, n=20, value=0.0, low=0.0, high=0.16)
    acceptance = Acceptance(maximum_base_accuracy_drop=0.01, confidence=0.95)
    assert not verdict(report(metrics=metrics(base_drop=few)), acceptance).accepted


def drop(before: int, after: int, both: int, n: int) -> BaseDrop:
    table = Paired(before=before, after=after, both=both, n=n)
    low, high = table.interval()
    value = (before - after) / n
    return BaseDrop(
        measured=True,
        source="replay",
        lost=before - after,
        n=n,
        value=value,
        low=low,
        high=high,
        paired=table,
    )


def test_answers_that_were_won_do_not_hide_how_unsure_the_drop_is():
    """10 lost and 10 won are a drop of 0, and no sign that the next 300 images lose none."""
    calm, restless = drop(240, 240, 240, 300), drop(240, 240, 230, 300)
    acceptance = Acceptance(maximum_base_accuracy_drop=0.02, confidence=0.95)
    assert verdict(report(metrics=metrics(base_drop=calm)), acceptance).accepted
    assert not verdict(report(metrics=metrics(base_drop=restless)), acceptance).accepted


def test_the_asked_confidence_decides_how_wide_the_paired_interval_is():
    few = drop(500, 498, 498, 648)
    at = [few.paired.interval(2 * confidence - 1)[1] for confidence in (0.8, 0.95, 0.99)]  # type: ignore[union-attr]
    assert few.value < at[0] < at[1] < at[2]
    between = Acceptance(maximum_base_accuracy_drop=(at[0] + at[1]) / 2, confidence=0.8)
    assert verdict(report(metrics=metrics(base_drop=few)), between).accepted
    stricter = between.model_copy(update={"confidence": 0.95})
    assert not verdict(report(metrics=metrics(base_drop=few)), stricter).accepted


def test_an_estimate_is_called_one():
    guess = BaseDrop(measured=False, source="procedural", lost=0, n=200, value=0.0, low=0.0, high=0.02)
    assert (
        "(estimated on 200 procedural images)"
        in verdict(report(metrics=metrics(base_drop=guess)), Acceptance()).message
    )


def test_what_was_not_measured_is_not_accepted():
    unmeasured = metrics(new=Proportion.of(0, 0))
    answer = verdict(report(metrics=unmeasured), Acceptance(minimum_new_category_accuracy=0.5))
    assert not answer.accepted
    assert "was not measured" in answer.message


def test_a_failed_run_has_no_verdict():
    with pytest.raises(ValueError, match="has no metrics: it failed"):
        verdict(report(outcome="Failed", metrics=None), Acceptance())


@given(st.integers(0, 500), st.integers(1, 500), st.floats(0.5, 0.999))
def test_an_interval_holds_its_point(hits: int, n: int, confidence: float):
    hits = min(hits, n)
    low, high = wilson(hits, n, confidence)
    assert 0 <= low <= hits / n + 1e-9
    assert hits / n - 1e-9 <= high <= 1


def test_the_interval_is_wilsons():
    low, high = wilson(90, 100)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)
