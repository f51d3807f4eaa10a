"""What the pretrained network alone says of images, before it is grown: `python -m expansion_development.base_answers --out FILE IMAGE...`.

Writes JSON: the number of categories, and each image's best answer with its score. A process of its own, for TensorFlow is slow to load.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from expansion_contract.architectures import EFFICIENTNET_LITE0
from expansion_contract.resource import Pretrained, Weights
from expansion_trainer.backbones import catalogue
from expansion_trainer.bottlenecks.decode import decode


def answers(images: list[bytes]) -> tuple[int, list[tuple[str, float]]]:
    pretrained = Pretrained(architecture=EFFICIENTNET_LITE0, weights=Weights(name="imagenet"))
    base = catalogue.load(pretrained, _no_download, Path())
    pixels = tf.stack([decode(tf.constant(image), base.input_size) for image in images])
    logits = base.model.predict_on_batch(pixels) @ base.head_weights + base.head_bias  # (n, C0)
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    best = scores.argmax(axis=1)
    named = [(base.categories[index].name, float(scores[row, index])) for row, index in enumerate(best)]
    return len(base.categories), named


def _no_download(address: str, _: Path) -> None:
    raise AssertionError(f"{address}: these weights come from a package")


def main() -> int:
    parser = argparse.ArgumentParser(prog="expansion_development.base_answers", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("images", type=Path, nargs="+")
    given = parser.parse_args()
    count, named = answers([path.read_bytes() for path in given.images])
    given.out.write_text(json.dumps({"categories": count, "answers": named}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
