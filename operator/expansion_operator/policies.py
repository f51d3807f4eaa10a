"""Why a resource is not ready yet: one small function for each reason, asked in order; the first that answers decides.

A new reason is one function and one entry in a tuple. Pure: what is seen and the time come in, a finding or None goes out.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from expansion_operator import acceptable, derived, publication, starting, training
from expansion_operator.asked import has_other_limits
from expansion_operator.conditions import Finding, Next, Stage
from expansion_operator.observed import Observed
from expansion_operator.waits import BUSY, HEALING, REFUSED

Policy = Callable[[Observed, datetime], Finding | None]


def not_trained(observed: Observed, now: datetime) -> Finding | None:
    """A committed version of this run is proof of training too: a Git revert publishes it again without a GPU."""
    if derived.report_of(observed) is not None or derived.published_version(observed) is not None:
        return None
    return _first(UNREPORTED, observed, now)


UNREPORTED: tuple[Policy, ...] = (
    training.job_name_taken,
    training.old_runs,
    training.retry_awaited,
    starting.queue_missing,
    starting.uploads_under_way,
    starting.budget_spent,
    training.not_started,
    training.job_ending,
    training.asked_anew,
    training.queued,
    training.pending_too_long,
    training.pending,
    training.no_progress,
    training.running,
    training.report_awaited,
    training.ended_without_report,
)
"""Asked while there is no report."""

POLICIES: tuple[Policy, ...] = (
    acceptable.not_supported,
    acceptable.unknown_architecture,
    acceptable.invalid_spec,
    acceptable.bad_schedule,
    acceptable.output_conflict,
    acceptable.base_circle,
    acceptable.unreadable,
    acceptable.unusable,
    acceptable.not_listed,
    training.report_unreadable,
    training.dataset_changed,
    training.run_failed,
    not_trained,
    publication.gate_refused,
    publication.not_published,
    publication.not_announced,
    publication.pin_missing,
    publication.deployment_name_taken,
    publication.model_server_failed,
    publication.pods_not_starting,
    publication.rolling_out,
    publication.next_run_waits,
)


def first_finding(observed: Observed, now: datetime) -> Finding | None:
    """What stands between this resource and Ready; None if nothing does."""
    finding = _refused_by_the_cluster(_first(POLICIES, observed, now), observed)
    if finding is None or observed.waiting_run is None or finding.stage not in {Stage.TRAINING, Stage.GATE}:
        return finding
    return replace(finding, moves_on=True, polls=False, requeue_after=BUSY) if finding.stuck else finding


def _first(policies: Iterable[Policy], observed: Observed, now: datetime) -> Finding | None:
    return next((finding for policy in policies if (finding := policy(observed, now))), None)


def _refused_by_the_cluster(finding: Finding | None, observed: Observed) -> Finding | None:
    """Our own next step was refused last time: that is the reason then, and the step is tried again."""
    if not observed.refusals or not _takes_a_step(finding, observed):
        return finding
    is_permanent = any(refusal.permanent for refusal in observed.refusals)
    return Finding(
        stage=finding.stage if finding else Stage.ROLLOUT,
        reason=observed.refusals[0].reason,
        message=" ".join(dict.fromkeys(refusal.message for refusal in observed.refusals)),
        phase=finding.phase if finding else "RollingOut",
        stuck=is_permanent,
        then=finding.then if finding else Next.WAIT,
        requeue_after=REFUSED if is_permanent else HEALING,
    )


def _takes_a_step(finding: Finding | None, observed: Observed) -> bool:
    """Is it our own step that is missing? Not while storage, the trainer or a person is waited for."""
    if finding is None:
        return True
    if finding.stuck or finding.stage is Stage.DATASET:
        return False
    if finding.stage is not Stage.TRAINING or observed.job is None:
        return True
    return has_other_limits(observed.job, observed.expansion)
