"""Ties a pack to the network at hand: by name first, then by pictures whose bottlenecks the pack knows."""

import io

import numpy as np
from PIL import Image

from expansion_contract.pack import Extractor
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks import decode
from expansion_trainer.bottlenecks.engine import engine_of
from expansion_trainer.errors import PackRefused
from expansion_trainer.head.evidence import procedural_image
from expansion_trainer.head.softmax import Array, Doubles, Rows
from expansion_trainer.head.statistics import empty
from expansion_trainer.packs import core
from expansion_trainer.packs.pack import FROZEN, Pack, Probes

SAME = 0.9999
"""Least cosine between a probe's bottleneck now and when the pack was made. Another resampling or JPEG decoder is below."""
SAME_OTHERWISE_ROUNDED = 0.995
"""The same where one was computed in TensorFloat-32, the other in float32. Weights rounded to TensorFloat-32 alone go down to
0.9992 (MobileNetV2); resizing without antialiasing is at 0.993 and below."""
_SEED = 1
_FILES = (
    (320, 240, "JPEG"),
    (90, 200, "PNG"),
    (96, 96, "JPEG"),
    (640, 480, "JPEG"),
    (299, 224, "JPEG"),
    (64, 48, "PNG"),
    (512, 512, "JPEG"),
    (900, 700, "JPEG"),
)
"""Pixels across and down. Larger and smaller than any network's input: resampling shows in both, antialiasing in the large ones."""
_ORIENTATION, _SIDEWAYS = 0x0112, 6
"""EXIF's orientation of every second probe."""


def extractor(backbone: Backbone) -> Extractor:
    return Extractor(
        architecture=backbone.name,
        weights=backbone.digest,
        layer=backbone.layer,
        bottleneck_size=backbone.bottleneck_size,
        input_size=backbone.input_size,
        preprocessing=backbone.preprocessing,
        decoding=decode.VERSION,
    )


def bare(backbone: Backbone) -> Pack:
    """Of a pretrained network of whose categories nothing is known but their rows."""
    categories, size = len(backbone.categories), backbone.bottleneck_size
    return Pack(
        extractor=extractor(backbone),
        precision=engine_of(backbone).precision,
        categories=backbone.categories,
        head=Rows(weights=backbone.head_weights, bias=backbone.head_bias),
        groups=np.full(categories, FROZEN, np.int64),
        temperature=1.0,
        expansions=(),
        statistics=empty(categories, size),
        core=core.empty(size),
        probes=_probes(backbone),
    )


def must_fit(pack: Pack, backbone: Backbone, address: str) -> None:
    """Raises PackRefused unless the pack's bottlenecks are this network's. `address`: the pack's, for messages."""
    here = extractor(backbone)
    if different := pack.extractor.differences(here):
        raise PackRefused(
            f"The pack at {address} is of {pack.extractor}, this run's network is {here}; they differ in {', '.join(different)}. Its"
            f" numbers mean nothing to this network. {_what_now(pack, here)}"
        )
    _must_answer_alike(pack, backbone, address)


def _what_now(pack: Pack, here: Extractor) -> str:
    if len(pack.expansions):
        return "Grow this version with the trainer's image that published it, or let its owner train it anew with this one."
    return (
        f"Give a pack of {here.architecture} (`expansion pack build --architecture {here.architecture}` makes one), or remove"
        " spec.base.pack."
    )


def _must_answer_alike(pack: Pack, backbone: Backbone, address: str) -> None:
    alike, here = check_probes(pack, backbone), engine_of(backbone).precision
    least = SAME if pack.precision == here else SAME_OTHERWISE_ROUNDED
    if alike.min(initial=1.0) < least:
        raise PackRefused(
            f"This trainer gives other bottlenecks than the pack at {address} expects: of {len(alike)} probe pictures the most"
            f" different has the cosine {alike.min():.5f}, at least {least} is needed. Decoding, resizing or the network's arithmetic"
            " differ here; use the trainer's image that made the pack, or make the pack again with this one."
        )


def check_probes(pack: Pack, backbone: Backbone) -> Doubles:
    """(P,), the cosines between the probes' bottlenecks here and in the pack."""
    here = _bottlenecks(backbone, pack.probes.files).astype(np.float64)
    there = pack.probes.bottlenecks.astype(np.float64)
    lengths = np.linalg.norm(here, axis=1) * np.linalg.norm(there, axis=1)
    cosines: Doubles = (here * there).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return cosines


def _probes(backbone: Backbone) -> Probes:
    files = tuple(_file(number) for number in range(len(_FILES)))
    return Probes(files=files, bottlenecks=_bottlenecks(backbone, files))


def _file(number: int) -> bytes:
    """The pack keeps these bytes, because another encoder would write others."""
    width, height, kind = _FILES[number]
    drawn = Image.fromarray(procedural_image(number, max(width, height), _SEED)).crop((0, 0, width, height))
    exif, out = Image.Exif(), io.BytesIO()
    if number % 2 == 0:
        exif[_ORIENTATION] = _SIDEWAYS
    drawn.save(out, kind, quality=90, exif=exif)
    return out.getvalue()


def _bottlenecks(backbone: Backbone, files: tuple[bytes, ...]) -> Array:
    engine = engine_of(backbone)
    return engine.bottlenecks([engine.decode(file) for file in files])
