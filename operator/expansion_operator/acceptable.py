"""Why a resource, or its images, cannot be taken as they are. Pure."""

import re
from collections.abc import Iterable
from datetime import datetime

from expansion_contract import architectures, availability
from expansion_contract.resource import (
    MAX_NAME,
    NAME_RULE,
    ExpansionSpec,
)
from expansion_operator import schedule
from expansion_operator.conditions import Finding, Stage
from expansion_operator.observed import Observed
from expansion_operator.waits import BUSY, HEALING, REFUSED


def not_supported(observed: Observed, _: datetime) -> Finding | None:
    return _unacceptable("NotSupported", availability.refused(observed.expansion.spec))


def unknown_architecture(observed: Observed, _: datetime) -> Finding | None:
    pretrained = observed.expansion.spec.base.pretrained
    problem = architectures.problem_with(pretrained.architecture) if pretrained else None
    return _unacceptable("UnknownArchitecture", [problem] if problem else [])


def bad_schedule(observed: Observed, _: datetime) -> Finding | None:
    problem = schedule.problem_with(observed.expansion.spec.retrain)
    return _unacceptable("InvalidSchedule", [problem] if problem else [])


def invalid_spec(observed: Observed, _: datetime) -> Finding | None:
    """What the API server's own rules refuse, for resources that were stored before the rules."""
    return _unacceptable("InvalidSpec", [*_local_addresses(observed.expansion.spec), *_bad_name(observed)])


def output_conflict(observed: Observed, _: datetime) -> Finding | None:
    if observed.output_owner is None:
        return None
    spec = observed.expansion.spec
    return Finding(
        stage=Stage.RESOURCE,
        reason="OutputConflict",
        message=f"spec.output.models {spec.output.models} already belongs to ClassifierExpansion {observed.output_owner}: two"
        " resources would number their versions in one folder. Delete one of them, or create this one with another address.",
        phase="Stalled",
        stuck=True,
        requeue_after=REFUSED,
    )


def base_circle(observed: Observed, _: datetime) -> Finding | None:
    way = observed.circle
    if not way:
        return None
    return Finding(
        stage=Stage.RESOURCE,
        reason="BaseCircle",
        message=f"spec.base.expansionRef leads back to this resource: {' -> '.join(way)}. Each version of one would train the next"
        " for ever; let one of them grow a pretrained network or one version (spec.base.model).",
        phase="Stalled",
        stuck=True,
        requeue_after=REFUSED,
    )


def _unacceptable(reason: str, sentences: Iterable[str]) -> Finding | None:
    message = " ".join(sentences)
    if not message:
        return None
    return Finding(stage=Stage.RESOURCE, reason=reason, message=message, phase="Stalled", stuck=True)


def _local_addresses(spec: ExpansionSpec) -> Iterable[str]:
    addresses = {
        "spec.categories.images": spec.categories.images,
        "spec.replay.images": spec.replay.images if spec.replay else None,
        "spec.unlabelled.images": spec.unlabelled.images if spec.unlabelled else None,
        "spec.base.model.uri": spec.base.model.uri if spec.base.model else None,
        "spec.base.pack.uri": spec.base.pack.uri if spec.base.pack else None,
        "spec.output.models": spec.output.models,
        "spec.storage.cache": spec.storage.cache,
    }
    for path, address in addresses.items():
        if address is not None and not address.startswith("s3://"):
            yield f"{path} must be an s3:// address, got {address}; a local folder works only with the command line."


def _bad_name(observed: Observed) -> Iterable[str]:
    name = observed.expansion.metadata.name
    if len(name) > MAX_NAME or not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"{NAME_RULE.message}; got {name}."


def unreadable(observed: Observed, _: datetime) -> Finding | None:
    """Storage or the base is away: nothing behind it can be decided, and what runs goes on."""
    trouble = observed.trouble or observed.base_trouble
    if trouble is None:
        return None
    return Finding(
        stage=Stage.DATASET,
        reason=trouble.reason,
        message=trouble.message,
        phase="Resolving",
        stuck=trouble.permanent,
        requeue_after=REFUSED if trouble.permanent else HEALING,
        sees_nothing_later=True,
    )


def not_listed(observed: Observed, _: datetime) -> Finding | None:
    if observed.listing is not None and observed.run_id is not None:
        return None
    images = observed.expansion.spec.categories.images
    return _resolving("Listing", f"{images} is being listed.", requeue_after=BUSY)


def unusable(observed: Observed, _: datetime) -> Finding | None:
    errors = observed.listing.errors if observed.listing else ()
    if not errors:
        return None
    message = " ".join(error.message for error in errors)
    return _resolving(errors[0].reason, message, stuck=True)


def _resolving(
    reason: str, message: str, *, requeue_after: float | None = None, stuck: bool = False
) -> Finding:
    return Finding(
        stage=Stage.DATASET,
        reason=reason,
        message=message,
        phase="Resolving",
        stuck=stuck,
        requeue_after=requeue_after,
        polls=requeue_after is None,
    )
