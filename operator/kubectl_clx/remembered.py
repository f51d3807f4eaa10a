"""What the status of a resource tells of storage and cluster, as the planner's Observed. Pure.

Status is a summary: where it leaves a question open, there is one Observed for each answer, the likeliest first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from expansion_contract import run
from expansion_contract.dataset import Listing
from expansion_contract.report import BaseDrop, CategoryScore, Metrics, Proportion, RunReport
from expansion_contract.resource import ClassifierExpansion, Figures, HistoryEntry, ServingMode
from expansion_contract.run import Owner, PackBase, PublishedBase, Start
from expansion_contract.version import AgentStatus, ServingDocument, VersionManifest
from expansion_operator import derived, publication, schedule, starts
from expansion_operator.conditions import stamp
from expansion_operator.manifests.pod import serving_name
from expansion_operator.observed import (
    BaseSeen,
    DeploymentSeen,
    JobPhase,
    JobSeen,
    Observed,
    ReportSeen,
    VersionSeen,
)

NEVER_TRAINED = "0" * run.RUN_ID_DIGITS
"""Stands for the id of a run that status cannot name and has never seen."""
_UNKNOWN = "unknown"
_MANY = 1_000_000
_ROUNDED = Decimal("0.00005")
"""Figures in status have four decimals."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """`edited` carries the live resource's status. `report`: of one run, if the person at the terminal has it."""

    live: ClassifierExpansion
    edited: ClassifierExpansion
    report: RunReport | None = None


def is_current(expansion: ClassifierExpansion) -> bool:
    """Does status speak of this very spec, and are its images listed?"""
    resolved = next((c for c in expansion.status.conditions if c.type == "DatasetResolved"), None)
    return (
        expansion.status.observed_generation == expansion.metadata.generation
        and resolved is not None
        and resolved.status == "True"
        and expansion.status.dataset is not None
        and expansion.status.dataset.digest is not None
        and expansion.status.run is not None
    )


def possible(told: Told, now: datetime) -> tuple[Observed, ...]:
    """What the operator may see after the edit. `told.live` must be current."""
    return tuple(
        _settled(_observed(told, run_id, report, now), told.live, announced)
        for run_id in _run_ids(told)
        for report in _reports(told, run_id)
        for announced in _announced(told.live)
    )


# The run


def sources(expansion: ClassifierExpansion) -> tuple[object, ...]:
    """Everything that decides which images are listed."""
    spec = expansion.spec
    categories = spec.categories.model_dump(exclude={"on_overlap", "overlaps"})
    roles = (spec.replay.images if spec.replay else None, spec.unlabelled.images if spec.unlabelled else None)
    return categories, roles, spec.storage.model_dump(exclude={"cache"})


def _run_ids(told: Told) -> tuple[str, ...]:
    """Of the edited resource: exactly where it can be computed, else a new one or any that was seen."""
    status = told.live.status
    assert status.run is not None
    others = tuple(entry.run_id for entry in _newest_entries(told.live) if entry.run_id != status.run.id)
    unknown = (NEVER_TRAINED, *others)
    if sources(told.live) != sources(told.edited):
        return unknown
    if _inputs(told.live) == _inputs(told.edited) and told.live.spec.base == told.edited.spec.base:
        return (status.run.id,)
    digest = _digest(told.live)
    if told.live.spec.base != told.edited.spec.base and told.edited.spec.base.pretrained is None:
        return unknown
    if run.run_id(told.live, digest, _start(told.live)) != status.run.id:
        return unknown
    return (run.run_id(told.edited, digest, _start(told.edited)),)


def _inputs(expansion: ClassifierExpansion) -> object:
    return run.model_inputs(expansion, _UNKNOWN, _start(expansion))


def _start(expansion: ClassifierExpansion) -> Start:
    """As far as status tells: categories that were given an index out of order are not in it."""
    base = expansion.status.run.base if expansion.status.run else None
    uri, digest = (base.uri, base.manifest_sha256) if base else (_UNKNOWN, _UNKNOWN)
    published = expansion.spec.base.pretrained is None
    pack = expansion.spec.base.pack
    return Start(
        model=PublishedBase(uri=uri, manifest_sha256=digest) if published else None,
        pack=PackBase(uri=pack.uri, digest=_UNKNOWN) if pack else None,
        requested=starts.requested(expansion),
        scheduled=schedule.last(expansion),
    )


