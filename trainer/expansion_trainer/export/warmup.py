"""Writes the requests that TensorFlow Serving replays when it loads a version: a version that cannot answer them is not loaded.

A TFRecord of `tensorflow.serving.PredictionLog`. Of that message three nested fields are needed, so they are encoded here
instead of depending on tensorflow-serving-api: https://protobuf.dev/programming-guides/encoding/#length-types
"""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

FILE = "assets.extra/tf_serving_warmup_requests"

# Numbers of the fields in tensorflow_serving/apis/{prediction_log,predict,model}.proto.
PREDICTION_LOG_PREDICT_LOG = 6
PREDICT_LOG_REQUEST = 1
REQUEST_MODEL_SPEC = 1
REQUEST_INPUTS = 2
MODEL_SPEC_SIGNATURE_NAME = 3
MAP_KEY, MAP_VALUE = 1, 2

_LENGTH_DELIMITED = 2


def write(folder: Path, images: Sequence[bytes], signatures: Sequence[str], input_name: str) -> None:
    """One request with all images for each signature, and one with a single image: both batch shapes are ready."""
    target = folder / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(target)) as records:
        for signature in signatures:
            for batch in (images, images[:1]):
                records.write(prediction_log(batch, signature, input_name))


def prediction_log(images: Sequence[bytes], signature: str, input_name: str) -> bytes:
    tensor: bytes = tf.make_tensor_proto(list(images), dtype=tf.string).SerializeToString()
    entry = _field(MAP_KEY, input_name.encode()) + _field(MAP_VALUE, tensor)
    model_spec = _field(MODEL_SPEC_SIGNATURE_NAME, signature.encode())
    request = _field(REQUEST_MODEL_SPEC, model_spec) + _field(REQUEST_INPUTS, entry)
    return _field(PREDICTION_LOG_PREDICT_LOG, _field(PREDICT_LOG_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
