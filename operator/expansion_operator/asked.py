"""What of a resource's spec stands in its Job and changes no model: an edit of it counts while nothing of the Job has begun, and of its
limits until it has ended. Pure."""

import json
from hashlib import sha256

from expansion_contract.resource import ClassifierExpansion
from expansion_operator.observed import JobPhase, JobSeen

NOT_BEGUN = {JobPhase.QUEUED, JobPhase.PENDING}
KEPT = {"pending_deadline_seconds", "no_progress_deadline_seconds"}
"""By the operator: they stand in no Job."""
LIMITS = {"active_deadline_seconds", "backoff_limit"}
"""An edit of these reaches the Job that is there, whether it has begun or not."""
_DIGITS = 16


def asked(expansion: ClassifierExpansion) -> str:
    """A digest. What is as by default does not count, so that a release with a new field replaces no Job."""
    spec = expansion.spec
    parts = {
        "compute": spec.compute.model_dump(mode="json", exclude_defaults=True, exclude=KEPT | LIMITS),
        "storage": spec.storage.model_dump(mode="json", exclude_defaults=True),
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def limits(expansion: ClassifierExpansion) -> dict[str, int]:
    """As they stand in the Job's spec."""
    return expansion.spec.compute.model_dump(mode="json", by_alias=True, include=LIMITS)


def written(asked_limits: dict[str, int]) -> str:
    return json.dumps(asked_limits, sort_keys=True)


def has_other_limits(job: JobSeen, expansion: ClassifierExpansion) -> bool:
    """Than were last asked for: what a webhook or a policy has made of them is not fought. Earlier releases wrote none."""
    return not job.managed_by and job.limits not in {"", written(limits(expansion))}


def is_outdated(job: JobSeen, expansion: ClassifierExpansion) -> bool:
    """Not one whose pods another cluster runs: nobody here knows whether they have begun. Earlier releases wrote no digest."""
    waits = job.phase in NOT_BEGUN and not job.managed_by
    return waits and job.asked not in {"", asked(expansion)}
