"""The agent's numbers for Prometheus. A version that is not there has no series, rather than the number 0."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(kw_only=True, eq=False)  # a registry wants it hashable
class Numbers:
    live_version: int | None = None
    desired_version: int | None = None
    download_seconds: float | None = None  # of the last download that succeeded
    load_seconds: float | None = (
        None  # from the config to live, of the last version: both loads, where it was checked aside
    )
    golden_mismatches: int = 0
    errors: int = 0

    def collect(self) -> Iterator[Metric]:
        gauges = (
            ("live_version", "The version that is loaded, verified and checked.", self.live_version),
            ("desired_version", "The version that serving.json names.", self.desired_version),
            ("download_seconds", "How long the last download took.", self.download_seconds),
            (
                "load_seconds",
                "How long the model server took to load the last version, checks included.",
                self.load_seconds,
            ),
        )
        for name, meaning, value in gauges:
            gauge = GaugeMetricFamily(f"model_sync_{name}", meaning)
            if value is not None:
                gauge.add_metric([], value)
            yield gauge
        counters = (
            (
                "golden_mismatches",
                "Versions whose answers differed from the trainer's.",
                self.golden_mismatches,
            ),
            ("errors", "Steps that failed: reading, downloading, loading, checking.", self.errors),
        )
        for name, meaning, count in counters:
            yield CounterMetricFamily(f"model_sync_{name}", meaning, value=count)

    def page(self) -> bytes:
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)
