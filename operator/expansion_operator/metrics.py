"""What Prometheus sees, computed at scrape time from the last status of each resource.

What is not known has no series (a model that was never trained has no accuracy, not 0); a deleted resource's series go with it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from expansion_contract.resource import ClassifierExpansion, ExpansionSpec, ExpansionStatus

LABELS = ["namespace", "name"]
RUN_RESULTS = ("Succeeded", "Failed")
GATE_RESULTS = ("Accepted", "Refused")
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The last word on one resource."""

    spec: ExpansionSpec
    status: ExpansionStatus


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """Numbers alone: a thousand parsed resources would not fit into our memory. Counts are since the operator started."""

    gauges: tuple[float | None, ...]  # as _GAUGES
    runs: tuple[int, ...] = (0,) * len(RUN_RESULTS)
    gates: tuple[int, ...] = (0,) * len(GATE_RESULTS)


Read = Callable[[Seen], float | None]


@dataclass(frozen=True, kw_only=True)
class _Gauge:
    name: str
    help: str
    read: Read


def _of(part: str, field_name: str) -> Callable[[Seen], Any]:
    """A field of a part of the status that may not be there."""

    def read(seen: Seen) -> Any:
        found = getattr(seen.status, part)
        return None if found is None else getattr(found, field_name)

    return read


def _ratio(part: str, field_name: str) -> Read:
    """Ratios stand in a status as decimal strings."""
    text = _of(part, field_name)
    return lambda seen: None if text(seen) is None else float(text(seen))


def _threshold(field_name: str) -> Read:
    return lambda seen: getattr(seen.spec.acceptance, field_name)


def _holds(kind: str) -> Read:
    """1 or 0; an absent abnormal condition does not hold."""
    return lambda seen: float(any(c.type == kind and c.status == "True" for c in seen.status.conditions))


def _progress(seen: Seen) -> float | None:
    """Only while it runs: a finished run's last progress is nobody's."""
    run = seen.status.run
    return run.percent / 100 if run and run.outcome is None and run.percent is not None else None


def _last_success(seen: Seen) -> float | None:
    published = [entry.at for entry in seen.status.history if entry.outcome == "Published" and entry.at]
    if seen.status.model and seen.status.model.published_at:
        published.append(seen.status.model.published_at)
    return max((datetime.fromisoformat(at).timestamp() for at in published), default=None)


_OF_CANDIDATE = "of the newest evaluated candidate of the current spec, published or refused"
_OF_MODEL = "of the newest published model"
_GAUGES = (
    _Gauge(
        name="expansion_accuracy_ratio",
        help=f"Accuracy on all test images, {_OF_CANDIDATE}.",
        read=_ratio("candidate", "accuracy"),
    ),
    _Gauge(
        name="expansion_new_category_accuracy_ratio",
        help=f"Accuracy on test images of new categories, {_OF_CANDIDATE}.",
        read=_ratio("candidate", "new_category_accuracy"),
    ),
    _Gauge(
        name="expansion_base_accuracy_ratio",
        help=f"Accuracy on base images after the expansion, {_OF_CANDIDATE}. Absent without base images.",
        read=_ratio("candidate", "base_accuracy"),
    ),
    _Gauge(
        name="expansion_base_accuracy_drop_ratio",
        help=f"Accuracy the base categories lost, {_OF_CANDIDATE}. An estimate without base images.",
        read=_ratio("candidate", "base_accuracy_drop"),
    ),
    _Gauge(
        name="expansion_model_accuracy_ratio",
        help=f"Accuracy on all test images, {_OF_MODEL}.",
        read=_ratio("model", "accuracy"),
    ),
    _Gauge(
        name="expansion_accuracy_threshold_ratio",
        help="spec.acceptance.minimumAccuracy, where it is set.",
        read=_threshold("minimum_accuracy"),
    ),
    _Gauge(
        name="expansion_new_category_accuracy_threshold_ratio",
        help="spec.acceptance.minimumNewCategoryAccuracy, where it is set.",
        read=_threshold("minimum_new_category_accuracy"),
    ),
    _Gauge(
        name="expansion_base_accuracy_drop_threshold_ratio",
        help="spec.acceptance.maximumBaseAccuracyDrop, where it is set.",
        read=_threshold("maximum_base_accuracy_drop"),
    ),
    _Gauge(
        name="expansion_categories",
        help=f"Base and new categories {_OF_MODEL}.",
        read=_of("model", "categories"),
    ),
    _Gauge(
        name="expansion_dataset_images",
        help="Images of new categories in storage.",
        read=_of("dataset", "images"),
    ),
    _Gauge(
        name="expansion_run_progress_ratio",
        help="How far the current run is; absent when none runs.",
        read=_progress,
    ),
    _Gauge(
        name="expansion_ready",
        help="1 if a model of the latest spec and images is served.",
        read=_holds("Ready"),
    ),
    _Gauge(
        name="expansion_stalled",
        help="1 if only a person can help: see the condition Stalled.",
        read=_holds("Stalled"),
    ),
    _Gauge(
        name="expansion_published_version",
        help="The newest published version of the current spec and images.",
        read=_of("model", "version"),
    ),
    _Gauge(
        name="expansion_served_version",
        help="The version the model servers answer with.",
        read=_of("serving", "version"),
    ),
    _Gauge(
        name="expansion_last_success_timestamp_seconds",
        help="When a model was last published.",
        read=_last_success,
    ),
)


