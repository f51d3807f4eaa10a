"""What is kept of a resource at rest: all that was asked for, in little room."""

from typing import Any

import contract_values
import pytest

from expansion_contract.dataset import Listing
from expansion_contract.resource import ClassifierExpansion, parsed
from expansion_operator.memory import Rest
from expansion_operator.observed import Observed
from expansion_operator.storage import Access

LISTING = Listing(digest="sha256:a", images=40, counts={"rose": 20, "tulip": 20})


def rest(expansion: ClassifierExpansion) -> Rest:
    return Rest.of(Observed(expansion=expansion, listing=LISTING), LISTING.digest, Access())


def read_from_the_cluster() -> ClassifierExpansion:
    """With everything that the API server adds."""
    body = contract_values.body()
    written = [{"manager": "kubectl", "fieldsV1": {f"f:{number}": {} for number in range(200)}}]
    body["metadata"] |= {"managedFields": written, "annotations": {"note": "n" * 1000}}
    return parsed(body)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="the defaults"),
        pytest.param({"replay": {"images": "s3://photos/old/"}}, id="more images"),
        pytest.param({"retrain": {"pollInterval": "5m", "schedule": "0 3 * * *"}}, id="another interval"),
        pytest.param({"base": {"model": {"uri": "s3://models/old/versions/3/"}}}, id="another base"),
        pytest.param(
            {"storage": {"endpointUrl": "http://minio:9000", "addressing": "Path"}}, id="another store"
        ),
        pytest.param({"categories": {"images": "s3://photos/", "include": ["ß", "花"]}}, id="any script"),
    ],
)
def test_a_resource_at_rest_is_asked_for_what_it_was(spec: dict[str, Any]) -> None:
    expansion = contract_values.expansion(**spec)
    kept = rest(expansion).expansion
    assert kept.spec == expansion.spec
    assert (kept.key, kept.metadata.uid) == (expansion.key, expansion.metadata.uid)


def test_of_a_resource_at_rest_only_what_it_asks_for_is_kept() -> None:
    """A thousand of them rest in one operator."""
    assert len(rest(read_from_the_cluster()).document) < 500
