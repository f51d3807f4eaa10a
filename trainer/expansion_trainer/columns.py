"""Gives every category its index, once and for ever: the fitted columns go in, the model's categories in index order come out.

Indices are append-only. A category that is gone keeps its index and never answers; one that comes back finds its own again;
what the base has gained since our last version follows after what we had. Categories are recognised so: the base's by their
place in its own list, which is append-only, too (by WordNet id or name where the base was exchanged for another one), ours by
the names in `given`. Pure.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from expansion_contract.labels import normalised
from expansion_contract.report import Category, Overlap

Indices = NDArray[np.int64]
Array = NDArray[np.float32]
State = Literal["active", "retired", "replaced"]
NEVER = -1
"""Of a column that never answers, and of an index that no column was fitted for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Fitted columns are the base model's in its index order, then today's new categories in the order they were given here."""

    categories: tuple[Category, ...]  # (C,) in index order, group "base" or "new" as of today
    source: Indices  # (C,) the fitted column of each index, or NEVER
    answers_as: Indices  # (C,) the index whose name and probability it gives, or NEVER
    base: Indices  # (B,) the index of each of the base's categories
    new: Indices  # (U,) the index of each of today's new categories
    given: tuple[str, ...]  # new categories that ever got an index, in the order of their indices
    retired: tuple[str, ...]  # those of them that are gone, in the same order

    @property
    def answering(self) -> NDArray[np.bool_]:
        """(C,) which columns compete for the answer."""
        answering: NDArray[np.bool_] = self.answers_as != NEVER
        return answering

    @property
    def fitted_answers_as(self) -> Indices:
        """(F,) the index that each fitted column answers with, or NEVER: the label of an image of that category."""
        return np.concatenate([self.answers_as[self.base], self.answers_as[self.new]])


def in_index_order(columns: Columns, fitted: Array) -> Array:
    """(…, F) -> (…, C): rows, biases or logits of the fitted columns at their indices; zero where no column was fitted."""
    ordered = fitted[..., np.maximum(columns.source, 0)]
    ordered[..., columns.source == NEVER] = 0
    return ordered


def answers_of(columns: Columns, probabilities: Array) -> Array:
    """(…, C) -> (…, C): what the exported model says, given softmax over all columns in index order.

    Dividing by what is left is the same as leaving the masked columns out of the softmax.
    """
    left = np.where(columns.answering, probabilities, 0)
    left /= left.sum(axis=-1, keepdims=True)
    for category in columns.categories:
        if category.alias_of is not None and columns.answering[category.index]:
            left[..., category.alias_of] += left[..., category.index]
            left[..., category.index] = 0
    return left


def columns(
    base: Sequence[Category],
    today: Sequence[str],
    given: Sequence[str] = (),
    previous: Sequence[Category] | None = None,
    overlaps: Sequence[Overlap] = (),
) -> Columns:
    """`base`: the categories of the model that is grown, in its own index order; none in mode Replace. `today`: the new ones.

    `given`: TrainingRun.given. `previous`: the categories of this output's last version, in index order. `overlaps`: what the
    new categories share with the base; Merge and Replace have consequences here.
    """
    slots = _slots(base, today, given, previous)
    place = {slot.base: index for index, slot in enumerate(slots) if slot.base is not None}
    own = {slot.new: index for index, slot in enumerate(slots) if slot.new is not None}
    fates = _fates(slots, base, today, overlaps)
    fitted = {name: len(base) + column for column, name in enumerate(today)}
    known = (*given, *sorted(set(today) - set(given)))
    return Columns(
        categories=tuple(_category(index, slots, fate, base) for index, fate in enumerate(fates)),
        source=np.array([_source(slot, fitted) for slot in slots], np.int64),
        answers_as=np.array([fate.root if fate.state == "active" else NEVER for fate in fates], np.int64),
        base=np.array([place[index] for index in range(len(base))], np.int64),
        new=np.array([own[name] for name in today], np.int64),
        given=known,
        retired=tuple(name for name in known if name not in fitted),
    )


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """Whom an index belongs to."""

    base: int | None = None  # of the base's category, its index in the base
    new: str | None = None  # of a new one, its folder's name
    was: Category | None = None  # of a category the base no longer has, what the last version said


def _slots(
    base: Sequence[Category], today: Sequence[str], given: Sequence[str], previous: Sequence[Category] | None
) -> list[_Slot]:
    before = _before(previous, base, given)
    had = {slot.new for slot in before}
    kept = {slot.base for slot in before}
    slots = [
        *before,
        *(_Slot(new=name) for name in given if name not in had),
        *(_Slot(base=index) for index in range(len(base)) if index not in kept),
        *(_Slot(new=name) for name in sorted(set(today) - set(given) - had)),
    ]
    # A run that has nothing behind today's last category is the same run whatever was retired there, as its id says.
    while slots and slots[-1].base is None and slots[-1].new not in today:
        slots.pop()
    return slots


def _before(
    previous: Sequence[Category] | None, base: Sequence[Category], given: Sequence[str]
) -> list[_Slot]:
    """The last version's indices, and whose they are today."""
    if previous is None:
        return [_Slot(base=index) for index in range(len(base))]
    indices = iter(_recognised([category for category in previous if category.group == "base"], base))
    names = iter(given)
    slots = []
    for category in previous:
        if category.group == "new":
            slots.append(_Slot(new=next(names, category.name)))
        else:
            index = next(indices)
            slots.append(_Slot(base=index, was=category if index is None else None))
    return slots


