"""Finds the programs of this tier and runs them; one that is missing fails the test with the remedy, nothing is skipped."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

Body = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "classifier-expansion"
SYSTEM = "expansion-system"
VISION = "expansion-vision"
RELEASE = "expansion"
OPERATOR = "deployment/expansion-classifier-expansion"
_REMEDIES = {
    "helm": "Install Helm 3 or 4 and put it on PATH, or name it by EXPANSION_HELM.",
    "kubectl": "Install kubectl and put it on PATH, or name it by EXPANSION_KUBECTL.",
    "promtool": "Install Prometheus (Debian: apt-get install prometheus), or name promtool by EXPANSION_PROMTOOL.",
    "versitygw": "Install it (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0) and put it on PATH, or name it by EXPANSION_VERSITYGW.",
}


def program(name: str) -> str:
    """Its path: from the variable EXPANSION_<NAME>, else from PATH."""
    given = os.environ.get(f"EXPANSION_{name.upper()}") or name
    found = shutil.which(given)
    if found is None:
        pytest.fail(f"{given} was not found. {_REMEDIES[name]}", pytrace=False)
    return found


def attempt(
    name: str, *arguments: str, given: str | None = None, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Runs it and hands back whatever came of it."""
    command = [program(name), *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds)


def run(name: str, *arguments: str, given: str | None = None, seconds: float = 300) -> str:
    """What it printed. A failure shows the command and everything it said."""
    done = attempt(name, *arguments, given=given, seconds=seconds)
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()
        pytest.fail(f"{name} {' '.join(arguments)} ended with {done.returncode}:\n{said}", pytrace=False)
    return done.stdout


# The chart, without a cluster


def rendered(*arguments: str) -> list[Body]:
    """The chart's objects as `helm template` gives them."""
    text = run("helm", "template", RELEASE, str(CHART), "--namespace", SYSTEM, *arguments)
    return [document for document in yaml.safe_load_all(text) if document]


def one(documents: list[Body], kind: str) -> Body:
    found = [document for document in documents if document["kind"] == kind]
    assert len(found) == 1, f"one {kind} was expected among {[d['kind'] for d in documents]}"
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Images:
    operator: str
    trainer: str
    model_sync: str
    model_server: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Images":
        names = ("operator", "trainer", "model_sync", "model_server")
        default = {name: f"localhost/expansion-{name.replace('_', '-')}:dev" for name in names}
        return cls(
            **{name: environment.get(f"EXPANSION_IMAGE_{name.upper()}", default[name]) for name in names}
        )

    def values(self) -> list[str]:
        """Arguments of helm that install them."""
        chosen = {"operator": self.operator, "trainer": self.trainer, "modelSync": self.model_sync}
        return [
            argument
            for key, image in chosen.items()
            for part, text in zip(("repository", "tag"), image.rsplit(":", 1), strict=True)
            for argument in ("--set-string", f"images.{key}.{part}={text}")
        ]


# The cluster


def kubectl(*arguments: str, given: str | None = None, seconds: float = 300) -> str:
    return run("kubectl", *arguments, given=given, seconds=seconds)


def kubectl_json(*arguments: str) -> Body:
    body: Body = json.loads(kubectl(*arguments, "--output", "json"))
    return body


def apply(*manifests: Body) -> str:
    return kubectl("apply", "--filename", "-", given=yaml.safe_dump_all(manifests))


def refusal(manifest: Body) -> str:
    """What a person reads when `kubectl apply` does not take it."""
    done = attempt("kubectl", "apply", "--filename", "-", given=yaml.safe_dump(manifest))
    assert done.returncode != 0, f"kubectl apply took it: {done.stdout}"
    return done.stderr


def install(images: Images, *values: str) -> None:
    """Or upgrades; comes back when the operator is ready."""
    where = ("--namespace", SYSTEM, "--wait", "--timeout", "90s")
    done = attempt("helm", "upgrade", "--install", RELEASE, str(CHART), *where, *images.values(), *values)
    if done.returncode:
        said = [done.stdout, done.stderr, answer("describe", "pods", "--namespace", SYSTEM)]
        said.append(answer("logs", OPERATOR, "--namespace", SYSTEM, "--tail", "40"))
        pytest.fail("\n".join(("The chart was not installed.", *said)), pytrace=False)


def expansion_named(name: str) -> Body:
    return kubectl_json("get", "clx", name, "--namespace", VISION)


def condition(name: str, kind: str) -> Body:
    conditions = expansion_named(name).get("status", {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == kind), {})


def patch(name: str, spec: Body) -> None:
    body = json.dumps({"spec": spec})
    kubectl("patch", "clx", name, "--namespace", VISION, "--type=merge", "--patch", body)


def children(name: str, kinds: str) -> list[Body]:
    selector = f"classifierexpansion.dev/name={name}"
    items: list[Body] = kubectl_json("get", kinds, "--namespace", VISION, "--selector", selector)["items"]
    return items


def wait_for(kind: str, name: str, seconds: float) -> None:
    """`kubectl wait`, which gives up as soon as the operator says that only a person can help."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        asked = ("wait", f"--for=condition={kind}", f"clx/{name}", "--namespace", VISION, "--timeout=15s")
        if attempt("kubectl", *asked).returncode == 0:
            return
        if condition(name, "Stalled").get("status") == "True":
            break
    pytest.fail(f"{name} is not {kind}.\n{diagnosis(name)}", pytrace=False)


def wait_until_gone(name: str, kinds: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := [f"{body['kind']}/{body['metadata']['name']}" for body in children(name, kinds)]:
        if time.monotonic() > deadline:
            pytest.fail(f"After {seconds:.0f} s there are still {', '.join(left)}.", pytrace=False)
        time.sleep(1)


def operators_said() -> str:
    """All that every operator wrote down: one acts, the other waits."""
    of_operators = ("--selector", "app.kubernetes.io/component=operator")
    return kubectl("logs", *of_operators, "--namespace", SYSTEM, "--prefix", "--tail", "-1")


def acting_operator() -> Body:
    """The pod that holds the Lease."""
    lease = kubectl_json("get", "lease", "expansion-classifier-expansion", "--namespace", SYSTEM)
    return kubectl_json("get", "pod", lease["spec"]["holderIdentity"], "--namespace", SYSTEM)


def in_the_operator(*command: str, given: str | None = None) -> str:
    """Run in the operator's pod, from where every Service can be reached."""
    return kubectl("exec", "--stdin", "--namespace", SYSTEM, OPERATOR, "--", *command, given=given)


def diagnosis(name: str) -> str:
    """What somebody would ask for first."""
    of_ours = (
        "--namespace",
        VISION,
        "--selector",
        f"classifierexpansion.dev/name={name}",
        "--all-containers",
    )
    asked = (
        ("describe", "clx", name, "--namespace", VISION),
        ("get", "jobs,pods,events", "--namespace", VISION, "--output", "wide"),
        ("logs", *of_ours, "--prefix", "--tail", "30"),
        ("logs", OPERATOR, "--namespace", SYSTEM, "--tail", "40"),
    )
    return "\n\n".join(f"$ kubectl {' '.join(each)}\n{answer(*each)}" for each in asked)


def answer(*arguments: str) -> str:
    """Whatever kubectl says, a refusal too."""
    done = attempt("kubectl", *arguments)
    return f"{done.stdout}{done.stderr}"
