"""What the trainer is asked to do: one document, made from a resource, whose model-affecting part is the run's id."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from expansion_contract import layout
from expansion_contract.resource import (
    Addressing,
    Categories,
    Checksums,
    ClassifierExpansion,
    Distortions,
    Mode,
    Pretrained,
    Split,
    Training,
)
from expansion_contract.schema import Lenient, Strict

TRAINER_GENERATION = 3
"""Raised when the same inputs would give another model; a new release that does not change models does not retrain."""

RUN_ID_DIGITS = 16


class StorageAccess(Lenient):
    """How to reach the object store. Credentials never stand here: they come from the environment."""

    endpoint_url: str = ""
    region: str = ""
    addressing: Addressing = Addressing.PATH
    checksums: Checksums = Checksums.WHEN_REQUIRED


class Owner(Lenient):
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class PublishedBase(Strict):
    """A published version that is grown."""

    uri: str
    """Its folder, `…/versions/7`."""
    manifest_sha256: str
    """Of its manifest.json, which names every file's digest."""


class PackBase(Strict):
    """A pack that was made for a pretrained network."""

    uri: str
    digest: str
    """SHA-256 of its pack.json, which names every file's digest."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run starts from that neither the resource nor the listing of its images says."""

    model: PublishedBase | None = None
    pack: PackBase | None = None
    given: tuple[str, ...] = ()
    """New categories that ever got an index at this output, in the order of their indices. A later run keeps it."""
    categories: tuple[str, ...] = ()
    """New categories of the listing."""
    requested: str = ""
    """What a person last asked for one more run with; another word is another run."""
    scheduled: str = ""
    """The time of spec.retrain.schedule that the run answers; another time is another run."""
    previous: str | None = None
    """The folder of the last published version of this output, whose category list is continued."""


def index_order(given: Sequence[str], categories: Sequence[str]) -> list[str]:
    """Today's new categories in the order of their indices: those that have one keep it, the others follow by name."""
    current = set(categories)
    return [name for name in _indices(given, current) if name in current]


def _indices(given: Sequence[str], current: set[str]) -> list[str]:
    """Every new category at its index, the first one at 0; retired ones among them, but none behind today's last."""
    names = [*given, *sorted(current - set(given))]
    while names and names[-1] not in current:
        names.pop()
    return names


class TrainingRun(Strict):
    """Read from storage by the trainer. Strict: a field this trainer does not know would change the model unseen."""

    format_version: Literal[1] = 1
    run_id: str
    owner: Owner
    mode: Mode
    base: Pretrained | None = None
    """The pretrained network that is grown; exactly one of `base` and `model`."""
    model: PublishedBase | None = None
    pack: PackBase | None = None
    """Of the pretrained network."""
    given: list[str] = []
    """See Start.given."""
    previous: str | None = None
    """See Start.previous."""
    categories: Categories
    replay: str | None = None
    unlabelled: str | None = None
    split: Split
    distortions: Distortions = Distortions()
    training: Training
    revision: int = 0
    dataset_digest: str
    gpus: int = 0
    output: str
    """Prefix of the models; the run's own folder is layout.run(run_id) below it."""
    cache: str
    storage: StorageAccess = StorageAccess()


def model_inputs(
    expansion: ClassifierExpansion, dataset_digest: str, start: Start = Start()
) -> dict[str, Any]:
    """Everything that changes the model, and nothing else: no address, no threshold, no replica count."""
    spec = expansion.spec
    indices = _indices(start.given, set(start.categories))
    return {
        "generation": TRAINER_GENERATION,
        "mode": spec.mode.value,
        "base": _base_inputs(expansion, start),
        "dataset": dataset_digest,
        "include": sorted(spec.categories.include),
        "onOverlap": spec.categories.on_overlap.value,
        "overlaps": sorted((o.category, o.on_overlap.value) for o in spec.categories.overlaps),
        "split": spec.split.to_wire(),
        "distortions": spec.distortions.to_wire(),
        "training": spec.training.to_wire(),
        "revision": spec.retrain.revision,
        **({"requested": start.requested} if start.requested else {}),
        **({"scheduled": start.scheduled} if start.scheduled else {}),
        # A first run and a revert to it are the same run, although indices have been given in between.
        **({"indices": indices} if indices != sorted(set(start.categories)) else {}),
    }


def _base_inputs(expansion: ClassifierExpansion, start: Start) -> dict[str, Any]:
    pretrained = expansion.spec.base.pretrained
    if pretrained is None:
        assert start.model is not None, "a published base is resolved before its run is named"
        return {"manifest": start.model.manifest_sha256}
    return {
        "architecture": pretrained.architecture,
        "weights": pretrained.weights.sha256 or pretrained.weights.name,
        **({"pack": start.pack.digest} if start.pack else {}),
    }


def run_id(expansion: ClassifierExpansion, dataset_digest: str, start: Start = Start()) -> str:
    inputs = model_inputs(expansion, dataset_digest, start)
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:RUN_ID_DIGITS]


def training_run(expansion: ClassifierExpansion, dataset_digest: str, start: Start = Start()) -> TrainingRun:
    spec = expansion.spec
    return TrainingRun(
        run_id=run_id(expansion, dataset_digest, start),
        owner=Owner(namespace=expansion.metadata.namespace, name=expansion.metadata.name),
        mode=spec.mode,
        base=spec.base.pretrained,
        model=start.model,
        pack=start.pack,
        given=list(start.given),
        previous=start.previous,
        categories=spec.categories,
        replay=spec.replay.images if spec.replay else None,
        unlabelled=spec.unlabelled.images if spec.unlabelled else None,
        split=spec.split,
        distortions=spec.distortions,
        training=spec.training,
        revision=spec.retrain.revision,
        dataset_digest=dataset_digest,
        gpus=spec.compute.gpus_per_worker,
        output=spec.output.models,
        cache=spec.storage.cache or layout.default_cache(spec.output.models),
        storage=storage_access(expansion),
    )


def storage_access(expansion: ClassifierExpansion) -> StorageAccess:
    storage = expansion.spec.storage
    return StorageAccess(
        endpoint_url=storage.endpoint_url,
        region=storage.region,
        addressing=storage.addressing,
        checksums=storage.checksums,
    )
