"""Says what is wrong with the images before a head is fitted: findings for the report, errors that end the run."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expansion_contract.dataset import FEW, MANY, listed
from expansion_contract.report import Category, DatasetReport, Finding, Quarantined
from expansion_contract.resource import Mode
from expansion_trainer.dataset.scan import Scanned, SourceImage
from expansion_trainer.dataset.split import Divided, Side
from expansion_trainer.errors import BadDataset

TOLERATED_UNDECODABLE = 0.2
"""Above this share something else is wrong than a few bad files."""
SUSPICIOUS_SHARE = 0.5
SUSPICIOUS_IMAGES = 4
"""With fewer images half of them is chance."""


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


def known_to_base(
    base_logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    categories: Sequence[str],
    base: Sequence[Category],
) -> tuple[Finding, ...]:
    """New categories the base may know under another name. `base_logits`: (n, C0) of training images, `labels`: (n,).

    A base category that answers several new ones knows none of them: it is only the nearest thing the base has.
    """
    answers = base_logits.argmax(axis=1)
    claimed: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for index, name in enumerate(categories):
        if usual := _usual(answers[labels == index]):
            claimed[usual[0]].append((name, usual[1]))
    return tuple(
        _known(*new[0], base[answer]) if len(new) == 1 else _nearest([name for name, _ in new], base[answer])
        for answer, new in claimed.items()
    )


def _usual(answers: NDArray[np.intp]) -> tuple[int, float] | None:
    """The answer to half of the images or more, and to which share; None if there is none, or too few images to say."""
    if len(answers) < SUSPICIOUS_IMAGES:
        return None
    answer, count = Counter(answers.tolist()).most_common(1)[0]
    share = count / len(answers)
    return (answer, share) if share >= SUSPICIOUS_SHARE else None


def _known(name: str, share: float, known: Category) -> Finding:
    return Finding(
        severity="warning",
        reason="KnownToBase",
        category=name,
        message=f"The base answers {_named(known)} to {share:.0%} of the training images of {name!r}. If both are the same thing,"
        f" leave the folder out; if not, expect some {known.name!r} to be answered with {name!r}.",
    )


def _nearest(names: list[str], nearest: Category) -> Finding:
    return Finding(
        severity="note",
        reason="NearestInBase",
        message=f"To most images of {listed(names)} the base answers {_named(nearest)}: the nearest it has. Some {nearest.name!r} may be"
        " answered with one of them.",
    )


def _named(category: Category) -> str:
    return repr(f"{category.name} ({category.uid})" if category.uid else category.name)


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
        yield _error(
            "OneCategory",
            "Only one category has images that can be read: with mode Replace every answer would be it. Add a folder for what it"
            " is not.",
        )
    for name, *sides in zip(divided.categories, training, validation, test, strict=True):
        if name in undecoded:
            yield _error("CategoryUnreadable", f"No image of {name!r} can be read. Replace them.", name)
        elif not sides[0]:
            yield _error("NoTrainingImages", _no_training(name, sum(sides)), name)
        else:
            yield from _held_out(name, sides[1], sides[2])
    yield from _small(
        {name: sum(n) for name, *n in zip(divided.categories, training, validation, test, strict=True)}
    )


def _no_training(name: str, images: int) -> str:
    if not images:
        return f"Every image of {name!r} is left out because it also stands in another category. Delete the wrong copies."
    return (
        f"None of the {images} images of {name!r} falls on the training side (an image's content decides its side)."
        f" Add images; {MANY} are a good aim."
    )


def _held_out(name: str, validation: int, test: int) -> Iterator[Finding]:
    if not test:
        yield Finding(
            severity="warning",
            reason="NoTestImages",
            category=name,
            message=f"{name!r} has no test image, so nothing is known about how well it is recognised. Add images or raise"
            " spec.split.testPercent.",
        )
    if not validation:
        yield Finding(
            severity="note",
            reason="NoValidationImages",
            category=name,
            message=f"{name!r} has no validation image, so it has no say in choosing and calibrating.",
        )


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


def _error(reason: str, message: str, category: str | None = None) -> Finding:
    return Finding(severity="error", reason=reason, message=message, category=category)