def _digest(expansion: ClassifierExpansion) -> str:
    dataset = expansion.status.dataset
    return (dataset.digest if dataset else None) or _UNKNOWN


def _newest_entries(expansion: ClassifierExpansion) -> tuple[HistoryEntry, ...]:
    """What became of each run last."""
    entries: dict[str, HistoryEntry] = {}
    for entry in expansion.status.history:
        entries.setdefault(entry.run_id, entry)
    return tuple(entries.values())


# What is known of a run


def _reports(told: Told, run_id: str) -> tuple[RunReport | None, ...]:
    """The likeliest first; one alone if nothing depends on what is not known."""
    if told.report is not None and told.report.run_id == run_id:
        return (told.report,)
    status = told.live.status
    entry = next((e for e in _newest_entries(told.live) if e.run_id == run_id), None)
    if status.run is not None and status.run.id == run_id and status.run.outcome is None:
        return (None,)
    if entry is not None and entry.outcome == "Failed":
        return (None,)
    return _measured(told, run_id, entry)


def _measured(told: Told, run_id: str, entry: HistoryEntry | None) -> tuple[RunReport | None, ...]:
    candidate = told.live.status.candidate
    if candidate is not None and candidate.run_id == run_id:
        accepted, figures = (
            candidate.accepted,
            Figures(**candidate.model_dump(include=set(Figures.model_fields))),
        )
    elif entry is not None:
        accepted, figures = entry.outcome == "Published", Figures(accuracy=entry.accuracy)
    else:
        return (None,)
    best, worst = _report(run_id, figures, best=True), _report(run_id, figures, best=False)
    if told.edited.spec.acceptance == told.live.spec.acceptance and candidate and candidate.run_id == run_id:
        return (best if accepted else worst,)
    return (best, worst) if accepted else (worst, best)


def _report(run_id: str, figures: Figures, *, best: bool) -> RunReport:
    """The best or the worst that would be shown as these figures."""
    accuracy, new = _share(figures.accuracy, best), _share(figures.new_category_accuracy, best)
    score = CategoryScore(
        name=_UNKNOWN, training_images=0, validation_images=0, test_images=_MANY, recall=_share(None, best)
    )
    metrics = Metrics(
        overall=accuracy,
        new=new,
        new_closed=new,
        new_top5=new,
        base_drop=_drop(figures.base_accuracy_drop, best),
        categories=[score],
    )
    return RunReport(run_id=run_id, outcome="Succeeded", started_at="", finished_at="", metrics=metrics)


def _share(shown: str | None, best: bool) -> Proportion:
    if shown is None:
        return Proportion.of(_MANY if best else 0, _MANY)
    bound = Decimal(shown) + (_ROUNDED if best else -_ROUNDED)
    return Proportion.of(int(min(max(bound, Decimal(0)), Decimal(1)) * _MANY), _MANY)


def _drop(shown: str | None, best: bool) -> BaseDrop:
    known = (
        Decimal(shown) + (-_ROUNDED if best else _ROUNDED) if shown is not None else Decimal(0 if best else 1)
    )
    value = float(min(max(known, Decimal(-1)), Decimal(1)))
    return BaseDrop(
        measured=True,
        source="replay",
        lost=max(0, int(value * _MANY)),
        n=_MANY,
        value=value,
        low=value,
        high=value,
    )


# Everything together


def _observed(told: Told, run_id: str, report: RunReport | None, now: datetime) -> Observed:
    dataset = told.live.status.dataset
    listing = Listing(
        digest=_digest(told.live),
        images=(dataset.images if dataset else None) or 0,
        counts={f"category {n}": 1 for n in range((dataset.categories if dataset else None) or 0)},
    )
    start = _start(told.edited)
    return Observed(
        expansion=told.edited,
        listing=listing,
        start=start,
        base=BaseSeen(model=start.model, version=0, names=frozenset()) if start.model else None,
        pack=start.pack,
        run_id=run_id,
        report=ReportSeen(report=report) if report else None,
        job=_job(told.live, run_id, now),
        versions=tuple(_versions(told.live)),
    )


