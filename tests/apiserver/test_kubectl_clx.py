"""`kubectl clx` as a person runs it: the program against a real API server, which asks a kubelet of ours for logs."""

import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver_expansions import EXPANSIONS, install_definition
from apiserver_waiting import wait_for

from expansion_development import processes, programs
from expansion_development.certificates import private_authority
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.programs import Places
from kubectl_clx.exits import Exit

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("definition")]
Clx = Callable[..., "Said"]
RUN = "0123456789abcdef"
OURS = {"apiVersion": "classifierexpansion.dev/v1alpha1", "kind": "ClassifierExpansion"}
SPEC = {"categories": {"images": "s3://photos/f/"}, "output": {"models": "s3://models/f/"}}


class Said:
    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code, self.out, self.error = done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def definition(api: Api) -> None:
    install_definition(api)


@pytest.fixture
def clx(kubeconfig: Path, namespace: str) -> Clx:
    """`clx("status", "flowers")` in this test's namespace."""

    def run(*arguments: str, env: dict[str, str] | None = None) -> Said:
        return Said(
            subprocess.run(
                [sys.executable, "-m", "kubectl_clx", "-n", namespace, *arguments],
                env={**processes.python_environment(), "KUBECONFIG": str(kubeconfig), **(env or {})},
                capture_output=True,
                text=True,
                timeout=60,
            )
        )

    return run


@pytest.fixture
def flowers(api: Api, namespace: str) -> Manifest:
    """A resource that published versions 1 and 2."""
    api.create(
        EXPANSIONS,
        namespace,
        {
            **OURS,
            "metadata": {"name": "flowers"},
            "spec": SPEC,
        },
    )
    status = {
        "observedGeneration": 1,
        "phase": "Ready",
        "conditions": [condition("Ready", "True", "Ready", "Version 2 answers.")],
        "run": {"id": RUN, "outcome": "Succeeded"},
        "model": {"version": 2, "runId": RUN, "categories": 1005, "uri": "s3://models/f/versions/2"},
        "history": [
            {"runId": RUN, "outcome": "Published", "version": 2},
            {"runId": "fedcba9876543210", "outcome": "Published", "version": 1},
        ],
    }
    return api.patch(EXPANSIONS, namespace, "flowers", {"status": status}, part="status")


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-22T12:00:00Z",
        "observedGeneration": 1,
    }


# Status


def test_the_tree_of_a_resource_is_shown_without_colour_into_a_pipe(clx: Clx, flowers: Manifest) -> None:
    said = clx("status", "flowers")
    assert (said.code, said.error) == (Exit.DONE, "")
    assert re.match(r"\S+/flowers  ok      Ready\n│  Version 2 answers\.", said.out)
    assert "version" in said.out
    assert "\x1b" not in said.out
    assert "\x1b[32mok" in clx("status", "flowers", "--color", "always").out


def test_kubectl_s_flags_may_stand_behind_the_command_too(
    clx: Clx, flowers: Manifest, namespace: str
) -> None:
    assert clx("status", "flowers", "--namespace", namespace).code == Exit.DONE
    assert clx("status", "flowers", "-n", "elsewhere").code == Exit.PROBLEM


