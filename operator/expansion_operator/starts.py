"""Names the current run: what it starts from, and the id that follows from it. Pure.

A run that is there already keeps the base it was started from where `spec.retrain.onBaseChange` is Report.
"""

from collections.abc import Iterator
from dataclasses import replace

from expansion_contract import layout, lineage, run
from expansion_contract.resource import OnBaseChange
from expansion_contract.run import PublishedBase, Start
from expansion_operator.observed import Observed


def identified(seen: Observed) -> Observed:
    """With its start and its run's id, as far as both can be known: not before the images are listed and the base is found."""
    if seen.listing is None or (seen.base is None and seen.expansion.spec.base.pretrained is None):
        return seen
    start = Start(
        model=seen.base.model if seen.base else None,
        pack=seen.pack,
        given=given(seen),
        categories=tuple(sorted(seen.listing.counts)),
        previous=_previous(seen),
    )
    chosen = _as_before(seen, start)
    return replace(seen, start=chosen, run_id=run.run_id(seen.expansion, seen.listing.digest, chosen))


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