class Expansions(Collector):
    """The resources' series. Fed by the reconciler after every status."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def seen(self, expansion: ClassifierExpansion, status: dict[str, Any]) -> None:
        """`expansion` as it was read, `status` as it was written."""
        before, now = expansion.status, ExpansionStatus.model_validate(status)
        known, seen = self._kept.get(expansion.key), Seen(spec=expansion.spec, status=now)
        known = known or _Kept(gauges=())
        self._kept[expansion.key] = _Kept(
            gauges=tuple(gauge.read(seen) for gauge in _GAUGES),
            runs=_raised(known.runs, RUN_RESULTS, _ended(before, now)),
            gates=_raised(known.gates, GATE_RESULTS, _judged(before, now)),
        )

    def gone(self, key: str) -> None:
        self._kept.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        everything = sorted(self._kept.items())
        for number, gauge in enumerate(_GAUGES):
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=LABELS)
            for key, kept in everything:
                if (value := kept.gauges[number]) is not None:
                    family.add_metric(key.split("/", 1), value)
            yield family
        runs = [(key, kept.runs) for key, kept in everything]
        gates = [(key, kept.gates) for key, kept in everything]
        yield _counted("expansion_runs", "Runs that ended.", runs, RUN_RESULTS)
        yield _counted("expansion_gate", "Candidates compared with spec.acceptance.", gates, GATE_RESULTS)


def _ended(before: ExpansionStatus, now: ExpansionStatus) -> list[str]:
    """The outcome of a run that this status is the first to know."""
    if now.run is None or now.run.outcome is None:
        return []
    known = before.run is not None and (before.run.id, before.run.outcome) == (now.run.id, now.run.outcome)
    return [] if known else [now.run.outcome]


def _judged(before: ExpansionStatus, now: ExpansionStatus) -> list[str]:
    """A verdict that this status is the first to know; another threshold may turn it."""
    if now.candidate is None:
        return []
    verdict = (now.candidate.run_id, now.candidate.accepted)
    known = before.candidate is not None and (before.candidate.run_id, before.candidate.accepted) == verdict
    return [] if known else ["Accepted" if now.candidate.accepted else "Refused"]


def _raised(counts: tuple[int, ...], results: tuple[str, ...], new: list[str]) -> tuple[int, ...]:
    return tuple(count + new.count(result) for count, result in zip(counts, results, strict=True))


def _counted(
    name: str, text: str, counts: Iterable[tuple[str, tuple[int, ...]]], results: tuple[str, ...]
) -> CounterMetricFamily:
    """With zeros, so that the first failure is an increase."""
    family = CounterMetricFamily(name, text, labels=[*LABELS, "result"])
    for key, counted in counts:
        for result, count in zip(results, counted, strict=True):
            family.add_metric([*key.split("/", 1), result], count)
    return family


@dataclass(kw_only=True)
class OperatorMetrics:
    """The operator's own health. `depth`, `watchers` and `leads` are asked at scrape time."""

    depth: Callable[[], int] = lambda: 0
    watchers: Callable[[], dict[str, bool]] = dict
    leads: Callable[[], bool] = lambda: True
    expansions: Expansions = field(default_factory=Expansions)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self._seconds = Histogram(
            "expansion_operator_reconcile_seconds",
            "Seconds of one reconciliation.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._errors = PrometheusCounter(
            "expansion_operator_reconcile_errors",
            "Reconciliations that failed unexpectedly and are tried again.",
            registry=self.registry,
        )
        self.registry.register(self.expansions)
        self.registry.register(_Live(self))

    def took(self, seconds: float) -> None:
        self._seconds.observe(seconds)

    def failed(self) -> None:
        self._errors.inc()


class _Live(Collector):
    def __init__(self, metrics: OperatorMetrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Metric]:
        """Nothing to ask yet when it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("expansion_operator_queue_depth", "Resources that wait for a worker.")
        depth.add_metric([], self._metrics.depth())
        yield depth
        watchers = GaugeMetricFamily(
            "expansion_operator_watcher_up", "1 if changes of this kind are being watched.", labels=["kind"]
        )
        for kind, up in sorted(self._metrics.watchers().items()):
            watchers.add_metric([kind], float(up))
        yield watchers
        yield GaugeMetricFamily(
            "expansion_operator_leader",
            "1 if this operator acts; 0 if it waits for the Lease.",
            value=float(self._metrics.leads()),
        )
