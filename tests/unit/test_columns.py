"""What becomes of categories over the versions of an output: indices are append-only, whatever happens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expansion_contract.report import Category, Overlap, Proportion
from expansion_trainer.columns import NEVER, Columns, answers_of, columns, in_index_order

BASE = (
    Category(index=0, name="tench", uid="n01440764", group="base"),
    Category(index=1, name="giant panda", uid="n02510455", group="base"),
    Category(index=2, name="daisy", uid="n11939491", group="base"),
)


def overlap(category: str, known: int, action: str) -> Overlap:
    return Overlap(
        category=category,
        known=f"base {known}",
        known_index=known,
        share=Proportion.of(9, 10),
        same_name=False,
        action=action,
    )


def later(before: Columns, today: list[str], base=BASE, overlaps=()) -> Columns:
    """The next version of the same output."""
    return columns(base, today, before.given, before.categories, overlaps)


def named(result: Columns) -> list[tuple[int, str, str]]:
    return [(c.index, c.name, c.state) for c in result.categories[len(BASE) :]]


def base_of(size: int, *, first: str = "n") -> tuple[Category, ...]:
    """A base that has grown to this size."""
    return tuple(
        Category(index=n, name=f"known {first}{n}", uid=f"{first}{n}", group="base") for n in range(size)
    )


def test_new_categories_follow_the_base_in_the_order_of_their_names():
    result = columns(BASE, ["rose", "tulip"])
    assert [c.name for c in result.categories] == ["tench", "giant panda", "daisy", "rose", "tulip"]
    assert [c.group for c in result.categories] == ["base"] * 3 + ["new"] * 2
    assert result.source.tolist() == result.answers_as.tolist() == [0, 1, 2, 3, 4]
    assert result.given == ("rose", "tulip")


def test_a_later_category_gets_a_later_index_whatever_its_name():
    result = later(columns(BASE, ["rose", "tulip"]), ["aster", "rose", "tulip"])
    assert named(result) == [(3, "rose", "active"), (4, "tulip", "active"), (5, "aster", "active")]
    assert result.source[3:].tolist() == [4, 5, 3]
    assert result.new.tolist() == [5, 3, 4]


def test_a_category_that_is_gone_keeps_its_index_and_never_answers():
    result = later(columns(BASE, ["rose", "tulip"]), ["tulip"])
    assert named(result) == [(3, "rose", "retired"), (4, "tulip", "active")]
    assert (result.source[3], result.answers_as[3]) == (NEVER, NEVER)
    assert result.retired == ("rose",)


def test_a_category_that_comes_back_gets_its_own_index_back():
    first = columns(BASE, ["rose", "tulip"])
    assert named(later(later(first, ["tulip"]), ["rose", "tulip"])) == named(first)


def test_the_last_one_retired_leaves_no_column_behind_but_its_index_stays_taken():
    gone = later(columns(BASE, ["rose", "tulip"]), ["rose"])
    assert named(gone) == [(3, "rose", "active")]
    assert gone.retired == ("tulip",)
    assert named(later(gone, ["rose", "violet"])) == [
        (3, "rose", "active"),
        (4, "tulip", "retired"),
        (5, "violet", "active"),
    ]


def test_what_the_base_has_gained_follows_after_what_we_had():
    first = columns(base_of(3), ["rose"])
    second = later(first, ["aster", "rose"], base_of(5))
    assert [c.name for c in second.categories] == [
        "known n0", "known n1", "known n2", "rose", "known n3", "known n4", "aster",
    ]  # fmt: skip
    assert second.base.tolist() == [0, 1, 2, 4, 5]
    assert second.source.tolist() == [0, 1, 2, 6, 3, 4, 5]


def test_a_base_that_went_back_to_fewer_categories_retires_the_others():
    first = columns(base_of(5), ["rose"])
    second = later(first, ["rose"], base_of(3))
    assert [c.state for c in second.categories] == ["active"] * 3 + ["retired"] * 2 + ["active"]
    third = later(second, ["rose"], base_of(5))
    assert third.categories == first.categories


def test_another_base_gives_nobody_else_s_index_away():
    first = columns(base_of(3), ["rose"])
    second = later(first, ["rose"], (*base_of(1), *base_of(3, first="m")[1:]))
    assert [(c.name, c.state) for c in second.categories] == [
        ("known n0", "active"), ("known n1", "retired"), ("known n2", "retired"), ("rose", "active"),
        ("known m1", "active"), ("known m2", "active"),
    ]  # fmt: skip


def test_a_base_category_that_moved_in_its_own_list_is_recognised():
    moved = tuple(c.model_copy(update={"index": n}) for n, c in enumerate(reversed(base_of(3))))
    second = later(columns(base_of(3), ["rose"]), ["rose"], moved)
    assert [c.name for c in second.categories] == ["known n0", "known n1", "known n2", "rose"]
    assert second.source.tolist() == [2, 1, 0, 3]


def test_a_merged_category_carries_the_base_s_name_and_counts_for_it():
    result = columns(BASE, ["panda", "rose"], overlaps=[overlap("panda", 1, "Merge")])
    panda = result.categories[3]
    assert (panda.name, panda.alias_of, panda.state) == ("giant panda", 1, "active")
    assert result.answers_as.tolist() == [0, 1, 2, 1, 4]
    assert result.given == ("panda", "rose")


def test_a_replaced_category_of_the_base_keeps_its_column_and_never_answers():
    result = columns(BASE, ["my daisy"], overlaps=[overlap("my daisy", 2, "Replace")])
    assert (result.categories[2].name, result.categories[2].state) == ("daisy", "replaced")
    assert result.source.tolist() == [0, 1, 2, 3]
    assert result.answers_as.tolist() == [0, 1, NEVER, 3]


def test_what_is_kept_twice_may_have_one_name_twice():
    result = columns(BASE, ["daisy"], overlaps=[overlap("daisy", 2, "KeepBoth")])
    assert [c.name for c in result.categories].count("daisy") == 2
    assert result.answers_as.tolist() == [0, 1, 2, 3]


def test_states_follow_from_today_and_stick_to_nobody():
    first = columns(BASE, ["daisy"], overlaps=[overlap("daisy", 2, "Replace")])
    assert later(first, ["daisy"]).categories == columns(BASE, ["daisy"]).categories
    merged = columns(BASE, ["panda", "rose"], overlaps=[overlap("panda", 1, "Merge")])
    assert named(later(merged, ["rose"])) == [(3, "panda", "retired"), (4, "rose", "active")]


def test_aliases_and_retired_ones_of_the_base_stay_what_they_are():
    grown = columns(BASE, ["panda", "rose", "tulip"], overlaps=[overlap("panda", 1, "Merge")])
    base = later(grown, ["panda", "tulip"], overlaps=[overlap("panda", 1, "Merge")]).categories
    result = columns(base, ["violet"])
    assert [c.group for c in result.categories] == ["base"] * 6 + ["new"]
    assert [c.state for c in result.categories] == ["active"] * 4 + ["retired"] + ["active"] * 2
    assert result.answers_as.tolist() == [0, 1, 2, 1, NEVER, 5, 6]
    assert result.source.tolist() == list(range(7))


def test_merging_with_an_alias_is_merging_with_its_target():
    base = columns(BASE, ["panda"], overlaps=[overlap("panda", 1, "Merge")]).categories
    result = columns(base, ["bear"], overlaps=[overlap("bear", 3, "Merge")])
    assert result.categories[4].alias_of == 1


def test_replacing_what_has_an_alias_silences_both():
    base = columns(BASE, ["panda"], overlaps=[overlap("panda", 1, "Merge")]).categories
    result = columns(base, ["bear"], overlaps=[overlap("bear", 1, "Replace")])
    assert [c.state for c in result.categories] == ["active", "replaced", "active", "replaced", "active"]


def test_without_a_base_only_the_new_ones_are_there():
    result = columns((), ["b", "a"])
    assert [c.name for c in result.categories] == ["a", "b"]
    assert result.source.tolist() == [1, 0]


NAMES = st.sets(st.sampled_from("abcdefg"), min_size=1)
RUN = st.tuples(NAMES, st.integers(1, 6))
STEP = st.one_of(RUN, st.integers(0, 9))
"""A run of these new categories on a base of that size, or going back to the version of that number."""


def continued(versions: list[Columns]) -> Columns:
    """The version whose category list is continued: it knows all indices that were ever given."""
    return max(enumerate(versions), key=lambda one: (len(one[1].given), len(one[1].categories), one[0]))[1]


@settings(max_examples=300)
@given(RUN, st.lists(STEP, max_size=8))
def test_no_index_ever_changes_its_category(first, steps):
    owner: dict[int, str] = {}
    versions: list[Columns] = []
    for step in (first, *steps):
        if isinstance(step, int):
            versions.append(versions[step % len(versions)])
            continue
        today, base = sorted(step[0]), base_of(step[1])
        result = later(continued(versions), today, base) if versions else columns(base, today)
        owners = {
            **{int(i): c.uid for i, c in zip(result.base, base, strict=True)},
            **{int(i): name for i, name in zip(result.new, today, strict=True)},
        }
        assert len(owners) == len(base) + len(today)
        assert all(owner.setdefault(index, who) == who for index, who in owners.items())
        assert len(set(owner.values())) == len(owner)
        check(result, len(base) + len(today))
        versions.append(result)


@settings(max_examples=100)
@given(st.lists(RUN, min_size=2, max_size=6))
def test_the_same_inputs_give_the_same_indices_again(steps):
    versions: list[Columns] = []
    for today, size in steps:
        names, base = sorted(today), base_of(size)
        versions.append(later(continued(versions), names, base) if versions else columns(base, names))
        again = later(continued(versions), names, base)
        assert again.categories == versions[-1].categories


def check(result: Columns, fitted: int) -> None:
    """Every fitted column stands at exactly one index, and only active categories answer."""
    assert sorted(result.source[result.source != NEVER]) == list(range(fitted))
    assert [c.index for c in result.categories] == list(range(len(result.categories)))
    for category, target in zip(result.categories, result.answers_as, strict=True):
        assert (category.state == "active") == (target != NEVER)
        assert target in {NEVER, category.index if category.alias_of is None else category.alias_of}


def test_rows_and_logits_come_to_their_indices():
    result = later(columns(BASE, ["rose", "tulip"]), ["aster", "tulip"])
    fitted = np.arange(5, dtype=np.float32)
    assert in_index_order(result, fitted).tolist() == [0, 1, 2, 0, 4, 3]
    assert in_index_order(result, np.stack([fitted, fitted])).shape == (2, 6)


def test_an_alias_adds_to_its_target_and_what_is_gone_gets_nothing():
    actions = [overlap("panda", 1, "Merge"), overlap("daisy", 2, "Replace")]
    result = columns(BASE, ["daisy", "panda"], overlaps=actions)
    answers = answers_of(result, np.array([[0.1, 0.2, 0.5, 0.1, 0.1]]))
    np.testing.assert_allclose(answers, [[0.2, 0.6, 0, 0.2, 0]])


@given(st.lists(st.floats(-5, 5), min_size=5, max_size=5))
def test_masking_before_the_softmax_is_the_same_as_masking_after(logits):
    result = columns(BASE, ["daisy", "panda"], overlaps=[overlap("daisy", 2, "Replace")])
    powers = np.exp(np.array(logits))
    masked = np.where(result.answering, powers, 0)
    np.testing.assert_allclose(answers_of(result, powers / powers.sum()), masked / masked.sum(), atol=1e-12)


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5)])
def test_answers_of_a_batch_add_up_to_one(shape):
    result = columns(BASE, ["panda", "rose"], overlaps=[overlap("panda", 1, "Merge")])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), shape[:-1])
    np.testing.assert_allclose(answers_of(result, probabilities).sum(axis=-1), 1)
