"""Valid values to start from; each test changes the one thing that matters."""

from typing import Any

from expansion_contract.report import BaseDrop, CategoryScore, Metrics, Proportion, RunReport
from expansion_contract.resource import ClassifierExpansion, parsed


def body(name: str = "flowers", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "team", "uid": "u1"},
        "spec": {
            "categories": {"images": "s3://photos/flowers/"},
            "output": {"models": "s3://models/flowers/"},
            **spec,
            "serving": {"replicas": 2, **spec.get("serving", {})},
        },
    }


def expansion(name: str = "flowers", **spec: Any) -> ClassifierExpansion:
    return parsed(body(name, **spec))


def metrics(**changes: Any) -> Metrics:
    values: dict[str, Any] = {
        "overall": Proportion.of(950, 1000),
        "new": Proportion.of(95, 100),
        "new_closed": Proportion.of(96, 100),
        "new_top5": Proportion.of(100, 100),
        "base_drop": BaseDrop(
            measured=True, source="replay", lost=4, n=1000, value=0.004, low=0.001, high=0.01
        ),
        "categories": [
            CategoryScore(
                name="rose",
                training_images=80,
                validation_images=10,
                test_images=50,
                recall=Proportion.of(40, 50),
            ),
            CategoryScore(
                name="tulip",
                training_images=80,
                validation_images=10,
                test_images=50,
                recall=Proportion.of(49, 50),
            ),
        ],
    }
    return Metrics(**{**values, **changes})


def report(**changes: Any) -> RunReport:
    values: dict[str, Any] = {
        "run_id": "0123456789abcdef",
        "outcome": "Succeeded",
        "started_at": "2026-11-22T10:00:00Z",
        "finished_at": "2026-11-22T10:05:00Z",
        "metrics": metrics(),
    }
    return RunReport(**{**values, **changes})