def _job(live: ClassifierExpansion, run_id: str, now: datetime) -> JobSeen | None:
    """The run under way, which gets on; that of another run is taken for gone already."""
    last = live.status.run
    if last is None or last.id != run_id or last.job is None or last.outcome or live.spec.suspend:
        return None
    return JobSeen(
        name=last.job,
        run_id=run_id,
        uid="",
        ours=True,
        phase=JobPhase.RUNNING,
        created_at=last.started_at or "",
        pending_since=stamp(now),
    )


def _versions(live: ClassifierExpansion) -> Iterator[VersionSeen]:
    """Ascending."""
    runs = _published_runs(live)
    if (coming := _coming(live)) is not None and live.status.run is not None:
        runs[coming] = live.status.run.id
    owner = Owner(namespace=live.metadata.namespace, name=live.metadata.name)
    for number, run_id in sorted(runs.items()):
        manifest = VersionManifest(
            version=number, run_id=run_id, owner=owner, published_at="", categories=0, files=[]
        )
        yield VersionSeen(manifest=manifest, manifest_sha256=f"{_UNKNOWN}-{number}")


def _published_runs(live: ClassifierExpansion) -> dict[int, str]:
    runs = {e.version: e.run_id for e in reversed(live.status.history) if e.version is not None}
    if live.status.model is not None:
        runs[live.status.model.version] = live.status.model.run_id
    return runs


def _coming(live: ClassifierExpansion) -> int | None:
    """The version that is being published or announced right now: status names it only when that is done."""
    ready = next((c for c in live.status.conditions if c.type == "Ready"), None)
    if ready is None or ready.reason != publication.PUBLISHING or live.status.run is None:
        return None
    runs = _published_runs(live)
    mine = [number for number, run_id in runs.items() if run_id == live.status.run.id]
    return max(mine, default=max(runs, default=0) + 1)


def _announced(live: ClassifierExpansion) -> tuple[int | None, ...]:
    """What the model servers may be told by now, the likeliest first."""
    model, coming = live.status.model, _coming(live)
    known = (model.announced or model.version) if model else None
    pin = live.spec.serving.version
    is_taken = coming is not None and pin in {None, coming}
    return (coming, known) if is_taken and coming != known else (known,)


def _settled(seen: Observed, live: ClassifierExpansion, announced: int | None) -> Observed:
    """With model servers that answer with what they are told today."""
    document = _told_today(seen, live, announced)
    if document is None:
        return seen
    replicas = _servers(live)
    deployment = DeploymentSeen(
        name=serving_name(live.metadata.name),
        ours=True,
        generation_observed=True,
        replicas=replicas,
        ready_replicas=replicas,
    )
    agent = AgentStatus(
        model_name=live.metadata.name,
        live_version=document.version,
        desired_version=document.version,
        state="Live",
    )
    managed = live.spec.serving.mode is ServingMode.MANAGED
    return replace(
        seen,
        serving_document=document,
        deployment=deployment if managed else None,
        service_exists=managed,
        agents=(agent,) * replicas if managed else (),
    )


def _servers(live: ClassifierExpansion) -> int:
    """As they are wanted, else as many as status last said that there should be."""
    given, told = live.spec.serving.replicas, live.status.serving
    return given if given is not None else (told.replicas if told and told.replicas is not None else 1)


def _told_today(seen: Observed, live: ClassifierExpansion, announced: int | None) -> ServingDocument | None:
    """As the planner wrote it when that version was announced."""
    if announced is None:
        return None
    serving = live.spec.serving.model_copy(update={"version": announced})
    asked = live.model_copy(update={"spec": live.spec.model_copy(update={"serving": serving})})
    document = derived.serving_document(replace(seen, expansion=asked))
    pinned = live.spec.serving.version == announced
    return document.model_copy(update={"pinned": pinned}) if document else None
