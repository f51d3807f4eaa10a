"""Decides, from what was seen, what is done next and what status says. Pure: no clock, no network, no memory but status."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from expansion_contract import lineage
from expansion_contract.resource import FINALIZER, DeletionPolicy, ServingMode
from expansion_operator import derived, earlier_runs, policies, schedule
from expansion_operator.asked import has_other_limits, limits
from expansion_operator.conditions import Finding, Next, Stage, announcements
from expansion_operator.manifests.job import training_job
from expansion_operator.manifests.pod import serving_name
from expansion_operator.manifests.serving import deployment, service
from expansion_operator.observed import (
    Action,
    Announce,
    Apply,
    Delete,
    HoldDeletion,
    JobPhase,
    JobSeen,
    Limit,
    Observed,
    Plan,
    Prune,
    Publish,
    Settings,
    WriteRun,
    WriteServing,
    deleted,
)
from expansion_operator.status import next_status
from expansion_operator.waits import BUSY, GONE, SOON

UNDER_WAY = {JobPhase.QUEUED, JobPhase.PENDING, JobPhase.RUNNING}


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan:
    """Applying it and planning again plans the same status and nothing that was not planned before, but to delete Jobs that status
    has counted only now.

    The model servers come before the next step: actions are done up to the first that is refused, and what is served
    must not depend on a Job that a quota refuses.
    """
    previous = observed.expansion.status
    if observed.expansion.metadata.deletion_timestamp:
        return Plan(status=previous.to_wire())
    finding = policies.first_finding(observed, now)
    status = next_status(observed, finding, settings, now)
    unwanted = _unwanted_jobs(observed, finding)
    actions = (
        *_hold(observed, finding),
        *_deletions(observed, unwanted, now),
        *_told_at_once(observed, finding),
        *_model_servers(observed, finding, settings),
        *_next_step(observed, finding, settings, now),
        *_limits(observed, finding),
        *_outdated_versions(observed, finding),
        *announcements(previous.conditions, status.conditions),
    )
    return Plan(
        status=status.to_wire(),
        actions=actions,
        requeue_after=_requeue_after(
            observed, finding, unwanted, schedule.wait(observed.expansion, status.schedule, now), now
        ),
        poll_after=derived.poll_seconds(observed.expansion) if _polls(observed, finding) else None,
        relist=_goes_on(observed, finding) is Next.RELIST,
        heard=not unwanted and _is_heard(observed, finding, actions),
    )


def _hold(observed: Observed, finding: Finding | None) -> tuple[HoldDeletion, ...]:
    """Before anything is written that would have to be removed; never for a resource that has no output of its own."""
    is_held = FINALIZER in observed.expansion.metadata.finalizers
    wanted = observed.expansion.spec.output.deletion_policy is DeletionPolicy.DELETE
    if is_held is wanted or (wanted and _is_refused(finding)):
        return ()
    return (HoldDeletion(wanted=wanted),)


def _goes_on(observed: Observed, finding: Finding | None) -> Next:
    """What follows from the finding; a suspended resource waits."""
    return Next.WAIT if finding is None or observed.expansion.spec.suspend else finding.then


def _unwanted_jobs(observed: Observed, finding: Finding | None) -> tuple[JobSeen, ...]:
    """Jobs of earlier runs; while suspended, every run that has not ended."""
    suspended, job = observed.expansion.spec.suspend, observed.job
    old = observed.old_jobs if earlier_runs.may_end(observed, finding) else ()
    current = (job,) if suspended and job is not None and job.phase in UNDER_WAY else ()
    return tuple(filter(_may_go, (*old, *current)))


def _may_go(job: JobSeen) -> bool:
    return job.ours and not job.terminating


def _deletions(observed: Observed, jobs: Iterable[JobSeen], now: datetime) -> Iterator[Delete]:
    """Of Jobs of which status knows all that it must: the others are deleted at the next look, when it does."""
    unremembered = earlier_runs.unremembered(observed, now)
    return (deleted(job) for job in jobs if job.uid not in unremembered)


def _limits(observed: Observed, finding: Finding | None) -> tuple[Limit, ...]:
    """Of a run that goes on."""
    job, expansion = observed.job, observed.expansion
    if job is None or job.phase not in UNDER_WAY or not _may_go(job) or not has_other_limits(job, expansion):
        return ()
    if expansion.spec.suspend or _is_refused(finding) or _goes_on(observed, finding) is Next.STOP:
        return ()
    return (Limit(name=job.name, uid=job.uid, version=job.resource_version, limits=limits(expansion)),)


def _next_step(
    observed: Observed, finding: Finding | None, settings: Settings, now: datetime
) -> tuple[Action, ...]:
    run_id, job, document = observed.run_id, observed.job, derived.serving_document(observed)
    match _goes_on(observed, finding):
        case Next.START if run_id is not None:
            manifest = training_job(observed.expansion, run_id, settings)
            return WriteRun(run_id=run_id), Apply(manifest=manifest, once=True)
        case Next.STOP if job is not None and _may_go(job):
            return tuple(_deletions(observed, (job,), now))
        case Next.PUBLISH if run_id is not None:
            return (Publish(run_id=run_id, version=derived.next_version(observed)),)
        case Next.WRITE_SERVING if document is not None:
            return (WriteServing(document=document),)
    return ()


def _told_at_once(observed: Observed, finding: Finding | None) -> tuple[WriteServing, ...]:
    """Whatever becomes of the current run: what spec.serving.version asks for, its end, and that we lead now."""
    told, document = derived.told_by_us(observed), derived.serving_document(observed)
    asked = observed.expansion.spec.serving.version is not None or (told is not None and told.pinned)
    is_next_step = _goes_on(observed, finding) is Next.WRITE_SERVING
    if is_next_step or _is_refused(finding):
        return ()
    if not asked or document is None or document == told:
        return _in_our_own_name(observed)
    return (WriteServing(document=document),)


def _in_our_own_name(observed: Observed) -> tuple[WriteServing, ...]:
    """The same as whoever led before: what that one may still be writing is in place of a document that is there no more."""
    told, metadata = derived.told_by_us(observed), observed.expansion.metadata
    if told is None or told == observed.serving_document:
        return ()
    is_ours = (told.owner.namespace, told.owner.name) == (metadata.namespace, metadata.name)
    return (WriteServing(document=told),) if is_ours else ()


def _is_refused(finding: Finding | None) -> bool:
    """The resource itself cannot be done: nothing of it is."""
    return finding is not None and finding.stage is Stage.RESOURCE


def _model_servers(observed: Observed, finding: Finding | None, settings: Settings) -> tuple[Action, ...]:
    """Kept as wanted whatever the current run does, from the first published version on."""
    if _is_refused(finding):
        return ()
    if observed.expansion.spec.serving.mode is ServingMode.NONE:
        return tuple(_no_model_servers(observed))
    seen = observed.deployment
    if (seen is None and observed.serving_document is None) or (seen is not None and not seen.ours):
        return ()
    expansion = observed.expansion
    return Apply(manifest=service(expansion)), Apply(manifest=deployment(expansion, settings))


def _no_model_servers(observed: Observed) -> Iterator[Delete]:
    name = serving_name(observed.expansion.metadata.name)
    if observed.deployment is not None and observed.deployment.ours:
        yield Delete(kind="Deployment", name=name)
    if observed.service_exists:
        yield Delete(kind="Service", name=name)


def _outdated_versions(observed: Observed, finding: Finding | None) -> tuple[Prune, ...]:
    """Only when all is well: never what is wanted, what a model server or another run uses, nor what continues the indices."""
    if finding is not None or observed.expansion.spec.suspend or observed.serving_document is None:
        return ()
    newest = sorted(seen.manifest.version for seen in observed.versions)[-_kept_versions(observed) :]
    if len(newest) < _kept_versions(observed):
        return ()
    there = {*(seen.manifest.version for seen in observed.versions), *observed.remains}
    kept = _used_versions(observed)
    return tuple(Prune(version=number) for number in sorted(there - kept) if number < newest[0])


def _kept_versions(observed: Observed) -> int:
    return observed.expansion.spec.output.keep_versions


def _used_versions(observed: Observed) -> set[int]:
    continued = lineage.continued([seen.manifest for seen in observed.versions])
    return {
        *(n for agent in observed.agents for n in (agent.live_version, agent.desired_version) if n),
        *observed.held_versions,
        *((observed.serving_document.version,) if observed.serving_document else ()),
        *((continued.version,) if continued else ()),
    }


def _requeue_after(
    observed: Observed,
    finding: Finding | None,
    unwanted: tuple[JobSeen, ...],
    until_due: float | None,
    now: datetime,
) -> float | None:
    """The earliest of what is waited for, beside other images."""
    seconds = [None if _polls(observed, finding) or finding is None else finding.requeue_after]
    if until_due is not None and (until_due > 0 or finding is None):
        seconds.append(until_due if until_due > 0 else BUSY)
    if unwanted:
        seconds.append(GONE)
    if _remembers_before_it_deletes(observed, finding, unwanted, now):
        seconds.append(SOON)
    if _is_rolling(observed):
        seconds.append(BUSY)
    return min((one for one in seconds if one is not None), default=None)


def _remembers_before_it_deletes(
    observed: Observed, finding: Finding | None, unwanted: tuple[JobSeen, ...], now: datetime
) -> bool:
    going = {job.uid for job in unwanted}
    if observed.job is not None and _goes_on(observed, finding) is Next.STOP:
        going.add(observed.job.uid)
    return not going.isdisjoint(earlier_runs.unremembered(observed, now))


def _is_heard(observed: Observed, finding: Finding | None, actions: tuple[Action, ...]) -> bool:
    """Is nothing done but to wait for something that tells of itself? Applying again does nothing."""
    waits = finding is not None and finding.heard and not observed.expansion.spec.suspend
    is_done = all(isinstance(action, Apply | Announce) for action in actions)
    return waits and is_done


def _polls(observed: Observed, finding: Finding | None) -> bool:
    """Do only other images, or an event, take this resource further?"""
    return finding is None or finding.polls or observed.expansion.spec.suspend


def _is_rolling(observed: Observed) -> bool:
    return (
        derived.is_managed(observed)
        and observed.serving_document is not None
        and not derived.is_rolled_out(observed)
    )
