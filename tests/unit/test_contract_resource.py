import pytest
from contract_values import body, expansion
from pydantic import ValidationError

from expansion_contract import architectures, availability
from expansion_contract.problems import sentences
from expansion_contract.resource import MAX_NAME, Mode, parsed


def messages(document: dict) -> str:
    with pytest.raises(ValidationError) as caught:
        parsed(document)
    return "\n".join(sentences(caught.value))


def test_a_resource_needs_only_images_and_a_place_for_models():
    spec = expansion().spec
    assert spec.mode is Mode.EXPAND
    assert spec.base.pretrained is not None
    assert spec.base.pretrained.architecture == "InceptionV3"
    assert expansion().status.observed_generation == -1


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        pytest.param(
            {"split": {"testPercent": 60}},
            "spec.split.testPercent: input should be less than or equal to 50, got 60.",
            id="bound",
        ),
        pytest.param({"splitt": {}}, "spec.splitt: there is no such field.", id="unknown field"),
        pytest.param({"output": {}}, "spec.output.models is required.", id="missing field"),
        pytest.param(
            {"base": {"pretrained": {}, "model": {"uri": "s3://models/x/versions/1"}}},
            "spec.base needs exactly one of pretrained, expansionRef and model.",
            id="two bases",
        ),
        pytest.param(
            {"base": {"pretrained": {"weights": {"uri": "s3://models/inception.h5"}}}},
            "spec.base.pretrained.weights.sha256 is required with uri (and only with it): sha256sum prints it.",
            id="weights without a digest",
        ),
        pytest.param(
            {"base": {"pretrained": {"weights": {}}}},
            "spec.base.pretrained.weights needs exactly one of name and uri.",
            id="no weights",
        ),
        pytest.param(
            {"retrain": {"pollInterval": "often"}},
            "spec.retrain.pollInterval: string should match pattern",
            id="duration",
        ),
        pytest.param(
            {"categories": {"images": "http://photos/"}},
            "spec.categories.images: string should match pattern",
            id="address",
        ),
    ],
)
def test_a_mistake_is_named_with_its_path(spec: dict, sentence: str):
    assert sentence in messages(body(**spec))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a" * (MAX_NAME + 1), id="long"),
        pytest.param("1flower", id="digit"),
        pytest.param("a.b", id="dot"),
    ],
)
def test_a_name_that_no_job_or_service_can_carry_is_refused(name: str):
    assert f"metadata.name must have at most {MAX_NAME} characters" in messages(body(name))


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"training": {"fineTune": {"fromLayer": "mixed9"}}}, "spec.training.fineTune"),
        ({"compute": {"workers": 2}}, "spec.compute.workers"),
        ({"serving": {"rollout": {"strategy": "Canary"}}}, "spec.serving.rollout.strategy"),
        (
            {"distortions": {"flipLeftRight": True}, "training": {"head": {"solver": "Discriminant"}}},
            "spec.distortions",
        ),
    ],
)
def test_what_cannot_be_done_yet_is_refused_by_name(spec: dict, path: str):
    (sentence,) = availability.refused(expansion(**spec).spec)
    assert sentence.startswith(f"{path} asks for something this release does not do yet; ")


@pytest.mark.parametrize("solver", ["Auto", "Softmax", "GradientDescent"])
def test_distortions_are_there_for_every_solver_that_looks_at_single_images(solver: str):
    asked = {"flipLeftRight": True, "randomCropPercent": 10, "copies": 2}
    assert (
        availability.refused(expansion(distortions=asked, training={"head": {"solver": solver}}).spec) == ()
    )


def test_a_plain_resource_asks_for_nothing_that_is_missing():
    assert availability.refused(expansion().spec) == ()


def test_an_unknown_architecture_is_refused_with_its_neighbours():
    sentence = architectures.problem_with("InceptionV33")
    assert sentence is not None
    assert (
        "spec.base.pretrained.architecture 'InceptionV33' is not known. Did you mean InceptionV3" in sentence
    )
    assert architectures.problem_with("EfficientNetLite0") is None