def _recognised(before: Sequence[Category], base: Sequence[Category]) -> list[int | None]:
    """For each category the base had: its index in today's base, None if it is gone."""
    same = [_is_same(old, base[place]) if place < len(base) else False for place, old in enumerate(before)]
    found: list[int | None] = [place if stays else None for place, stays in enumerate(same)]
    free: dict[tuple[str, str], list[int]] = defaultdict(list)
    taken = set(found)
    for index, category in enumerate(base):
        if index not in taken:
            free[_identity(category)].append(index)
    for place, old in enumerate(before):
        if found[place] is None and free[_identity(old)]:
            found[place] = free[_identity(old)].pop(0)
    return found


def _is_same(one: Category, other: Category) -> bool:
    """An alias carries its target's name, so it may be either name's."""
    if one.alias_of is not None or other.alias_of is not None:
        return one.uid == other.uid
    return _identity(one) == _identity(other)


def _identity(category: Category) -> tuple[str, str]:
    return (category.uid, "") if category.uid else ("", normalised(category.name))


def _root(base: Sequence[Category], index: int) -> int:
    """The base's category that `index` answers for."""
    while (target := base[index].alias_of) is not None:
        index = target
    return index


@dataclass(frozen=True, kw_only=True)
class _Fate:
    root: int  # the index whose name it carries: its own unless it is an alias
    state: State


def _fates(
    slots: Sequence[_Slot], base: Sequence[Category], today: Sequence[str], overlaps: Sequence[Overlap]
) -> list[_Fate]:
    place = {slot.base: index for index, slot in enumerate(slots) if slot.base is not None}
    merged = {o.category: place[_root(base, o.known_index)] for o in overlaps if o.action == "Merge"}
    replaced = {place[_root(base, o.known_index)] for o in overlaps if o.action == "Replace"}
    fates = []
    for index, slot in enumerate(slots):
        root = place[_root(base, slot.base)] if slot.base is not None else merged.get(slot.new or "", index)
        state = _state(slot, slots[root], root in replaced, base, today)
        fates.append(_Fate(root=root, state=state))
    return fates


def _state(slot: _Slot, root: _Slot, replaced: bool, base: Sequence[Category], today: Sequence[str]) -> State:
    """Its own fate, else that of the one it answers for."""
    if slot.base is None and slot.new not in today:
        return "retired"
    for known in (slot.base, root.base):
        if known is not None and base[known].state != "active":
            return base[known].state
    return "replaced" if replaced else "active"


def _source(slot: _Slot, fitted: dict[str, int]) -> int:
    return slot.base if slot.base is not None else fitted.get(slot.new or "", NEVER)


def _category(index: int, slots: Sequence[_Slot], fate: _Fate, base: Sequence[Category]) -> Category:
    slot = slots[index]
    if slot.base is not None:
        named = base[slot.base]
    elif slot.was is not None:
        named = slot.was
    else:
        named = Category(index=index, name=slot.new or "", group="new")
    alias = None if fate.root == index or fate.state == "retired" else fate.root
    target = slots[fate.root].base
    return Category(
        index=index,
        name=named.name if alias is None or target is None else base[target].name,
        uid=named.uid,
        group="base" if slot.new is None else "new",
        state=fate.state,
        alias_of=alias,
    )
