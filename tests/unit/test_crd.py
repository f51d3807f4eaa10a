"""The definition under crds/ is what the contract says, and is what an API server takes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from expansion_operator import crd

FILE = Path(__file__).parents[2] / "crds" / crd.FILE
NO_BOUND_NEEDED = {"boolean", "integer", "number"}


def nodes(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    inner = [
        *((f".{name}", one) for name, one in schema.get("properties", {}).items()),
        *(
            (part, schema[key])
            for key, part in (("items", "[]"), ("additionalProperties", "{}"))
            if key in schema
        ),
    ]
    return [(path, schema), *(node for name, one in inner for node in nodes(one, path + name))]


def schema() -> dict[str, Any]:
    (version,) = crd.definition()["spec"]["versions"]
    root: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return root


def test_the_file_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == crd.text(), "run `make crds`"


def test_what_is_written_is_current_and_what_is_edited_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in crd.FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    assert crd.main(["--check"], tmp_path) == 1
    assert crd.main(["--write"], tmp_path) == 0
    assert crd.main(["--check"], tmp_path) == 0
    (tmp_path / crd.FOLDERS[1] / crd.FILE).write_text("edited", encoding="utf-8")
    assert crd.main(["--check"], tmp_path) == 1
    assert "run `make crds`" in capsys.readouterr().err


def test_everything_that_can_grow_is_bounded() -> None:
    """The API server refuses rules over unbounded values, and etcd objects over 1.5 MB."""
    unbounded = [
        path
        for path, node in nodes(schema())
        if path.startswith((".spec", ".status"))
        and node["type"] not in NO_BOUND_NEEDED
        and not {"maxLength", "maxItems", "maxProperties", "enum", "properties"} & node.keys()
    ]
    assert unbounded == []


def test_every_field_is_described() -> None:
    silent = [
        path
        for path, node in nodes(schema())
        if path.startswith((".spec.", ".status.")) and path[-1] not in "]}" and not node.get("description")
    ]
    assert silent == []


def test_nothing_stands_in_it_that_is_not_structural() -> None:
    for path, node in nodes(schema()):
        assert not set(crd.NOT_STRUCTURAL) - {"exclusiveMinimum", "exclusiveMaximum"} & node.keys(), path
        assert isinstance(node.get("exclusiveMaximum", True), bool), path


def test_a_status_has_no_default_but_that_nobody_has_looked() -> None:
    status = schema()["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert [path for path, node in nodes(status) if path and "default" in node] == []


def test_it_is_yaml_that_stands_for_itself() -> None:
    assert yaml.safe_load(crd.text()) == crd.definition()
    assert "&id" not in crd.text()
