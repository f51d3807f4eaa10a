"""Names the current run: what it starts from, and the id that follows from it. Pure.

A run that is there already keeps the base it was started from where `spec.retrain.onBaseChange` is Report.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from expansion_contract import layout, lineage, run
from expansion_contract.resource import (
    RETRAIN_ANNOTATION,
    ClassifierExpansion,
    OnBaseChange,
    RunStatus,
    UpdatePolicy,
)
from expansion_contract.run import PublishedBase, Start
from expansion_operator import schedule
from expansion_operator.asked import NOT_BEGUN
from expansion_operator.conditions import stamp
from expansion_operator.observed import JobSeen, Observed

_WISH = 256
"""Characters of a wish for one more run that count."""


def identified(seen: Observed, scheduled: str = "") -> Observed:
    """With its start and its run's id, as far as both can be known: not before the images are listed and the base is found."""
    if seen.listing is None or (seen.base is None and seen.expansion.spec.base.pretrained is None):
        return seen
    start = Start(
        model=seen.base.model if seen.base else None,
        pack=seen.pack,
        given=given(seen),
        categories=tuple(sorted(seen.listing.counts)),
        requested=requested(seen.expansion),
        scheduled=scheduled or schedule.last(seen.expansion),
        previous=_previous(seen),
    )
    chosen = _as_before(seen, start)
    return replace(seen, start=chosen, run_id=run.run_id(seen.expansion, seen.listing.digest, chosen))


def on_schedule(seen: Observed, jobs: Iterable[JobSeen], now: datetime) -> Observed:
    """With the run that spec.retrain.schedule asks for, if one of its times has come.

    Not while a run of the very same inputs is under way, whatever spec.retrain.updatePolicy says: nothing has changed that would
    make it wrong, and a run longer than the time between two of them would never end.
    """
    due = schedule.due(seen.expansion, now)
    if due is None or seen.run_id is None:
        return seen
    last = seen.expansion.status.run
    is_under_way = last is not None and last.id == seen.run_id and not _has_ended(seen.expansion, last)
    if is_under_way and any(job.run_id == seen.run_id and job.ours for job in jobs):
        return seen
    return identified(seen, stamp(due))


def with_earlier_run(seen: Observed, jobs: Iterable[JobSeen]) -> Observed:
    """With the run that is under way instead of the one that is wanted now, where spec.retrain.updatePolicy is Finish.

    Only one whose pod has started, and until it failed, was refused, or is announced.
    """
    last, spec = seen.expansion.status.run, seen.expansion.spec
    if spec.retrain.update_policy is not UpdatePolicy.FINISH or spec.suspend or seen.run_id is None:
        return seen
    if last is None or last.id == seen.run_id or _has_ended(seen.expansion, last):
        return seen
    has_begun = any(
        job.run_id == last.id and job.ours and not job.terminating and job.phase not in NOT_BEGUN
        for job in jobs
    )
    return replace(seen, run_id=last.id, waiting_run=seen.run_id) if has_begun else seen


def _has_ended(expansion: ClassifierExpansion, last: RunStatus) -> bool:
    """It failed (for good, or until it is tried again), or status says that it was refused or is the published model."""
    candidate, model = expansion.status.candidate, expansion.status.model
    has_failed = last.outcome == "Failed" or last.retry_at is not None
    is_refused = candidate is not None and candidate.run_id == last.id and not candidate.accepted
    return has_failed or is_refused or (model is not None and model.run_id == last.id)


def requested(expansion: ClassifierExpansion) -> str:
    """What the last wish for one more run said. Kept in status, so that taking the annotation away takes nothing back."""
    asked = expansion.metadata.annotations.get(RETRAIN_ANNOTATION, "")[:_WISH]
    return asked or expansion.status.last_handled_retrain_at or ""


def given(seen: Observed) -> tuple[str, ...]:
    """New categories that ever got an index at this output."""
    return lineage.given(seen.serving_document, [version.manifest for version in seen.versions])


def version_of(base: PublishedBase) -> int | None:
    """7 for `…/versions/7`."""
    return layout.version_of(f"versions/{base.uri.rstrip('/').rpartition('/')[2]}/{layout.MANIFEST}")


def _previous(seen: Observed) -> str | None:
    manifest = lineage.continued([version.manifest for version in seen.versions])
    models = seen.expansion.spec.output.models.rstrip("/")
    return f"{models}/{layout.version(manifest.version)}" if manifest else None


def _as_before(seen: Observed, newest: Start) -> Start:
    """With the base of the run that is there already, if nothing but its base has changed since and that shall change nothing."""
    if seen.expansion.spec.retrain.on_base_change is not OnBaseChange.REPORT or seen.listing is None:
        return newest
    for run_id, base in _earlier(seen):
        start = replace(newest, model=base)
        if run.run_id(seen.expansion, seen.listing.digest, start) == run_id:
            return start
    return newest


def _earlier(seen: Observed) -> Iterator[tuple[str, PublishedBase]]:
    """Runs and their bases: the last one that status knows, then the published ones, newest first."""
    last = seen.expansion.status.run
    if last is not None and last.base is not None:
        yield last.id, PublishedBase(uri=last.base.uri, manifest_sha256=last.base.manifest_sha256)
    for version in reversed(seen.versions):
        if version.manifest.base is not None:
            yield version.manifest.run_id, version.manifest.base
