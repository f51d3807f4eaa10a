"""Lists everything a run reads, and refuses a data set that is not the one the run was made for."""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from expansion_contract.dataset import UNKNOWN, Listing, Problem, Reading, Role, category_of
from expansion_contract.labels import Vocabulary
from expansion_contract.report import Finding
from expansion_contract.resource import Mode
from expansion_contract.run import TrainingRun
from expansion_storage.errors import ObjectMissing
from expansion_storage.prefix import Prefix
from expansion_trainer.errors import BadDataset, DatasetChanged

OpenPrefix = Callable[[str], Prefix]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """One listed image. Its content is not known yet, only what the store says about it."""

    role: Role
    place: Prefix
    key: str  # relative to `place`
    size: int
    etag: str
    folder: str = (
        ""  # the category: its folder in Unicode's composed form, or `unknown`; "" for unlabelled images
    )

    @property
    def address(self) -> str:
        return self.place.address(self.key)

    @property
    def is_new(self) -> bool:
        """Is it an image of a new category? `unknown` is one."""
        return self.role in {Role.NEW, Role.UNKNOWN}

    def read(self) -> bytes:
        try:
            return self.place.read(self.key)
        except ObjectMissing:
            raise DatasetChanged(
                f"{self.address} was listed and is gone: the images changed during the run. The next listing starts a new one."
            ) from None


@dataclass(frozen=True, kw_only=True)
class Scanned:
    images: tuple[SourceImage, ...]
    """What the run needs, in the order of roles and keys. In mode Replace only images of new categories."""
    listing: Listing
    findings: tuple[Finding, ...]


def scan(run: TrainingRun, open_prefix: OpenPrefix, base: Vocabulary | None = None) -> Scanned:
    """Everything the run reads. `base`: the names that the base has, ImageNet's if not given.

    Raises BadDataset and DatasetChanged, the store's own errors pass.
    """
    reading = Reading(include=frozenset(map(_composed, run.categories.include)))
    images: list[SourceImage] = []
    for image in _listed(run, open_prefix):
        reading.add(image.role, image)
        if reading.takes(image.role, image.key) and _is_used(image.role, run.mode):
            images.append(image)
    listing = reading.finish(run.categories, run.mode, base)
    _refuse(listing, run)
    findings = (*map(_finding, listing.problems), *_unused(listing, run.mode))
    return Scanned(images=tuple(images), listing=listing, findings=findings)


def _listed(run: TrainingRun, open_prefix: OpenPrefix) -> Iterator[SourceImage]:
    sources = {
        Role.NEW: run.categories.images,
        Role.REPLAY: run.replay,
        Role.UNLABELLED: run.unlabelled,
        Role.UNKNOWN: run.categories.unknown_images,
    }
    for role, address in sources.items():
        if address is None:
            continue
        place = open_prefix(address)
        for entry in place.list():
            yield SourceImage(
                role=role,
                place=place,
                key=entry.key,
                size=entry.size,
                etag=entry.etag,
                folder=_folder(role, entry.key),
            )


def _folder(role: Role, key: str) -> str:
    if role is Role.UNKNOWN:
        return UNKNOWN
    return "" if role is Role.UNLABELLED else category_of(key) or ""


def _refuse(listing: Listing, run: TrainingRun) -> None:
    if listing.digest != run.dataset_digest:
        raise DatasetChanged(
            f"The images below {run.categories.images} changed after run {run.run_id} was made: their listing is {listing.digest}, the"
            f" run was made for {run.dataset_digest}. A new run starts with what is there now."
        )
    if listing.errors:
        raise BadDataset(" ".join(problem.message for problem in listing.errors))


def _is_used(role: Role, mode: Mode) -> bool:
    return mode is Mode.EXPAND or role in {Role.NEW, Role.UNKNOWN}


def _unused(listing: Listing, mode: Mode) -> Iterator[Finding]:
    idle = listing.replay_images + listing.unlabelled_images
    if mode is Mode.REPLACE and idle:
        yield Finding(
            severity="note",
            reason="ImagesUnused",
            message=f"{idle} images of spec.replay and spec.unlabelled are not used: mode Replace keeps no base category.",
        )


def _finding(problem: Problem) -> Finding:
    return Finding(severity="warning", reason=problem.reason, message=problem.message)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
