"""Refusals in words: for somebody who knows YAML and nothing of our classes."""

from typing import Any

import pytest
from pydantic import ValidationError

from expansion_contract.problems import sentences
from expansion_contract.resource import ExpansionSpec


def said(**spec: Any) -> str:
    needed = {"categories": {"images": "s3://photos/"}, "output": {"models": "s3://models/"}}
    with pytest.raises(ValidationError) as caught:
        ExpansionSpec.model_validate({**needed, **spec})
    return "\n".join(sentences(caught.value))


@pytest.mark.parametrize("value", [3, "some", [1]])
def test_a_value_in_the_place_of_fields_is_told_what_belongs_there(value: Any) -> None:
    assert said(training=value) == f"training: must be a mapping of names to values, got {value!r}."


def test_a_map_that_is_none_is_told_what_belongs_there() -> None:
    words = said(compute={"podTemplate": {"labels": "team=a"}})
    assert words == "compute.podTemplate.labels: must be a mapping of names to values, got 'team=a'."


def test_a_label_is_named_as_it_was_written() -> None:
    words = said(compute={"podTemplate": {"labels": {"my_label": 1}}})
    assert words.startswith("compute.podTemplate.labels.my_label: ")


def test_an_endless_value_is_repeated_in_part_and_counted() -> None:
    words = said(retrain={"settle": "s" * 5000})
    assert words.startswith("retrain.settle: string should have at most 32 characters, got 'sss")
    assert len(words) < 400
    assert words.endswith("… (5002 characters).")
