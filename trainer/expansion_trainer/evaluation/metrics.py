"""What a head answers to each image, and the figures that follow from it."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from expansion_contract.report import BaseDrop, Paired, Proportion
from expansion_trainer.head.softmax import Array, Doubles, Flags, Labels, Rows

CHUNK = 4096
"""Images answered at once: 1000 categories take 16 MB."""
TOP = 5
BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """One for each of n images, over all C categories."""

    answer: Labels  # (n,), index of the highest logit
    among_new: Labels  # (n,), the same among the columns from base_count on; an index among all
    score: Doubles  # (n,), of the answer, after temperature
    best: Labels  # (n, TOP), highest first; fewer columns for fewer categories

    def __len__(self) -> int:
        return len(self.answer)

    def right(self, truth: Labels) -> Flags:
        return np.asarray(self.answer == truth)


def answers(rows: Rows, bottlenecks: Array, base_count: int, temperature: float) -> Answers:
    """In chunks, so that memory does not grow with images times categories."""
    starts = range(0, max(1, len(bottlenecks)), CHUNK)
    chunks = (rows.logits(bottlenecks[start : start + CHUNK]) for start in starts)
    return joined(*(_answers(logits, base_count, temperature) for logits in chunks))


def joined(*parts: Answers) -> Answers:
    return Answers(
        answer=np.concatenate([part.answer for part in parts]),
        among_new=np.concatenate([part.among_new for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        best=np.concatenate([part.best for part in parts]),
    )


def _answers(logits: Array, base_count: int, temperature: float) -> Answers:
    z = logits.astype(np.float64) / temperature
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    return Answers(
        answer=best[:, 0],
        among_new=_highest(logits[:, base_count:]) + base_count,
        score=np.exp(z.max(axis=1) - logsumexp(z, axis=1)),
        best=best,
    )


def _highest(logits: Array) -> Labels:
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def proportion(hits: Flags) -> Proportion:
    return Proportion.of(int(hits.sum()), len(hits))


def measured_drop(before: Flags, after: Flags) -> BaseDrop:
    """Right before minus right after, on the same images, with Newcombe's interval for paired differences."""
    table = paired(before, after)
    low, high = table.interval()
    lost, n = table.before - table.after, table.n
    return BaseDrop(
        measured=True,
        source="replay",
        lost=lost,
        n=n,
        value=lost / n if n else 0.0,
        low=low,
        high=high,
        paired=table,
    )


def paired(before: Flags, after: Flags) -> Paired:
    return Paired(
        before=int(before.sum()), after=int(after.sum()), both=int((before & after).sum()), n=len(before)
    )


def calibration_error(score: Doubles, right: Flags) -> float | None:
    """Mean distance between score and accuracy over 15 bins of equally many images; biased upward when they are few."""
    if len(score) == 0:
        return None
    order = np.argsort(score, kind="stable")
    bins = [members for members in np.array_split(order, BINS) if len(members)]
    distances = [abs(float(score[m].mean()) - float(right[m].mean())) * len(m) for m in bins]
    return sum(distances) / len(score)


def confused(truth: NDArray[np.int64], answer: Labels, most: int) -> list[tuple[int, int, int]]:
    """(truth, answer, count) of wrong answers, the commonest first."""
    wrong = truth != answer
    pairs = Counter(zip(truth[wrong].tolist(), answer[wrong].tolist(), strict=True))
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [(first, second, count) for (first, second), count in ranked]
