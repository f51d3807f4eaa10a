"""Leaves a run's figures as TensorBoard summaries."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from expansion_contract.report import CurvePoint, Metrics

_DATA_CLASS_SCALAR = 1  # tensorflow/core/framework/summary.proto


def write(folder: Path, metrics: Metrics, curve: Sequence[CurvePoint] = ()) -> None:
    """`curve`: where a fit in steps stood, as retrain.py wrote it down."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for point in curve:
            _scalar("head/cross_entropy", point.training_loss, point.step)
            _scalar("head/training_accuracy", point.training_accuracy, point.step)
            if point.validation_accuracy is not None:
                _scalar("head/validation_accuracy", point.validation_accuracy, point.step)
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
