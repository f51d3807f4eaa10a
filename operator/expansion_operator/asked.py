"""What of a resource's spec stands in its Job and changes no model: while nothing of the Job has begun, an edit of it counts. Pure."""

import json
from hashlib import sha256

from expansion_contract.resource import ClassifierExpansion
from expansion_operator.observed import JobPhase, JobSeen

NOT_BEGUN = {JobPhase.QUEUED, JobPhase.PENDING}
OURS = {"pending_deadline_seconds", "no_progress_deadline_seconds"}
"""Kept by the operator: they stand in no Job."""
_DIGITS = 16


def asked(expansion: ClassifierExpansion) -> str:
    """A digest. What is as by default does not count, so that a release with a new field replaces no Job."""
    spec = expansion.spec
    parts = {
        "compute": spec.compute.model_dump(mode="json", exclude_defaults=True, exclude=OURS),
        "storage": spec.storage.model_dump(mode="json", exclude_defaults=True),
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def is_outdated(job: JobSeen, expansion: ClassifierExpansion) -> bool:
    """Not one whose pods another cluster runs: nobody here knows whether they have begun. Earlier releases wrote no digest."""
    waits = job.phase in NOT_BEGUN and not job.managed_by
    return waits and job.asked not in {"", asked(expansion)}
