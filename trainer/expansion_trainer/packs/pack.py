"""The pack as a value: what a model knows of its categories without their images, and how it grows from version to version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from expansion_contract.pack import Expansion, Extractor
from expansion_contract.report import Category
from expansion_trainer.head import statistics as sums
from expansion_trainer.head.softmax import Array, Labels, Rows
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.packs import core as cores
from expansion_trainer.packs.core import Core

FROZEN = 0
"""The group of the pretrained network's columns; expansions count from 1."""

State = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Probes:
    """Pictures, as files, and the bottlenecks they must give wherever the pack is used."""

    files: tuple[bytes, ...]
    bottlenecks: Array  # (P, D)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pack:
    """Column, label and category index are one thing here: the index by which the model answers."""

    extractor: Extractor
    precision: str
    categories: tuple[Category, ...]
    head: Rows  # (D, C), as exported: offsets are folded in, temperature and scale are not
    groups: Labels  # (C,)
    temperature: float
    expansions: tuple[Expansion, ...]  # [t - 1] belongs to group t
    statistics: Statistics  # of training images; count 0 where none was ever seen
    core: Core
    probes: Probes
    state: State = field(
        default_factory=dict
    )  # named arrays that the detector of unknown pictures keeps here
    images: str = ""  # digest of the listing it was built from

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def frozen(self) -> int:
        """How many of the first columns are the pretrained network's."""
        return int((self.groups == FROZEN).sum())

    @property
    def scale(self) -> float:
        """Of all added columns: an expansion solves the earlier ones again with its own."""
        return self.expansions[-1].scale if self.expansions else 1.0

    @property
    def pretrained(self) -> tuple[Rows, tuple[Category, ...]]:
        """The pretrained network's own rows and categories."""
        weights = np.ascontiguousarray(self.head.weights[:, : self.frozen])
        return Rows(weights=weights, bias=self.head.bias[: self.frozen]), self.categories[: self.frozen]

    @property
    def seen(self) -> int:
        """Categories of which it holds a real bottleneck."""
        return len(np.unique(self.core.labels))


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """A run's labelled images of one side; labels are fitted columns: the base model's, then the new ones."""

    bottlenecks: Array  # (n, D)
    labels: Labels  # (n,)
    digests: Sequence[str]  # (n,), of the contents


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What the run's model answers with, and whence each column comes."""

    categories: tuple[Category, ...]  # C, in index order
    head: Rows  # (D, C), in index order, as exported
    source: Labels  # (C,), the fitted column of each index; -1: none, it is retired
    temperature: float
    expansion: Expansion


def grown(
    before: Pack, after: Answers, training: Images, validation: Images, state: State | None = None
) -> Pack:
    """The pack of a finished run. What `before` knew of a category stays as it is, bit by bit; of categories it knew nothing
    of, today's images count; retired and replaced ones keep their rows and nothing else.

    Test images have no place here: the next version would be measured on what it carries.
    """
    columns = int(max(len(before), after.source.max(initial=-1) + 1))
    known = np.pad(before.statistics.counts > 0, (0, columns - len(before)))
    today = sums.of(*_unknown(training, known), columns)
    fresh = cores.of_sides(_core(training, known), _core(validation, known))
    whole = replace(
        before,
        statistics=sums.merged(before.statistics, today),
        core=cores.joined([before.core, fresh]),
        groups=np.pad(before.groups, (0, columns - len(before)), constant_values=len(before.expansions) + 1),
        state=dict(state or {}),
        images="",
    )
    return _answering(whole, after)


def emptied(before: Pack) -> Pack:
    """Of the same network without a category: what a model starts from that knows none but its own."""
    size = len(before.head.weights)
    return replace(
        before,
        categories=(),
        head=Rows(weights=before.head.weights[:, :0], bias=before.head.bias[:0]),
        groups=before.groups[:0],
        temperature=1.0,
        expansions=(),
        statistics=sums.empty(0, size),
        core=cores.empty(size),
        state={},
        images="",
    )


def _unknown(images: Images, known: NDArray[np.bool_]) -> tuple[Array, Labels]:
    rows = ~known[images.labels]
    return images.bottlenecks[rows], images.labels[rows]


def _core(images: Images, known: NDArray[np.bool_]) -> Core:
    bottlenecks, labels = _unknown(images, known)
    digests = np.asarray(images.digests, np.str_)[~known[images.labels]]
    return cores.chosen(bottlenecks, labels, digests.tolist())


def _answering(fitted: Pack, after: Answers) -> Pack:
    """From fitted columns to the model's indices, without what never answers."""
    active = np.array([category.state == "active" for category in after.categories], np.bool_)
    source = np.where(active, after.source, -1)
    return replace(
        fitted,
        categories=after.categories,
        head=after.head,
        groups=_groups(fitted.groups, after.source),
        temperature=after.temperature,
        expansions=(*fitted.expansions, after.expansion),
        statistics=_moved(fitted.statistics, source),
        core=_moved_core(fitted.core, source),
    )


def _groups(groups: Labels, source: Labels) -> Labels:
    """An index without a column was an expansion's own once."""
    newest = int(groups.max(initial=0))
    return np.where(source >= 0, groups[np.maximum(source, 0)], newest)


def _moved(statistics: Statistics, source: Labels) -> Statistics:
    gone = np.setdiff1d(statistics.seen, source)
    kept = sums.removed(statistics, gone.tolist()) if len(gone) else statistics
    there = (source >= 0)[:, None]
    rows = np.maximum(source, 0)
    return replace(
        kept,
        counts=np.where(there[:, 0], kept.counts[rows], 0),
        means=np.where(there, kept.means[rows], 0.0),
        variances=np.where(there, kept.variances[rows], 0.0),
    )


def _moved_core(core: Core, source: Labels) -> Core:
    column = np.flatnonzero(source >= 0)
    index_of = np.full(1 + max(int(source.max(initial=-1)), int(core.labels.max(initial=-1))), -1)
    index_of[source[column]] = column
    kept = core.where(index_of[core.labels] >= 0)
    return cores.joined([replace(kept, labels=index_of[kept.labels])])
