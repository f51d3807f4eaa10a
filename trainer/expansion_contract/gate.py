"""May this report be published? Pure: the operator and the command line ask the same question of the same numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

from expansion_contract.intervals import wilson
from expansion_contract.report import BaseDrop, Metrics, Proportion, RunReport
from expansion_contract.resource import Acceptance


@dataclass(frozen=True, kw_only=True)
class Check:
    """One threshold against one number."""

    path: str
    passed: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    accepted: bool
    checks: tuple[Check, ...]

    @property
    def message(self) -> str:
        """What failed; if nothing did, what was compared."""
        failed = [check.message for check in self.checks if not check.passed]
        return (
            " ".join(failed or [check.message for check in self.checks])
            or "No threshold is set in spec.acceptance."
        )


def verdict(report: RunReport, acceptance: Acceptance) -> Verdict:
    """Raises ValueError for a report without metrics: a failed run has nothing to accept."""
    if report.metrics is None:
        raise ValueError(f"Run {report.run_id} has no metrics: it {report.outcome.lower()}.")
    checks = tuple(_checks(report.metrics, acceptance))
    return Verdict(accepted=all(check.passed for check in checks), checks=checks)


def _checks(metrics: Metrics, acceptance: Acceptance) -> Iterable[Check]:
    confidence = acceptance.confidence
    if acceptance.minimum_accuracy is not None:
        yield _at_least(
            "minimumAccuracy", "Accuracy", metrics.overall, acceptance.minimum_accuracy, confidence
        )
    if acceptance.minimum_new_category_accuracy is not None:
        threshold = acceptance.minimum_new_category_accuracy
        yield _at_least(
            "minimumNewCategoryAccuracy", "New-category accuracy", metrics.new, threshold, confidence
        )
    if acceptance.maximum_base_accuracy_drop is not None and metrics.base_drop is not None:
        yield _drop(metrics.base_drop, acceptance.maximum_base_accuracy_drop, confidence)
    if acceptance.minimum_category_recall is not None:
        yield from _recalls(metrics, acceptance.minimum_category_recall, confidence)


def _at_least(field: str, what: str, figure: Proportion, threshold: float, confidence: float | None) -> Check:
    path = f"spec.acceptance.{field}"
    if figure.n == 0:
        return Check(
            path=path,
            passed=False,
            message=f"{what} was not measured (no test images), {path} asks for {threshold:.3f}.",
        )
    bound = (
        wilson(figure.hits, figure.n, 2 * confidence - 1)[0]
        if confidence and confidence > 0.5
        else figure.value
    )
    passed = bound >= threshold
    bounded = f", at least {bound:.3f} with {confidence:.0%} confidence" if confidence else ""
    message = f"{what} {figure.value:.3f} (n={figure.n}{bounded}) is {'not ' * (not passed)}at least {path} {threshold:.3f}."
    return Check(path=path, passed=passed, message=message)


def _drop(drop: BaseDrop, threshold: float, confidence: float | None) -> Check:
    path = "spec.acceptance.maximumBaseAccuracyDrop"
    bound = _most(drop, confidence) if confidence and confidence > 0.5 else drop.value
    passed = bound <= threshold
    how = "measured" if drop.measured else "estimated"
    bounded = f", at most {bound:.4f} with {confidence:.0%} confidence" if confidence else ""
    message = (
        f"Base accuracy drop {drop.value:.4f} ({how} on {drop.n} {drop.source} images{bounded}) is"
        f" {'not ' * (not passed)}at most {path} {threshold:.4f}."
    )
    return Check(path=path, passed=passed, message=message)


def _most(drop: BaseDrop, confidence: float) -> float:
    """What the drop is at most. Steals alone, without an answer before, are a share like any other."""
    if drop.paired is not None:
        return drop.paired.interval(2 * confidence - 1)[1]
    return max(drop.value, wilson(max(drop.lost, 0), drop.n, 2 * confidence - 1)[1])


def _recalls(metrics: Metrics, threshold: float, confidence: float | None) -> Iterable[Check]:
    measured = [score for score in metrics.categories if score.recall is not None and score.recall.n > 0]
    if not measured:
        yield _at_least(
            "minimumCategoryRecall", "Category recall", Proportion.of(0, 0), threshold, confidence
        )
        return
    worst = min(measured, key=lambda score: (score.recall.value if score.recall else 1.0, score.name))
    assert worst.recall is not None
    yield _at_least(
        "minimumCategoryRecall",
        f"Recall of {worst.name!r}, the worst category,",
        worst.recall,
        threshold,
        confidence,
    )
