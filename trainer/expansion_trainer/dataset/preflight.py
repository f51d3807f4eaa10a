"""Says what is wrong with the images before a head is fitted: findings for the report, errors that end the run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from expansion_contract.dataset import FEW, MANY, listed
from expansion_contract.report import DatasetReport, Finding, Quarantined
from expansion_contract.resource import Mode
from expansion_trainer.dataset.findings import few
from expansion_trainer.dataset.scan import Scanned, SourceImage
from expansion_trainer.dataset.split import Divided, Side
from expansion_trainer.errors import BadDataset

Severity = Literal["error", "warning", "note"]
TOLERATED_UNDECODABLE = 0.2
"""Above this share something else is wrong than a few bad files."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    findings: tuple[Finding, ...]
    quarantined: tuple[Quarantined, ...]

    def refuse_errors(self) -> None:
        """Raises BadDataset with every error, so that one round of repair is enough."""
        errors = [finding.message for finding in self.findings if finding.severity == "error"]
        if errors:
            raise BadDataset(" ".join(errors))


def check(scanned: Scanned, divided: Divided, why: Mapping[int, str], mode: Mode) -> Preflight:
    """`why`: what could not be decoded, as Extracted has it. Never raises; the caller writes the findings down first."""
    size_findings = {"FewImages"}  # the listing's, said again below with the images that count
    kept = (finding for finding in scanned.findings if finding.reason not in size_findings)
    return Preflight(
        findings=(
            *_undecodable(scanned.images, why),
            *_categories(divided, _undecoded_folders(scanned.images, why), mode),
            *kept,
            *divided.findings,
        ),
        quarantined=tuple(
            Quarantined(key=scanned.images[index].address, why=reason) for index, reason in why.items()
        ),
    )


def dataset_report(scanned: Scanned, divided: Divided, preflight: Preflight) -> DatasetReport:
    return DatasetReport(
        digest=scanned.listing.digest,
        images=scanned.listing.images,
        new_categories=len(divided.categories),
        training_images=len(divided.new[Side.TRAINING]),
        validation_images=len(divided.new[Side.VALIDATION]),
        test_images=len(divided.new[Side.TEST]),
        replay_images=sum(map(len, divided.replay.values())),
        unlabelled_images=sum(map(len, divided.unlabelled.values())),
        quarantined=list(preflight.quarantined),
        duplicates=divided.duplicates,
    )


def _undecodable(images: Sequence[SourceImage], why: Mapping[int, str]) -> Iterator[Finding]:
    if not why:
        return
    examples = [f"{images[index].address} ({reason})" for index, reason in list(why.items())[:3]]
    share = len(why) / len(images)
    too_many = share > TOLERATED_UNDECODABLE
    rule = f", more than the {TOLERATED_UNDECODABLE:.0%} that are tolerated" if too_many else ""
    yield Finding(
        severity="error" if too_many else "warning",
        reason="UndecodableImages",
        message=f"{len(why)} of {len(images)} images cannot be read ({share:.1%}{rule}) and are left out: {'; '.join(examples)}."
        " Replace or delete them.",
    )


def _undecoded_folders(images: Sequence[SourceImage], why: Mapping[int, str]) -> frozenset[str]:
    """New categories none of whose images could be decoded."""
    new = [(index, image.folder) for index, image in enumerate(images) if image.is_new]
    readable = {folder for index, folder in new if index not in why}
    return frozenset(folder for _, folder in new) - readable


def _categories(divided: Divided, undecoded: frozenset[str], mode: Mode) -> Iterator[Finding]:
    training, validation, test = (divided.counts(side) for side in Side)
    usable = len(divided.categories) - len(undecoded)
    if mode is Mode.REPLACE and usable == 1:
        yield Finding(
            severity="error",
            reason="OneCategory",
            message="Only one category has images that can be read: with mode Replace every answer would be it. Add a folder for what"
            " it is not.",
        )
    sides = {
        name: n
        for name, *n in zip(divided.categories, training, validation, test, strict=True)
        if name not in undecoded
    }
    learned = [name for name, n in sides.items() if n[0]]
    yield from _each("error", "CategoryUnreadable", _UNREADABLE, sorted(undecoded))
    yield from _each("error", "NoImagesLeft", _LEFT_OUT, [name for name, n in sides.items() if not sum(n)])
    yield from _each(
        "error", "NoTrainingImages", _HELD_OUT, [x for x, n in sides.items() if sum(n) and not n[0]]
    )
    yield from _each("warning", "NoTestImages", _UNTESTED, [name for name in learned if not sides[name][2]])
    yield from _each("note", "NoValidationImages", _SILENT, [name for name in learned if not sides[name][1]])
    yield from _small(
        {name: sum(n) for name, *n in zip(divided.categories, training, validation, test, strict=True)}
    )


_UNREADABLE = "No image of {} can be read. Replace them."
_LEFT_OUT = (
    "Every image of {} is left out because it also stands in another category. Delete the wrong copies."
)
_HELD_OUT = (
    f"No image of {{}} falls on the training side (an image's content decides its side). Add images ({MANY} each are a good aim), or"
    " leave it out with spec.categories.include."
)
_UNTESTED = "{} has no test image, so nothing is known about how well it is recognised. Add images or raise spec.split.testPercent."
_SILENT = "{} has no validation image, so it has no say in choosing and calibrating."


def _each(severity: Severity, reason: str, sentence: str, names: Sequence[str]) -> Sequence[Finding]:
    found = [
        Finding(severity=severity, reason=reason, category=name, message=sentence.format(repr(name)))
        for name in names
    ]
    return few(found, lambda categories: sentence.format(categories).replace(" has no ", " have no "))


def _small(counts: Mapping[str, int]) -> Iterator[Finding]:
    tiny = [f"{name} ({n})" for name, n in counts.items() if 0 < n < FEW]
    small = [f"{name} ({n})" for name, n in counts.items() if FEW <= n < MANY]
    if tiny:
        yield Finding(
            severity="warning",
            reason="FewImages",
            message=f"Fewer than {FEW} usable images: {listed(tiny)}. Too few to learn well and to measure; {MANY} each is a good aim.",
        )
    if small:
        yield Finding(
            severity="note",
            reason="FewImages",
            message=f"Fewer than {MANY} usable images: {listed(small)}.",
        )
