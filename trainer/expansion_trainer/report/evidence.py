"""What each kind of evidence for the old categories can say, and what it cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expansion_contract.report import EvidenceReport


@dataclass(frozen=True, kw_only=True)
class Meaning:
    name: str
    tells: str
    cannot_tell: str


MEANINGS = {
    "replay": Meaning(
        name="Images of base categories",
        tells="what the base lost: those held out were answered before and after",
        cannot_tell="how categories of which there is no image fare",
    ),
    "pack": Meaning(
        name="Real bottlenecks of the pack",
        tells="where old categories lie, and about how many answers were lost",
        cannot_tell="an unbiased loss: they have helped to set the boundary. Held-out images of base categories (spec.replay) would",
    ),
    "unlabelled": Meaning(
        name="Photographs without labels",
        tells="whether a photograph of something else is now answered with a new category",
        cannot_tell="whether the answer before was right; images of base categories (spec.replay) would",
    ),
    "procedural": Meaning(
        name="Pictures drawn by a program",
        tells="where the new categories end; they need no data",
        cannot_tell="how a base category that looks like a new one fares: they under-state steals. A few hundred photographs"
        " (spec.unlabelled) or images of base categories (spec.replay) would",
    ),
}


def evidence_reports(
    training: Mapping[str, int], calibration: Mapping[str, int], test: Mapping[str, int]
) -> list[EvidenceReport]:
    """`training`, `calibration`, `test`: images of each kind that fitted, chose and measured."""
    return [
        EvidenceReport(
            kind=kind,
            training=training.get(kind, 0),
            calibration=calibration.get(kind, 0),
            test=test.get(kind, 0),
            tells=meaning.tells,
            cannot_tell=meaning.cannot_tell,
        )
        for kind, meaning in MEANINGS.items()
        if any(kind in counts for counts in (training, calibration, test))
    ]


def named(reports: Sequence[EvidenceReport]) -> list[dict[str, object]]:
    return [
        {"name": MEANINGS[one.kind].name if one.kind in MEANINGS else one.kind, **one.model_dump()}
        for one in reports
    ]