def test_kubectl_finds_the_plugin(kubeconfig: Path, flowers: Manifest, namespace: str) -> None:
    """By the program's name on PATH, as every plugin."""
    kubectl = programs.obtain([programs.KUBECTL], Places.of(dict(os.environ)), print)[programs.KUBECTL]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [kubectl, "clx", "status", "flowers", "-n", namespace, "--kubeconfig", str(kubeconfig)],
        env={**processes.python_environment(), "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "flowers" in done.stdout


# Asking


def test_a_retrain_is_one_annotation_and_no_new_generation(
    clx: Clx, api: Api, namespace: str, flowers: Manifest
) -> None:
    said = clx("retrain", "flowers")
    assert said.code == Exit.DONE
    live = api.get(EXPANSIONS, namespace, "flowers")
    asked = live["metadata"]["annotations"]["classifierexpansion.dev/retrain-requested-at"]
    assert asked in said.out
    assert live["metadata"]["generation"] == flowers["metadata"]["generation"]
    assert "kubectl-clx" in {entry["manager"] for entry in live["metadata"]["managedFields"]}


def test_a_rollback_is_one_field_and_going_back_takes_it_away(
    clx: Clx, api: Api, namespace: str, flowers: Manifest
) -> None:
    assert clx("rollback", "flowers").code == Exit.DONE
    assert api.get(EXPANSIONS, namespace, "flowers")["spec"]["serving"]["version"] == 1
    assert clx("rollback", "flowers", "--to", "newest").code == Exit.DONE
    assert api.get(EXPANSIONS, namespace, "flowers")["spec"] == flowers["spec"]


# Previewing


def test_a_preview_applies_nothing_and_ends_with_the_code_of_what_would_follow(
    clx: Clx, api: Api, namespace: str, flowers: Manifest, tmp_path: Path
) -> None:
    resolved = condition("DatasetResolved", "True", "Listed", "")
    status = {"dataset": {"digest": "sha256:a", "images": 9, "categories": 2}}
    status["conditions"] = [*flowers["status"]["conditions"], resolved]
    before = api.patch(EXPANSIONS, namespace, "flowers", {"status": status}, part="status")
    edited = tmp_path / "flowers.yaml"
    spec = {**SPEC, "training": {"seed": 1}}
    edited.write_text(yaml.safe_dump({**OURS, "metadata": {"name": "flowers"}, "spec": spec}))
    said = clx("diff", "-f", str(edited))
    assert (said.code, said.error) == (Exit.TRAIN, "")
    assert said.out.startswith(f"{namespace}/flowers: retrain\n  spec.training.seed: 0 -> 1\nA Job trains")
    assert api.get(EXPANSIONS, namespace, "flowers") == before


def test_a_preview_of_what_is_not_there_yet_says_so(clx: Clx, tmp_path: Path) -> None:
    roses = tmp_path / "roses.yaml"
    roses.write_text(yaml.safe_dump({**OURS, "metadata": {"name": "roses"}, "spec": SPEC}))
    said = clx("diff", "-f", str(roses))
    assert (said.code, said.error) == (Exit.TRAIN, "")
    assert "There is none yet" in said.out


# What cannot be done


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("status", "roses"), "there is none. `kubectl get clx -A` shows", id="no such resource"),
        pytest.param(("logs", "flowers"), "No pod of run 0123456789abcdef has said anything", id="no pod"),
        pytest.param(
            ("rollback", "flowers", "--to", "9"),
            "knows no published version 9. It knows 2, 1.",
            id="no version",
        ),
        pytest.param(("diff", "-f", "/nowhere.yaml"), "/nowhere.yaml cannot be read", id="no file"),
        pytest.param(("--context", "mars", "status", "flowers"), "a context with --context", id="no context"),
        pytest.param(
            ("--kubeconfig", "/nowhere", "status", "flowers"),
            "--kubeconfig or KUBECONFIG",
            id="no kubeconfig",
        ),
    ],
)
def test_what_cannot_be_done_says_why_and_what_now(
    clx: Clx, flowers: Manifest, arguments: tuple[str, ...], says: str
) -> None:
    said = clx(*arguments)
    assert (said.code, said.out) == (Exit.PROBLEM, "")
    assert says in said.error
    assert "Traceback" not in said.error


def test_a_wrong_argument_is_a_matter_of_usage(clx: Clx) -> None:
    assert clx("bloom", "flowers").code == Exit.USAGE


def test_an_api_server_that_is_not_there_is_named(clx: Clx, kubeconfig: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "kubeconfig"
    elsewhere.write_text(re.sub(r"server: \S+", "server: https://127.0.0.1:9", kubeconfig.read_text()))
    said = clx("status", "flowers", env={"KUBECONFIG": str(elsewhere)})
    assert said.code == Exit.PROBLEM
    assert "The API server at https://127.0.0.1:9 cannot be reached" in said.error


# Logs: the API server takes them from the kubelet of the pod's node


class Kubelet:
    """Answers /containerLogs with what `logs` holds for a pod, and with 404 for others."""

    def __init__(self, folder: Path) -> None:
        self.logs: dict[str, list[tuple[str, str]]] = {}
        self.cut_after: int | None = None  # lines after which the connection breaks, once
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kubelet.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        made = private_authority(folder / "kubelet")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.certificate, made.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        lines = self.logs.get(path.split("/")[3])
        request.send_response(200 if lines is not None else 404)
        request.end_headers()
        since = re.search(r"sinceTime=([^&]+)", query)
        first = since[1].replace("%3A", ":")[:19] if since else ""
        cut, self.cut_after = self.cut_after, None
        given = [one for one in lines or () if one[0][:19] >= first][:cut]
        for stamp, line in given:
            request.wfile.write(f"{stamp} {line}\n".encode())

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def kubelet(api: Api, tmp_path: Path) -> Iterator[Kubelet]:
    running = Kubelet(tmp_path)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "log-node"}}
    api.create("nodes", "", node)
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": running.port}},
    }
    api.patch("nodes", "", "log-node", {"status": status}, part="status")
    yield running
    running.stop()
    api.delete("nodes", "", "log-node")


