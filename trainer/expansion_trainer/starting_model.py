"""What a run grows: a pretrained network, with or without a pack, or a published version, in one shape."""

from collections.abc import Sequence
from dataclasses import dataclass

from expansion_contract.report import Category
from expansion_contract.run import TrainingRun
from expansion_trainer.backbones import catalogue, published
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.errors import InvalidRun, PackRefused
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.fit import BaseHead
from expansion_trainer.head.projection import Projected, beside
from expansion_trainer.head.softmax import Rows
from expansion_trainer.packs import files, probes
from expansion_trainer.packs.pack import Pack
from expansion_trainer.published_base import PublishedVersion
from expansion_trainer.stores import Stores


@dataclass(frozen=True, kw_only=True, eq=False)
class StartingModel:
    backbone: Backbone  # its own head and categories are the frozen ones
    head: BaseHead  # (D, C), all categories it answers with
    temperature: float
    categories: tuple[Category, ...]  # C
    frozen: int  # of C, the first ones: the pretrained network's
    pack: Pack | None  # None: a pretrained network of whose categories nothing but the head is known
    address: str  # of the version, or the network's name: for people
    projected: Projected | None = None  # what its logits are beside the head's
    scale: float = 1.0

    @property
    def rows(self) -> Rows:
        """(D, C), whose logits are what it answers with today."""
        return beside(self.head, self.projected)

    @property
    def answering(self) -> Answering:
        return Answering.of_model(
            self.rows, self.temperature, self.categories, scale=self.scale, frozen=self.frozen
        )


def load(run: TrainingRun, stores: Stores) -> StartingModel:
    """Raises BadWeights, WeightsUnavailable, BaseMissing and PackRefused; the store's own errors pass."""
    if run.model is not None:
        version = PublishedVersion.opened(run.model, stores.open(run.model.uri))
        return _published(version, stores)
    if run.base is None:
        raise InvalidRun(
            f"Run {run.run_id} names neither a pretrained network nor a published version to grow."
        )
    return _pretrained(run, stores)


def _pretrained(run: TrainingRun, stores: Stores) -> StartingModel:
    assert run.base is not None
    backbone = catalogue.load(run.base, stores.fetch, stores.scratch)
    return StartingModel(
        backbone=backbone,
        head=BaseHead(weights=backbone.head_weights, bias=backbone.head_bias),
        temperature=1.0,
        categories=backbone.categories,
        frozen=len(backbone.categories),
        pack=_given_pack(run, backbone, stores),
        address=backbone.name,
    )


def _given_pack(run: TrainingRun, backbone: Backbone, stores: Stores) -> Pack | None:
    if run.pack is None:
        return None
    place = stores.open(run.pack.uri)
    pack = files.read(place, run.pack.digest)
    probes.must_fit(pack, backbone, place.uri)
    if pack.frozen != len(pack) or _names(pack.categories) != _names(backbone.categories):
        raise PackRefused(
            f"The pack at {place.uri} has {len(pack)} categories of which {pack.frozen} are a pretrained network's,"
            f" {backbone.name} has {len(backbone.categories)}: it belongs to a published version. Grow that one with spec.base.model,"
            " or give a pack that `expansion pack build` made."
        )
    return pack


def _names(categories: Sequence[Category]) -> list[tuple[str, str]]:
    return [(category.uid, category.name) for category in categories]


def _published(version: PublishedVersion, stores: Stores) -> StartingModel:
    pack = version.pack()
    folder = version.downloaded_variables(stores.scratch / "base")
    rows, categories = pack.pretrained
    backbone = published.backbone(pack.extractor, rows, categories, folder, version.place.uri)
    probes.must_fit(pack, backbone, version.place.uri)
    return StartingModel(
        backbone=backbone,
        head=BaseHead(weights=pack.head.weights, bias=pack.head.bias),
        temperature=pack.temperature,
        categories=tuple(category.model_copy(update={"group": "base"}) for category in pack.categories),
        frozen=pack.frozen,
        pack=pack,
        address=version.place.uri,
        projected=published.projected(folder),
        scale=pack.scale,
    )
