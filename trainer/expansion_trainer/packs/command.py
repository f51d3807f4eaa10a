"""`expansion pack build`: from what stands on the command line to a pack, and what to tell whoever asked for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from expansion_contract import layout
from expansion_contract.dataset import listed
from expansion_contract.report import Category, Progress
from expansion_contract.resource import Pretrained
from expansion_contract.run import StorageAccess
from expansion_storage import open_prefix
from expansion_trainer.backbones import catalogue
from expansion_trainer.packs import build
from expansion_trainer.packs.build import Built, Places
from expansion_trainer.packs.pace import Pace
from expansion_trainer.packs.source import Source, source
from expansion_trainer.progress import Clock


@dataclass(frozen=True, kw_only=True)
class Asked:
    pretrained: Pretrained
    images: str
    out: str
    cache: str | None


def answered(
    asked: Asked, access: StorageAccess, scratch: Path, show: Callable[[Progress], None], clock: Clock
) -> list[str]:
    """Builds the pack; the lines that sum it up."""
    backbone = catalogue.load(asked.pretrained, _fetch(access), scratch)
    images = source(open_prefix(asked.images, access), backbone.categories)
    places = Places(
        out=open_prefix(asked.out, access),
        cache=open_prefix(asked.cache, access) if asked.cache else None,
        scratch=scratch,
    )
    message = f"{images.images} images of {len(images.counts)} categories through {backbone.name}"
    pace = Pace(total=images.images, message=message, show=show, clock=clock)
    built = build.build(backbone, images, places, pace.tell)
    return [*_summary(built, images, backbone.categories, asked.out)]


def _fetch(access: StorageAccess) -> catalogue.Fetch:
    def fetch(address: str, target: Path) -> None:
        folder, _, name = address.rpartition("/")
        open_prefix(folder, access).download(name, target)

    return fetch


def _summary(built: Built, images: Source, categories: Sequence[Category], out: str) -> Iterator[str]:
    old = " It was complete; nothing was computed." if built.is_old else ""
    yield f"Pack: {built.used} images, real bottlenecks of {built.seen} of {len(categories)} categories.{old}"
    if missing := images.without_image(categories):
        yield (
            f"No image of {len(missing)} categories: {listed([_named(one) for one in missing])}. Nothing but their rows will stand"
            " for them."
        )
    if images.unused:
        yield (
            f"Not used, because they name no category, or one of several of that name: the folders {listed(list(images.unused))}."
            " Name them by WordNet id (n02123394)."
        )
    if built.unreadable:
        yield f"{built.unreadable} images cannot be read and are left out: {'; '.join(built.examples)}."
    yield f"SHA-256 of its {layout.PACK_DOCUMENT}: {built.digest}"
    yield f"Use it: spec.base.pack.uri: {out}"


def _named(category: Category) -> str:
    return f"{category.name} ({category.uid})" if category.uid else category.name
