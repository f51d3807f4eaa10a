"""Leaves a run's figures as TensorBoard summaries."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from expansion_contract.report import Metrics

_DATA_CLASS_SCALAR = 1  # tensorflow/core/framework/summary.proto


def write(folder: Path, metrics: Metrics, path: Sequence[tuple[float, float]]) -> None:
    """`path`: (l2, validation accuracy) of every regularisation that was tried, in the order it was tried."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step, (l2, accuracy) in enumerate(path):
            _scalar("head/l2", l2, step)
            _scalar("head/validation_accuracy", accuracy, step)
        for name, value in figures(metrics).items():
            _scalar(f"test/{name}", value, 0)
    writer.close()


def _scalar(tag: str, value: float, step: int) -> None:
    """tf.summary.scalar without its one dependency, TensorBoard itself, which only the reader needs."""
    kind = tf.compat.v1.SummaryMetadata
    scalars = kind(plugin_data=kind.PluginData(plugin_name="scalars"), data_class=_DATA_CLASS_SCALAR)
    tf.summary.write(tag, tf.constant(value, tf.float32), step, metadata=scalars)


def figures(metrics: Metrics) -> dict[str, float]:
    """Those that were measured."""
    calibration, unknown = metrics.calibration, metrics.unknown
    found = {
        "accuracy": metrics.overall,
        "accuracy_top5": metrics.overall_top5,
        "macro_recall": metrics.macro_recall,
        "new_category_accuracy": metrics.new,
        "new_category_accuracy_closed": metrics.new_closed,
        "new_category_top5": metrics.new_top5,
        "base_accuracy_before": metrics.base_before,
        "base_accuracy_after": metrics.base_after,
        "base_top5_before": metrics.base_top5_before,
        "base_top5_after": metrics.base_top5_after,
        "base_accuracy_drop": metrics.base_drop,
        "steals": metrics.steals,
        "misses": metrics.misses,
        "calibration_error": calibration.overall if calibration else None,
        "calibration_error_base": calibration.base if calibration else None,
        "calibration_error_new": calibration.new if calibration else None,
        "unknown_auroc": unknown.auroc if unknown else None,
    }
    return {name: figure.value for name, figure in found.items() if figure is not None and figure.n}
