import pytest
from contract_values import expansion
from pydantic import ValidationError

from expansion_contract import environment, layout
from expansion_contract.run import (
    PackBase,
    PublishedBase,
    Start,
    StorageAccess,
    TrainingRun,
    run_id,
    training_run,
)

DIGEST = "sha256:aa"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"acceptance": {"minimumAccuracy": 0.9}}, id="threshold"),
        pytest.param({"serving": {"replicas": 7}}, id="serving"),
        pytest.param({"compute": {"gpusPerWorker": 4}}, id="compute"),
        pytest.param({"storage": {"endpointUrl": "https://s3.example"}}, id="endpoint"),
        pytest.param({"categories": {"images": "s3://moved/flowers/"}}, id="the same images elsewhere"),
        pytest.param({"suspend": True}, id="suspend"),
        pytest.param({"retrain": {"pollInterval": "1h"}}, id="poll interval"),
    ],
)
def test_what_does_not_change_the_model_does_not_change_the_run(spec: dict):
    assert run_id(expansion(**spec), DIGEST) == run_id(expansion(), DIGEST)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"mode": "Replace"}, id="mode"),
        pytest.param({"base": {"pretrained": {"architecture": "MobileNetV2"}}}, id="architecture"),
        pytest.param(
            {"base": {"pretrained": {"weights": {"uri": "s3://models/w.h5", "sha256": "a" * 64}}}},
            id="weights",
        ),
        pytest.param({"categories": {"images": "s3://photos/flowers/", "include": ["rose"]}}, id="include"),
        pytest.param(
            {"categories": {"images": "s3://photos/flowers/", "onOverlap": "KeepBoth"}}, id="overlap"
        ),
        pytest.param({"split": {"testPercent": 20}}, id="split"),
        pytest.param({"training": {"stealBudgetPercent": 1}}, id="steal budget"),
        pytest.param({"training": {"seed": 1}}, id="seed"),
        pytest.param({"retrain": {"revision": 1}}, id="revision"),
    ],
)
def test_what_changes_the_model_changes_the_run(spec: dict):
    assert run_id(expansion(**spec), DIGEST) != run_id(expansion(), DIGEST)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(Start(requested="now"), id="a wish for one more"),
        pytest.param(Start(pack=PackBase(uri="s3://packs/a", digest="d")), id="a pack"),
    ],
)
def test_what_a_run_starts_from_changes_it(start: Start):
    assert run_id(expansion(), "sha256:a", start) != run_id(expansion(), "sha256:a")


def test_where_a_version_lies_does_not_change_the_run_that_grows_it():
    grown = expansion(base={"expansionRef": {"name": "cars"}})
    here, there = (
        Start(model=PublishedBase(uri=uri, manifest_sha256="m")) for uri in ("s3://a-b/1", "s3://c-d/1")
    )
    other = Start(model=PublishedBase(uri="s3://a-b/1", manifest_sha256="n"))
    assert run_id(grown, "sha256:a", here) == run_id(grown, "sha256:a", there)
    assert run_id(grown, "sha256:a", here) != run_id(grown, "sha256:a", other)


def test_other_images_are_another_run():
    assert run_id(expansion(), "sha256:bb") != run_id(expansion(), DIGEST)


def test_a_run_survives_its_journey_through_storage():
    run = training_run(expansion(replay={"images": "s3://photos/old/"}), DIGEST)
    assert TrainingRun.model_validate_json(run.model_dump_json(by_alias=True)) == run


def test_a_run_with_a_field_the_trainer_does_not_know_is_refused():
    document = training_run(expansion(), DIGEST).to_wire() | {"surprise": 1}
    with pytest.raises(ValidationError, match="surprise"):
        TrainingRun.model_validate(document)


def test_the_cache_lies_beside_the_models_so_that_all_share_it():
    assert training_run(expansion(), DIGEST).cache == "s3://models/bottleneck-cache/"
    assert layout.default_cache("/data/models/flowers") == "/data/models/bottleneck-cache/"


def test_one_prefix_is_not_inside_a_longer_name():
    assert layout.is_inside("s3://models/cars/new/", "s3://models/cars")
    assert not layout.is_inside("s3://models/cars-2/", "s3://models/cars/")


def test_only_a_manifest_commits_a_version():
    assert layout.version_of("versions/12/manifest.json") == 12
    assert layout.version_of("versions/12/saved_model.pb") is None
    assert layout.version_of("versions/x/manifest.json") is None


def test_the_way_to_storage_survives_the_environment():
    access = StorageAccess(endpoint_url="https://s3.example", region="eu-1")
    assert environment.storage_access(environment.of_storage(access)) == access
    assert environment.storage_access({}) == StorageAccess()
