"""Compares what a loaded model answers to the golden images with what it answered when it was trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from expansion_contract.version import Golden, GoldenImage


@dataclass(frozen=True, kw_only=True)
class Answer:
    names: tuple[str, ...]  # best first
    scores: tuple[float, ...]


def mismatch(golden: Golden, answers: Sequence[Answer]) -> str | None:
    """The first image whose answer differs, with both answers; None if all agree."""
    for position, (image, answer) in enumerate(zip(golden.images, answers, strict=True), start=1):
        if not agrees(image, answer, golden.tolerance):
            return (
                f"golden image {position} of {len(golden.images)} should be answered {_shown(image.names, image.scores)} and is"
                f" answered {_shown(answer.names, answer.scores)}; scores may differ by {golden.tolerance:g}"
            )
    return None


def agrees(image: GoldenImage, answer: Answer, tolerance: float) -> bool:
    """The same names in the same order, except that those within the tolerance of each other may change places.

    Of several that tie for the last place, any may have it.
    """
    expected = list(zip(image.names, image.scores, strict=True))
    got = list(zip(answer.names, answer.scores, strict=True))
    if len(expected) != len(got) or not expected:
        return False
    in_place = all(
        _close(one, other, tolerance) for one, other in zip(image.scores, answer.scores, strict=True)
    )
    return in_place and _explained(expected, got, tolerance) and _explained(got, expected, tolerance)


def _explained(
    some: Sequence[tuple[str, float]], others: Sequence[tuple[str, float]], tolerance: float
) -> bool:
    """Every name has its score among the others, or ties with their last and may have fallen off the end."""
    last = others[-1][1]
    names = {name for name, _ in others}
    return all(
        any(name == other and _close(score, its, tolerance) for other, its in others)
        or (name not in names and _close(score, last, tolerance))
        for name, score in some
    )


def _close(one: float, other: float, tolerance: float) -> bool:
    return abs(one - other) <= tolerance  # False for NaN


def _shown(names: Sequence[str], scores: Sequence[float]) -> str:
    if not names:
        return "nothing"
    return ", ".join(f"{name!r} {score:.4g}" for name, score in list(zip(names, scores, strict=True))[:2])
