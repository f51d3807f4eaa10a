"""What a run on this machine starts from: a version, a pack, and the indices that its output gave before."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from contract_values import report

from expansion_contract import layout
from expansion_contract.dataset import Listing
from expansion_contract.report import Category, File
from expansion_contract.resource import ClassifierExpansion, parsed
from expansion_contract.run import Owner, PackBase, StorageAccess
from expansion_storage import open_prefix
from expansion_storage.publication import publish
from expansion_trainer import resource_file, starts
from expansion_trainer.resource_file import Refused

OWNER = Owner(namespace="default", name="flowers")


def listing(*names: str) -> Listing:
    return Listing(digest="sha256:a", images=2 * len(names), counts=dict.fromkeys(names, 2))


def grown(folder: Path, **base: Any) -> ClassifierExpansion:
    spec = {
        "base": base,
        "categories": {"images": str(folder / "photos")},
        "output": {"models": str(folder / "models")},
    }
    return parsed({"metadata": {"name": "flowers"}, "spec": spec})


def published(output: Path, number: int, run_id: str, *given: str) -> None:
    place = open_prefix(str(output), StorageAccess())
    place.write(layout.candidate(run_id, "saved_model.pb"), b"model")
    files = [File(path="saved_model.pb", size=5, sha256="0" * 64)]
    done = report(run_id=run_id, files=files, given=list(given))
    publish(place, done, OWNER, number, "2026-01-01T00:00:00Z")


def start(expansion: ClassifierExpansion, *names: str) -> starts.Start:
    output = open_prefix(expansion.spec.output.models, StorageAccess())
    return starts.start_of(expansion, listing(*names), output, None)


@pytest.fixture
def pretrained() -> dict[str, Any]:
    return {"pretrained": {"architecture": "EfficientNetLite0"}}


def test_the_first_run_continues_nothing(tmp_path: Path, pretrained: dict[str, Any]) -> None:
    found = start(grown(tmp_path, **pretrained), "tulip", "rose")
    assert (found.given, found.previous, found.categories) == ((), None, ("rose", "tulip"))


def test_a_later_run_continues_the_version_that_knows_every_index(
    tmp_path: Path, pretrained: dict[str, Any]
) -> None:
    published(tmp_path / "models", 1, "a", "rose", "tulip")
    published(tmp_path / "models", 2, "b", "rose")
    found = start(grown(tmp_path, **pretrained), "aster", "rose")
    assert found.given == ("rose", "tulip")
    assert found.previous is not None
    assert found.previous.endswith("models/versions/1")


def test_a_version_is_named_by_the_digest_of_its_manifest(tmp_path: Path) -> None:
    published(tmp_path / "cars", 7, "a")
    uri = tmp_path / "cars" / "versions" / "7"
    model = start(grown(tmp_path, model={"uri": str(uri)}), "rose").model
    assert model is not None
    assert model.manifest_sha256 == hashlib.sha256((uri / layout.MANIFEST).read_bytes()).hexdigest()


def test_a_pack_is_named_by_the_digest_of_its_document(tmp_path: Path, pretrained: dict[str, Any]) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / layout.PACK_DOCUMENT).write_bytes(b"{}")
    expansion = grown(tmp_path, **pretrained, pack={"uri": str(tmp_path / "pack")})
    assert start(expansion, "rose").pack == PackBase(
        uri=f"file://{tmp_path}/pack".removeprefix("file://"), digest=hashlib.sha256(b"{}").hexdigest()
    )


@pytest.mark.parametrize(
    ("base", "said"),
    [
        pytest.param({"model": {"uri": "./nothing"}}, "is no published version", id="no version"),
        pytest.param(
            {"pretrained": {}, "pack": {"uri": "./nothing"}},
            "Make one with expansion pack build",
            id="no pack",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_its_address(
    tmp_path: Path, base: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused, match=said) as refused:
        start(grown(tmp_path, **base), "rose")
    assert "nothing/" in str(refused.value)


def test_names_are_compared_with_those_of_the_version_that_is_grown(tmp_path: Path) -> None:
    place = tmp_path / "cars" / "versions" / "7"
    listed = [
        Category(index=0, name="Rose", group="new"),
        Category(index=1, name="fern", group="new", state="retired"),
    ]
    (place / layout.CATEGORIES).parent.mkdir(parents=True)
    (place / layout.CATEGORIES).write_text(json.dumps([category.to_wire() for category in listed]))
    expansion = grown(tmp_path, model={"uri": str(place)})
    assert [p.reason for p in starts.judged(expansion, listing("rose", "tench")).errors] == [
        "CategoryOverlap"
    ]
    assert starts.judged(expansion, listing("fern", "tench")).errors == ()


def test_another_expansion_is_found_in_a_cluster_only(tmp_path: Path) -> None:
    path = tmp_path / "expansion.yaml"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "classifierexpansion.dev/v1alpha1",
                "kind": "ClassifierExpansion",
                "metadata": {"name": "flowers"},
                "spec": {
                    "base": {"expansionRef": {"name": "cars"}},
                    "categories": {"images": "./photos"},
                    "output": {"models": "./models"},
                },
            }
        )
    )
    with pytest.raises(Refused, match=r"spec\.base\.model\.uri"):
        resource_file.read(path)
