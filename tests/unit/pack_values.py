"""A pack small enough to read, and images that stand for a run's."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from expansion_contract.pack import Expansion, Extractor
from expansion_contract.report import Category
from expansion_trainer.head import statistics
from expansion_trainer.head.softmax import Rows
from expansion_trainer.packs import core
from expansion_trainer.packs.pack import Answers, Images, Pack, Probes

SIZE, FROZEN = 7, 4

EXTRACTOR = Extractor(
    architecture="MobileNetV2",
    weights="a" * 64,
    layer="MobileNetV2 before its top",
    bottleneck_size=SIZE,
    input_size=224,
    preprocessing="mobilenet_v2",
    decoding="1",
)


def digest(number: int) -> str:
    return hashlib.sha256(f"image {number}".encode()).hexdigest()


def categories(count: int, new: int = 0) -> tuple[Category, ...]:
    return tuple(
        Category(index=i, name=f"kind {i}", uid=f"n{i:08}", group="new" if i >= count - new else "base")
        for i in range(count)
    )


def rows(columns: int, size: int = SIZE, seed: int = 0) -> Rows:
    random = np.random.default_rng(seed)
    return Rows(
        weights=random.normal(size=(size, columns)).astype(np.float32),
        bias=random.normal(size=columns).astype(np.float32),
    )


def images(labels: list[int], first: int = 0, size: int = SIZE) -> Images:
    """Around another mean for each label; `first` gives other contents."""
    random = np.random.default_rng(first + 100)
    centres = np.random.default_rng(3).normal(size=(1 + max(labels, default=0), size)) * 3
    bottlenecks = np.maximum(centres[labels] + random.normal(size=(len(labels), size)), 0)
    return Images(
        bottlenecks=bottlenecks.astype(np.float32).reshape(-1, size),
        labels=np.array(labels, np.int64),
        digests=[digest(first + number) for number in range(len(labels))],
    )


def bare(size: int = SIZE, frozen: int = FROZEN, **changes: Any) -> Pack:
    values = Pack(
        extractor=EXTRACTOR.model_copy(update={"bottleneck_size": size}),
        precision="float32",
        categories=categories(frozen),
        head=rows(frozen, size),
        groups=np.zeros(frozen, np.int64),
        temperature=1.0,
        expansions=(),
        statistics=statistics.empty(frozen, size),
        core=core.empty(size),
        probes=Probes(files=(b"one", b"second"), bottlenecks=np.ones((2, size), np.float32)),
    )
    return replace(values, **changes)


def built(shown: Images, **changes: Any) -> Pack:
    """As `expansion pack build` makes it."""
    return bare(
        statistics=statistics.of(shown.bottlenecks, shown.labels, FROZEN),
        core=core.chosen(shown.bottlenecks, shown.labels, shown.digests),
        **changes,
    )


def answers(count: int, source: list[int] | None = None, **changes: Any) -> Answers:
    values = Answers(
        categories=categories(count, new=1),
        head=rows(count, seed=9),
        source=np.arange(count) if source is None else np.array(source, np.int64),
        temperature=1.5,
        expansion=Expansion(offset=-0.25, scale=1.25),
    )
    return replace(values, **changes)
