"""Promises about which old categories are called near to new ones."""

import numpy as np
from head_values import NEW, OLD, World, world

from expansion_contract.report import Category
from expansion_trainer.evaluation.nearest import FIRST, near_categories, nearest
from expansion_trainer.head.answering import Answering
from expansion_trainer.head.material import Labelled

NAMES = ("ant", "bee", "cow")


def placed_beside(w: World, beside: tuple[int, ...]) -> Labelled:
    """New categories that lie where these old ones lie."""
    labels = np.repeat(np.arange(len(beside)), 20)
    return Labelled(bottlenecks=w.draw(np.array(beside)[labels], 1), labels=labels)


def before(w: World, categories: list[Category] | None = None) -> Answering:
    if categories is None:
        return Answering.of(w.base, 1.0)
    return Answering.of_model(w.base, 1.0, categories)


def listed(**changes: dict[int, dict[str, object]]) -> list[Category]:
    plain = [Category(index=i, name=f"kind {i}", group="base") for i in range(OLD)]
    return [one.model_copy(update=changes["at"].get(one.index, {})) for one in plain]


def test_the_first_answers_to_a_new_category_s_mean_are_near_it_and_the_very_first_stand_first() -> None:
    w = world()
    near = nearest(before(w), placed_beside(w, (4, 2, 4)), NAMES)
    assert list(near)[:2] == [4, 2]
    assert near[4][:2] == ("ant", "cow")
    assert near[2][0] == "bee"
    assert all(len(names) <= NEW for names in near.values())
    assert sum(map(len, near.values())) == FIRST * NEW


def test_a_category_that_never_answers_is_near_nothing_and_an_alias_answers_for_its_target() -> None:
    w = world()
    categories = listed(at={4: {"state": "retired"}, 2: {"alias_of": 0}})
    near = nearest(before(w, categories), placed_beside(w, (4, 2)), NAMES)
    assert 4 not in near
    assert 2 not in near
    assert near[0][0] == "bee"


def test_no_more_are_near_than_there_are() -> None:
    w = world()
    categories = listed(at={i: {"state": "retired"} for i in range(2, OLD)})
    assert set(nearest(before(w, categories), placed_beside(w, (4,)), NAMES)) == {0, 1}


def test_the_report_says_how_many_pictures_of_each_there_are() -> None:
    categories = [Category(index=i, name=f"kind {i}", uid=f"n{i}", group="base") for i in range(OLD)]
    images = np.arange(OLD)
    (first, second) = near_categories({3: ("ant",) * 9, 1: ("bee",)}, categories, images)
    assert (first.index, first.name, first.uid, first.images) == (3, "kind 3", "n3", 3)
    assert len(first.near) == 5
    assert (second.name, second.near, second.images) == ("kind 1", ["bee"], 1)