def add_pod(api: Api, namespace: str, name: str) -> None:
    labels = {"classifierexpansion.dev/name": "flowers", "classifierexpansion.dev/run": RUN}
    spec = {"nodeName": "log-node", "containers": [{"name": "trainer", "image": "trainer"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
    api.create("pods", namespace, body)


def set_phase(api: Api, namespace: str, name: str, phase: str, **state: Any) -> None:
    container = {
        "name": "trainer", "state": state, "ready": False, "restartCount": 0, "image": "trainer", "imageID": ""
    }  # fmt: skip
    api.patch(
        "pods", namespace, name, {"status": {"phase": phase, "containerStatuses": [container]}}, part="status"
    )


def stamped(*lines: str, minute: int = 0) -> list[tuple[str, str]]:
    return [(f"2026-11-22T12:{minute:02}:0{n}.12345678{n}Z", line) for n, line in enumerate(lines)]


def test_the_log_of_the_newest_pod_is_shown(
    clx: Clx, api: Api, namespace: str, flowers: Manifest, kubelet: Kubelet
) -> None:
    add_pod(api, namespace, "flowers-1")
    set_phase(api, namespace, "flowers-1", "Running", running={})
    kubelet.logs = {"flowers-1": stamped("Reading 200 images.", "Fitting the head.")}
    said = clx("logs", "flowers")
    assert (said.code, said.out, said.error) == (Exit.DONE, "Reading 200 images.\nFitting the head.\n", "")


def test_a_run_is_followed_through_a_broken_connection_an_eviction_and_to_its_end(
    kubeconfig: Path, api: Api, namespace: str, flowers: Manifest, kubelet: Kubelet, tmp_path: Path
) -> None:
    """Each line once, whatever happens to the connection and the pod."""
    api.patch(EXPANSIONS, namespace, "flowers", {"status": {"run": {"outcome": None}}}, part="status")
    add_pod(api, namespace, "flowers-1")
    set_phase(api, namespace, "flowers-1", "Running", running={})
    kubelet.logs = {"flowers-1": stamped("one", "two", "three")}
    kubelet.cut_after = 2
    out = tmp_path / "out"
    with out.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "kubectl_clx", "logs", "-f", "flowers", "-n", namespace],
            env={**processes.python_environment(), "KUBECONFIG": str(kubeconfig)},
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: "three" in out.read_text(), "the line behind the cut", 30)
        set_phase(api, namespace, "flowers-1", "Failed", terminated={"exitCode": 143})
        time.sleep(3)
        add_pod(api, namespace, "flowers-2")
        kubelet.logs["flowers-2"] = stamped("resumed", "done", minute=5)
        set_phase(api, namespace, "flowers-2", "Running", running={})
        wait_for(lambda: "done" in out.read_text(), "the second pod's log", 30)
        set_phase(api, namespace, "flowers-2", "Failed", terminated={"exitCode": 11})
        ended = {"outcome": "Failed", "reason": "BadDataset", "message": "No image can be read."}
        api.patch(EXPANSIONS, namespace, "flowers", {"status": {"run": ended}}, part="status")
        _, error = process.communicate(timeout=30)
    assert out.read_text().splitlines() == ["one", "two", "three", "resumed", "done"]
    assert "Pod flowers-1:" in error
    assert error.rstrip().endswith(f"Run {RUN} failed: BadDataset: No image can be read.")
    assert process.returncode == Exit.RUN_FAILED


def test_whoever_reads_no_further_is_no_error(kubeconfig: Path, flowers: Manifest, namespace: str) -> None:
    command = f"{sys.executable} -m kubectl_clx status flowers -n {namespace} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**processes.python_environment(), "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
