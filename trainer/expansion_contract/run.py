"""What the trainer is asked to do: one document, made from a resource, whose model-affecting part is the run's id."""

import hashlib
import json
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

TRAINER_GENERATION = 1
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


class TrainingRun(Strict):
    """Read from storage by the trainer. Strict: a field this trainer does not know would change the model unseen."""

    format_version: Literal[1] = 1
    run_id: str
    owner: Owner
    mode: Mode
    base: Pretrained
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


def model_inputs(expansion: ClassifierExpansion, dataset_digest: str) -> dict[str, Any]:
    """Everything that changes the model, and nothing else: no address, no threshold, no replica count."""
    spec = expansion.spec
    assert spec.base.pretrained is not None, "availability.refused stops the others earlier"
    weights = spec.base.pretrained.weights
    return {
        "generation": TRAINER_GENERATION,
        "mode": spec.mode.value,
        "base": {
            "architecture": spec.base.pretrained.architecture,
            "weights": weights.sha256 or weights.name,
        },
        "dataset": dataset_digest,
        "include": sorted(spec.categories.include),
        "onOverlap": spec.categories.on_overlap.value,
        "overlaps": sorted((o.category, o.on_overlap.value) for o in spec.categories.overlaps),
        "split": spec.split.to_wire(),
        "distortions": spec.distortions.to_wire(),
        "training": spec.training.to_wire(),
        "revision": spec.retrain.revision,
    }


def run_id(expansion: ClassifierExpansion, dataset_digest: str) -> str:
    canonical = json.dumps(model_inputs(expansion, dataset_digest), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:RUN_ID_DIGITS]


def training_run(expansion: ClassifierExpansion, dataset_digest: str) -> TrainingRun:
    spec = expansion.spec
    assert spec.base.pretrained is not None, "availability.refused stops the others earlier"
    return TrainingRun(
        run_id=run_id(expansion, dataset_digest),
        owner=Owner(namespace=expansion.metadata.namespace, name=expansion.metadata.name),
        mode=spec.mode,
        base=spec.base.pretrained,
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
