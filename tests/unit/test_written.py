"""Promises about resources as people write them into files: an API server would take what the command line takes, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from expansion_contract import written
from expansion_contract.problems import SpecError
from expansion_contract.resource import ClassifierExpansion, parsed
from expansion_trainer import resource_file
from expansion_trainer.resource_file import Refused

Body = dict[str, Any]


def body(**changes: Any) -> Body:
    spec = {"categories": {"images": "s3://photos/flowers/"}, "output": {"models": "s3://models/flowers/"}}
    return {
        "apiVersion": "classifierexpansion.dev/v1alpha1",
        "kind": "ClassifierExpansion",
        "metadata": {"name": "flowers"},
        "spec": {**spec, **changes},
    }


def refusal(of: Body) -> str:
    with pytest.raises(SpecError) as refused:
        written.resource(of)
    return str(refused.value)


def test_what_is_written_well_is_what_the_operator_reads() -> None:
    good = body(split={"testPercent": 20}, acceptance={"minimumAccuracy": 1}, serving={"mode": "None"})
    assert written.resource(good) == parsed(good)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        pytest.param({"split": {"testPercent": "20"}}, "spec.split.testPercent: ", id="a quoted number"),
        pytest.param({"retrain": {"revision": True}}, "spec.retrain.revision: ", id="a boolean"),
        pytest.param({"suspend": "true"}, "spec.suspend: ", id="a quoted boolean"),
        pytest.param(
            {"split": {"test_percent": 20}},
            "spec.split.test_percent: there is no such field.",
            id="Python's name",
        ),
        pytest.param(
            {"categories": {"images": "s3://a-b/", "include": ["rose", "tulip", "rose"]}},
            "spec.categories.include[2]: 'rose' stands there twice.",
            id="a folder twice",
        ),
        pytest.param(
            {
                "categories": {
                    "images": "s3://a-b/",
                    "overlaps": [
                        {"category": "rose", "onOverlap": "Merge"},
                        {"category": "rose", "onOverlap": "Replace"},
                    ],
                }
            },
            "spec.categories.overlaps[1]: category 'rose' stands there twice.",
            id="two decisions about one category",
        ),
    ],
)
def test_what_an_api_server_refuses_is_refused_and_what_it_once_took_is_still_read(
    spec: Body, sentence: str
) -> None:
    assert sentence in refusal(body(**spec))
    assert isinstance(parsed(body(**spec)), ClassifierExpansion)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param({"apiVersion": None}, "apiVersion is required", id="no version"),
        pytest.param({"specs": {}}, "specs: there is no such field.", id="a name at the top"),
        pytest.param(
            {"metadata": {"name": "flowers", "label": {}}}, "metadata.label: there is no such", id="metadata"
        ),
        pytest.param(
            {"metadata": {"name": "flowers", "labels": {"team": 7}}},
            "metadata.labels.team: must be a string, got 7. Quote it.",
            id="a label that is a number",
        ),
    ],
)
def test_what_stands_around_the_spec_is_read_strictly_too(changes: Body, sentence: str) -> None:
    whole = {name: value for name, value in {**body(), **changes}.items() if value is not None}
    assert sentence in refusal(whole)


def test_every_mistake_is_said_at_once() -> None:
    said = refusal(body(split={"testPercent": "20"}, seed=1, suspend="no")).splitlines()
    assert len(said) == 3


def test_a_whole_number_may_be_written_with_a_point_as_kubernetes_takes_it() -> None:
    assert written.resource(body(split={"testPercent": 20.0})).spec.split.test_percent == 20


def test_a_field_without_a_value_is_as_if_it_were_not_there() -> None:
    """`split:` with nothing behind it, which is what templates leave."""
    written_so = {**body(split=None, suspend=None, replay=None, acceptance={"maximumBaseAccuracyDrop": None})}
    written_so["metadata"] = {"name": "flowers", "annotations": None, "creationTimestamp": None}
    read = written.resource(written_so)
    assert read.spec == parsed(body(acceptance={"maximumBaseAccuracyDrop": None})).spec
    assert "spec.categories is required." in refusal(body(categories=None))
    assert "spec.spilt: there is no such field." in refusal(body(spilt=None))


def test_a_status_in_a_file_is_nobody_s_business() -> None:
    assert written.resource({**body(), "status": {"phase": 7}}).status.phase is None


# Files


def wrote(folder: Path, text: str) -> Path:
    path = folder / "expansion.yaml"
    path.write_text(
        "apiVersion: classifierexpansion.dev/v1alpha1\nkind: ClassifierExpansion\nmetadata: {name: flowers}\n"
        + text
    )
    return path


SPEC = """spec:
  categories: {images: s3://photos/flowers/}
  output: {models: s3://models/flowers/}
"""


def test_a_name_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = wrote(
        tmp_path, SPEC + "  split: {testPercent: 20}\n  retrain: {revision: 1}\n  split: {testPercent: 10}\n"
    )
    with pytest.raises(Refused, match=r"expansion.yaml, line 9: 'split' stands there already, in line 7\."):
        resource_file.read(path)


def test_a_name_twice_in_one_line_is_refused(tmp_path: Path) -> None:
    path = wrote(tmp_path, SPEC + "  split: {testPercent: 20, testPercent: 10}\n")
    with pytest.raises(Refused, match="line 7: 'testPercent' stands there already, in line 7"):
        resource_file.read(path)


def test_a_date_is_text_as_it_is_to_kubectl(tmp_path: Path) -> None:
    path = wrote(tmp_path, SPEC.replace("flowers/}\n", "flowers/, include: [2026-01-01]}\n", 1))
    assert resource_file.read(path).spec.categories.include == ["2026-01-01"]


def test_a_merge_key_is_no_repetition(tmp_path: Path) -> None:
    text = "x-split: &split {testPercent: 20}\n" + SPEC + "  split: {<<: *split, validationPercent: 5}\n"
    with pytest.raises(Refused, match="x-split: there is no such field"):
        resource_file.read(wrote(tmp_path, text))
