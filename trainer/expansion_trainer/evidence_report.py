"""Says which evidence stood for the old categories, what each kind can tell and what it cannot. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from expansion_contract.report import EvidenceReport
from expansion_trainer.head.evidence import Evidence
from expansion_trainer.sides import Dealt


@dataclass(frozen=True)
class _Says:
    tells: str
    cannot_tell: str


_KINDS = {
    "replay": _Says(
        "what the new categories take from base categories, and whether the answers stay right: the drop is measured on its test side",
        "how sure the base is of new pictures, where these are the images it was trained on",
    ),
    "pack": _Says(
        "what the new categories take from categories of which it holds real bottlenecks, and whether the answers stay right",
        "more than a few images of each category can: the drop is an estimate, because they helped to set the boundary",
    ),
    "unlabelled": _Says(
        "how many photographs of no new category are answered with one: the boundary is set on them",
        "whether the base's answers to them are right, so it calibrates no score",
    ),
    "procedural": _Says(
        "where the new categories must not reach: pictures drawn by a program show nothing",
        "how many photographs are taken: the network finds drawings easier to tell apart, so they under-state it",
    ),
}


def evidence_report(dealt: Dealt) -> Iterator[EvidenceReport]:
    """Those that were used, the most telling first."""
    measured = {"replay": len(dealt.base_test) if dealt.base_test else 0}
    if dealt.bystanders is not None and dealt.bystanders.kind != "pack":
        measured.setdefault(dealt.bystanders.kind, len(dealt.bystanders.bottlenecks))
    for kind, says in _KINDS.items():
        fitted, calibrating = (_count(side, kind) for side in (dealt.evidence, dealt.calibration))
        if fitted or calibrating:
            yield EvidenceReport(
                kind=kind,
                training=fitted,
                calibration=calibrating,
                test=measured.get(kind, 0),
                tells=says.tells,
                cannot_tell=says.cannot_tell,
            )


def _count(side: Sequence[Evidence], kind: str) -> int:
    return sum(len(evidence.bottlenecks) for evidence in side if evidence.kind == kind)
