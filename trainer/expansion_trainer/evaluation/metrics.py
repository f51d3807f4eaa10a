"""What a model answers to each image, and the figures that follow from it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from expansion_contract.report import BaseDrop, Paired, Proportion
from expansion_trainer.head.answering import Answering, folded_logits
from expansion_trainer.head.softmax import Array, Doubles, Flags, Labels

Source = Literal["replay", "pack", "unlabelled", "procedural"]
CHUNK = 4096
"""Images answered at once: 1000 categories take 16 MB."""
TOP = 5
BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """One for each of n images, over all C categories."""

    answer: Labels  # (n,), index of the highest probability
    among_new: Labels  # (n,), the same if only new columns competed; an index among all
    score: Doubles  # (n,), of the answer, after temperature and scale
    best: Labels  # (n, TOP), highest first; fewer columns for fewer categories

    def __len__(self) -> int:
        return len(self.answer)

    def right(self, truth: Labels) -> Flags:
        return np.asarray(self.answer == truth)

    def among_best(self, truth: Labels) -> Flags:
        return np.asarray((self.best == truth[:, None]).any(axis=1))


def answers(model: Answering, bottlenecks: Array, base_count: int) -> Answers:
    """Of a model whose fitted columns are its categories, the new ones from base_count on."""
    return answered(model, bottlenecks, np.arange(base_count, len(model.rows.bias)))


def answered(model: Answering, bottlenecks: Array, new: Labels) -> Answers:
    """`new`: indices of new columns."""
    return joined(*(_answers(model.logits(part), model.answers_as, new) for part in chunks(bottlenecks)))


def chunks(bottlenecks: Array) -> Iterator[Array]:
    """At least one, so that memory does not grow with images times categories."""
    for start in range(0, max(1, len(bottlenecks)), CHUNK):
        yield bottlenecks[start : start + CHUNK]


def joined(*parts: Answers) -> Answers:
    return Answers(
        answer=np.concatenate([part.answer for part in parts]),
        among_new=np.concatenate([part.among_new for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        best=np.concatenate([part.best for part in parts]),
    )


def _answers(logits: Array, answers_as: Labels, new: Labels) -> Answers:
    """An alias competes among the new ones with its own logit, and answers with its target's name."""
    z = folded_logits(logits, answers_as).astype(np.float64)
    best = np.argsort(-z, axis=1, kind="stable")[:, :TOP]
    return Answers(
        answer=best[:, 0],
        among_new=answers_as[new[logits[:, new].argmax(axis=1)]] if len(new) else best[:, 0],
        score=np.exp(z.max(axis=1) - logsumexp(z, axis=1)),
        best=best,
    )


def proportion(hits: Flags) -> Proportion:
    return Proportion.of(int(hits.sum()), len(hits))


def measured_drop(before: Flags, after: Flags) -> BaseDrop:
    """Right before minus right after, on the same images, with Newcombe's interval for paired differences."""
    return _drop(before, after, True, "replay")


def _drop(before: Flags, after: Flags, measured: bool, source: Source) -> BaseDrop:
    table = paired(before, after)
    low, high = table.interval()
    lost, n = table.before - table.after, table.n
    return BaseDrop(
        measured=measured,
        source=source,
        lost=lost,
        n=n,
        value=lost / n if n else 0.0,
        low=low,
        high=high,
        paired=table,
    )


def pack_drop(before: Flags, after: Flags) -> BaseDrop:
    """The same of a pack's real bottlenecks. They have set the boundary, so it is an estimate, and a hopeful one."""
    return _drop(before, after, False, "pack")


def stolen_drop(stolen: Flags, source: Source) -> BaseDrop | None:
    """An upper estimate: a stolen image was not always answered rightly before. None where there is no image."""
    if len(stolen) == 0:
        return None
    share = proportion(stolen)
    return BaseDrop(
        measured=False,
        source=source,
        lost=share.hits,
        n=share.n,
        value=share.value,
        low=share.low,
        high=share.high,
    )


def paired(before: Flags, after: Flags) -> Paired:
    return Paired(
        before=int(before.sum()), after=int(after.sum()), both=int((before & after).sum()), n=len(before)
    )


def calibration_error(score: Doubles, right: Flags) -> float | None:
    """Mean distance between score and accuracy over bins of equally many images; biased upward when they are few."""
    if len(score) == 0:
        return None
    distances = [abs(float(score[m].mean()) - float(right[m].mean())) * len(m) for m in binned(score)]
    return sum(distances) / len(score)


def binned(score: Doubles) -> list[Labels]:
    """Bins of equally many images, from the lowest scores to the highest."""
    order = np.argsort(score, kind="stable")
    return [members for members in np.array_split(order, BINS) if len(members)]


def confused(truth: NDArray[np.int64], answer: Labels, most: int) -> list[tuple[int, int, int]]:
    """(truth, answer, count) of wrong answers, the commonest first."""
    wrong = truth != answer
    pairs = Counter(zip(truth[wrong].tolist(), answer[wrong].tolist(), strict=True))
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [(first, second, count) for (first, second), count in ranked]
