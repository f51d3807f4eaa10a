"""What Prometheus reads: only what is known, ratios from the status' own words, and nothing of what is gone."""

from typing import Any

import pytest
from contract_values import expansion
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from expansion_contract.resource import ClassifierExpansion, ExpansionStatus
from expansion_operator.metrics import OperatorMetrics

READY = {"type": "Ready", "status": "True", "reason": "Live", "lastTransitionTime": "2026-11-22T10:00:00Z"}
TRAINED: dict[str, Any] = {
    "observedGeneration": 1,
    "conditions": [READY],
    "dataset": {"images": 500},
    "run": {"id": "r1", "outcome": "Succeeded", "percent": 100},
    "candidate": {
        "runId": "r1",
        "accepted": True,
        "accuracy": "0.9500",
        "newCategoryAccuracy": "0.9300",
        "baseAccuracyDrop": "0.0020",
    },
    "model": {
        "version": 3,
        "runId": "r1",
        "categories": 1005,
        "uri": "s3://models/flowers/versions/3",
        "accuracy": "0.9500",
        "publishedAt": "2026-11-22T10:00:00Z",
    },
    "serving": {"version": 2},
}


def after(expansion: ClassifierExpansion, status: dict[str, Any]) -> ClassifierExpansion:
    return expansion.model_copy(update={"status": ExpansionStatus.model_validate(status)})


def series(metrics: OperatorMetrics) -> dict[str, float]:
    """`name{result}` of team/flowers, and what has no labels."""
    text = generate_latest(metrics.registry).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            if (labels.pop("namespace", "team"), labels.pop("name", "flowers")) == ("team", "flowers"):
                found[sample.name + ("{" + ",".join(labels.values()) + "}" if labels else "")] = sample.value
    return found


def test_a_trained_and_published_resource_tells_its_figures() -> None:
    metrics = OperatorMetrics()
    metrics.expansions.seen(expansion(acceptance={"minimumAccuracy": 0.75}), TRAINED)
    found = series(metrics)
    assert found["expansion_accuracy_ratio"] == 0.95
    assert found["expansion_new_category_accuracy_ratio"] == 0.93
    assert found["expansion_base_accuracy_drop_ratio"] == 0.002
    assert found["expansion_model_accuracy_ratio"] == 0.95
    assert found["expansion_accuracy_threshold_ratio"] == 0.75
    assert found["expansion_base_accuracy_drop_threshold_ratio"] == 0.01
    assert found["expansion_categories"] == 1005
    assert found["expansion_dataset_images"] == 500
    assert found["expansion_published_version"] == 3
    assert found["expansion_served_version"] == 2
    assert found["expansion_ready"] == 1
    assert found["expansion_stalled"] == 0
    assert found["expansion_last_success_timestamp_seconds"] == 1795341600


def test_what_is_not_known_has_no_series() -> None:
    metrics = OperatorMetrics()
    metrics.expansions.seen(expansion(), {"observedGeneration": 1})
    found = {name for name in series(metrics) if name.startswith("expansion_") and "operator" not in name}
    assert found == {
        "expansion_base_accuracy_drop_threshold_ratio",
        "expansion_ready",
        "expansion_stalled",
        "expansion_runs_total{Succeeded}",
        "expansion_runs_total{Failed}",
        "expansion_gate_total{Accepted}",
        "expansion_gate_total{Refused}",
    }


def test_a_refused_retraining_is_seen_beside_the_model_that_is_served() -> None:
    metrics = OperatorMetrics()
    candidate = {"runId": "r2", "accepted": False, "accuracy": "0.5000"}
    metrics.expansions.seen(after(expansion(), TRAINED), {**TRAINED, "candidate": candidate})
    found = series(metrics)
    assert found["expansion_accuracy_ratio"] == 0.5
    assert found["expansion_model_accuracy_ratio"] == 0.95
    assert found["expansion_gate_total{Refused}"] == 1


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        pytest.param({"id": "r2", "percent": 40}, 0.4, id="while it runs"),
        pytest.param({"id": "r2", "percent": 40, "outcome": "Failed"}, None, id="after it failed"),
        pytest.param({"id": "r2"}, None, id="before its first word"),
    ],
)
def test_progress_is_told_only_while_a_run_makes_some(run: dict[str, Any], expected: float | None) -> None:
    metrics = OperatorMetrics()
    metrics.expansions.seen(expansion(), {**TRAINED, "run": run})
    assert series(metrics).get("expansion_run_progress_ratio") == expected


def test_an_outcome_is_counted_once_however_often_it_is_seen() -> None:
    metrics, running = OperatorMetrics(), {**TRAINED, "run": {"id": "r1", "percent": 5}, "candidate": None}
    before = after(expansion(), running)
    metrics.expansions.seen(before, TRAINED)
    for _ in range(3):
        metrics.expansions.seen(after(expansion(), TRAINED), TRAINED)
    found = series(metrics)
    assert found["expansion_runs_total{Succeeded}"] == 1
    assert found["expansion_gate_total{Accepted}"] == 1
    failed = {**TRAINED, "run": {"id": "r2", "outcome": "Failed"}}
    metrics.expansions.seen(after(expansion(), TRAINED), failed)
    assert series(metrics)["expansion_runs_total{Failed}"] == 1


def test_what_ended_before_the_operator_started_is_not_counted_again() -> None:
    metrics = OperatorMetrics()
    metrics.expansions.seen(after(expansion(), TRAINED), TRAINED)
    assert series(metrics)["expansion_runs_total{Succeeded}"] == 0


def test_a_deleted_resource_takes_its_series_along_and_no_other() -> None:
    metrics = OperatorMetrics()
    metrics.expansions.seen(expansion(), TRAINED)
    metrics.expansions.seen(expansion("cars"), TRAINED)
    metrics.expansions.gone("team/flowers")
    text = generate_latest(metrics.registry).decode()
    assert 'name="flowers"' not in text
    assert 'expansion_accuracy_ratio{name="cars",namespace="team"} 0.95' in text


def test_no_series_carries_more_labels_than_namespace_and_name() -> None:
    metrics = OperatorMetrics()
    metrics.expansions.seen(expansion(), TRAINED)
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    assert labels <= {"namespace", "name", "result", "le", "kind"}


def test_the_operator_tells_of_itself() -> None:
    metrics = OperatorMetrics(depth=lambda: 3, watchers=lambda: {"jobs": True, "deployments": False})
    metrics.took(0.2)
    metrics.failed()
    found = series(metrics)
    assert found["expansion_operator_queue_depth"] == 3
    assert found["expansion_operator_watcher_up{jobs}"] == 1
    assert found["expansion_operator_watcher_up{deployments}"] == 0
    assert found["expansion_operator_reconcile_seconds_count"] == 1
    assert found["expansion_operator_reconcile_errors_total"] == 1
