"""The alerts, as the chart renders them, against series: what must alert, what must not, and after how long."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_tools import ROOT, one, rendered, run

from expansion_operator.metrics import Expansions

pytestmark = pytest.mark.cluster
HERE = Path(__file__).parent
ENABLED = ("--set", "metrics.prometheusRule.enabled=true")


def groups(*arguments: str) -> dict[str, Any]:
    """What Prometheus itself reads: the groups without the Kubernetes object around them."""
    spec: dict[str, Any] = one(rendered(*ENABLED, *arguments), "PrometheusRule")["spec"]
    return spec


def alerts(*arguments: str) -> list[dict[str, Any]]:
    return [rule for group in groups(*arguments)["groups"] for rule in group["rules"] or ()]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(groups()))
    return file


def test_prometheus_accepts_the_rules(rules: Path):
    assert "SUCCESS" in run("promtool", "check", "rules", str(rules))


@pytest.mark.parametrize("scenarios", [pytest.param(f, id=f.stem) for f in sorted(HERE.glob("*.yaml"))])
def test_the_alerts_come_when_they_should_and_only_then(scenarios: Path, rules: Path):
    copied = shutil.copy(scenarios, rules.parent / scenarios.name)
    run("promtool", "test", "rules", str(copied))


def test_every_alert_leads_to_a_runbook_that_exists():
    for alert in alerts():
        assert (ROOT / alert["annotations"]["runbook_url"]).is_file(), alert["annotations"]["runbook_url"]


def test_alerts_read_only_series_that_the_operator_exports():
    exported = {family.name for family in Expansions().collect()}
    read = {name for alert in alerts() for name in re.findall(r"\bexpansion_\w+", alert["expr"])}
    assert read
    assert read <= exported


def test_an_alert_can_be_switched_off_alone():
    off = alerts("--set", "metrics.prometheusRule.alerts.accuracyBelowThreshold.enabled=false")
    assert "ClassifierExpansionAccuracyBelowThreshold" not in {alert["alert"] for alert in off}


def test_how_long_how_severe_and_for_whom_can_be_set():
    values = "metrics.prometheusRule.alerts.accuracyBelowThreshold"
    set_values = f"{values}.for=3h,{values}.severity=critical,metrics.prometheusRule.alertLabels.team=vision"
    for alert in alerts("--set", set_values):
        assert alert["for"] == "3h"
        assert alert["labels"]["severity"] == "critical"
        assert alert["labels"]["team"] == "vision"
