"""Finds the programs of this tier and runs them; one that is missing fails the test with the remedy, nothing is skipped."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "classifier-expansion"
_REMEDIES = {
    "helm": "Install Helm 3 or 4 and put it on PATH, or name it by HELM.",
    "kubectl": "Install kubectl and put it on PATH, or name it by KUBECTL.",
    "promtool": "Install Prometheus (Debian: apt-get install prometheus), or name promtool by PROMTOOL.",
    "versitygw": "Install versitygw (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0) and put it on PATH, or name it by VERSITYGW.",
}


def program(name: str) -> str:
    """Its path: from the variable that is called like it, else from PATH."""
    given = os.environ.get(name.upper()) or name
    found = shutil.which(given)
    if found is None:
        pytest.fail(f"{given} was not found. {_REMEDIES[name]}", pytrace=False)
    return found


def run(name: str, *arguments: str, given: str | None = None, seconds: float = 300) -> str:
    """What it printed. A failure shows the command and everything it said."""
    command = [program(name), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{said}", pytrace=False)
    return done.stdout


def rendered(*arguments: str) -> list[dict[str, Any]]:
    """The chart's objects as `helm template` gives them."""
    text = run("helm", "template", "expansion", str(CHART), "--namespace", "expansion-system", *arguments)
    return [document for document in yaml.safe_load_all(text) if document]


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    found = [document for document in documents if document["kind"] == kind]
    assert len(found) == 1, f"one {kind} was expected among {[d['kind'] for d in documents]}"
    return found[0]
