"""What the operator does with a finished run, for those who have no cluster: asks the gate, publishes, says what is to be served."""

from dataclasses import dataclass

from pydantic import ValidationError

from expansion_contract import layout, lineage
from expansion_contract.dataset import Listing
from expansion_contract.gate import Verdict, verdict
from expansion_contract.report import RunReport
from expansion_contract.resource import ClassifierExpansion
from expansion_contract.run import Owner, TrainingRun, training_run
from expansion_contract.version import ServingDocument, VersionManifest
from expansion_storage import ObjectMissing, Prefix
from expansion_storage.publication import prune, publish, published
from expansion_trainer.resource_file import Refused
from expansion_trainer.starts import start_of


@dataclass(frozen=True, kw_only=True)
class Outcome:
    verdict: Verdict
    version: int | None  # None: the gate refused it


def must_own(output: Prefix, owner: Owner) -> None:
    """Two resources would number their versions in one folder."""
    document = _serving(output)
    if document is not None and document.owner != owner:
        raise Refused(
            f"spec.output.models {output.uri} already belongs to ClassifierExpansion {document.owner}: two resources would number"
            " their versions in one folder. Choose another address."
        )


def written_run(expansion: ClassifierExpansion, listing: Listing, output: Prefix) -> TrainingRun:
    """Named and written down, with what it starts from."""
    run = training_run(expansion, listing.digest, start_of(expansion, listing, output, _serving(output)))
    output.write(layout.run(run.run_id, layout.RUN), run.to_json(), "application/json")
    return run


def succeeded(output: Prefix, run_id: str) -> RunReport | None:
    """The report of a run that was trained before: the gate can be asked again without training."""
    report = read_report(output.below(layout.run(run_id)))
    return report if report and report.outcome == "Succeeded" else None


def read_report(run_folder: Prefix) -> RunReport | None:
    try:
        return RunReport.model_validate_json(run_folder.read(layout.REPORT))
    except ObjectMissing:
        return None
    except ValidationError:
        raise Refused(
            f"{run_folder.address(layout.REPORT)} cannot be read as a report; it may be of another release."
        ) from None


def publish_if_accepted(
    expansion: ClassifierExpansion, run: TrainingRun, report: RunReport, output: Prefix, at: str
) -> Outcome:
    """A run that is published keeps its version. `at`: RFC 3339."""
    answer = verdict(report, expansion.spec.acceptance)
    if not answer.accepted:
        return Outcome(verdict=answer, version=None)
    manifest = _version_of(run, report, output, at)
    _serve(manifest, expansion, run.owner, output)
    return Outcome(verdict=answer, version=manifest.version)


def _version_of(run: TrainingRun, report: RunReport, output: Prefix, at: str) -> VersionManifest:
    versions = [manifest for manifest, _ in published(output)]
    same = [manifest for manifest in versions if manifest.run_id == run.run_id]
    if same:
        return same[-1]
    return publish(output, report, run.owner, _last_version(output) + 1, at)


def _last_version(output: Prefix) -> int:
    """The highest number ever given, even if its folder is gone."""
    document = _serving(output)
    return max([document.last_version if document else 0, *(seen.version for seen, _ in published(output))])


def _serve(manifest: VersionManifest, expansion: ClassifierExpansion, owner: Owner, output: Prefix) -> None:
    versions = published(output)
    document = ServingDocument(
        owner=owner,
        model_name=expansion.metadata.name,
        version=manifest.version,
        run_id=manifest.run_id,
        manifest_sha256=next(sha256 for seen, sha256 in versions if seen.version == manifest.version),
        last_version=_last_version(output),
        given=list(lineage.given(_serving(output), [seen for seen, _ in versions])),
    )
    output.write(layout.SERVING, document.to_json(), "application/json")
    continued = lineage.continued([seen for seen, _ in versions])
    for old, _ in versions[: -expansion.spec.output.keep_versions]:
        if old.version != manifest.version and old != continued:
            prune(output, old.version)


def _serving(output: Prefix) -> ServingDocument | None:
    try:
        return ServingDocument.model_validate_json(output.read(layout.SERVING))
    except ObjectMissing:
        return None
    except ValidationError:
        raise Refused(
            f"{output.address(layout.SERVING)} cannot be read; restore it, or delete it: it is then written again."
        ) from None
