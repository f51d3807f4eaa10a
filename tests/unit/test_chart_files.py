"""The chart's files agree with each other and with the rest of the repository; what it renders is tested with helm in tests/cluster."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "classifier-expansion"
CRD = "classifierexpansion.dev_classifierexpansions.yaml"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def test_the_chart_carries_the_generated_resource_definition():
    assert (CHART / "files" / CRD).read_text() == (ROOT / "crds" / CRD).read_text(), "run `make crds`"


def test_the_chart_installs_the_release_it_belongs_to():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_the_default_values_satisfy_their_schema():
    jsonschema.validate(VALUES, SCHEMA)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    definition: dict[str, Any] = SCHEMA["definitions"][name] if name else schema
    return definition


def leaves(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """What the values have and the schema has, below every object that is not a free map."""
    properties = schema.get("properties")
    if properties is None:
        return
    for name in values.keys() | properties.keys() - {"global"}:
        where = f"{path}.{name}".lstrip(".")
        yield where, "both" if name in values and name in properties else "one"
        if isinstance(values.get(name), dict) and name in properties:
            yield from leaves(values[name], resolved(properties[name]), where)


def test_every_value_stands_in_the_schema_and_every_property_has_a_default():
    assert [path for path, where in leaves(VALUES, SCHEMA) if where == "one"] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("replica", 2, id="unknown at the top"),
        pytest.param("images.operator.tga", "1", id="misspelt in an image"),
        pytest.param("metrics.prometheusRule.alerts.accuracyBelow", {}, id="unknown alert"),
        pytest.param("metrics.prometheusRule.alerts.accuracyBelowThreshold.for", "soon", id="not a duration"),
        pytest.param("images.operator.digest", "sha256:12", id="not a digest"),
        pytest.param("watchNamespaces", ["Shop"], id="not a namespace"),
        pytest.param("images.pullPolicy", "Sometimes", id="not a pull policy"),
    ],
)
def test_a_wrong_value_is_refused(path: str, value: object):
    values = json.loads(json.dumps(VALUES))
    *parents, last = path.split(".")
    inner = values
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)


def test_every_value_is_explained():
    """Each key with a value, not a group of keys, stands below a comment that starts with `# --`."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    silent = [
        line.strip()
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r"\s*[a-zA-Z]+: \S", line) and not before.strip().startswith("# --")
    ]
    inside_a_value = {"cpu: 50m", "memory: 160Mi", "memory: 256Mi", "kubernetes.io/os: linux"}
    assert set(silent) <= inside_a_value
