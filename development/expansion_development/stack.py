"""Everything embedded, in one process that ends with its children: S3 server, control plane, CRD, process node, operator.

`python -m expansion_development.stack --folder FOLDER` writes store.json and then stack.json there, and stays until SIGTERM.
"""

import argparse
import json
import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from expansion_development import object_store, processes
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.images import Program
from expansion_development.process_node.running import RunningNode
from expansion_development.processes import REPOSITORY

STORE, STACK, PROBLEM = "store.json", "stack.json", "problem.txt"
MARK = "EXPANSION_DEMO"
"""Set in every process of one stack, so that a forgotten one can be found."""
TRAINER, MODEL_SYNC, SERVING = "trainer:demo", "model-sync:demo", "tensorflow/serving:2.20.0"
_CRDS = REPOSITORY / "crds"


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    endpoint: str
    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True, kw_only=True)
class StackAddress:
    kubeconfig: str
    metrics: str
    operator_log: str
    node_folder: str


def run(folder: Path) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as running:
        store = running.enter_context(object_store.moto())
        _write(folder / STORE, store_address(store))
        control_plane = running.enter_context(ControlPlane())
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(control_plane.kubeconfig.read_text())
        install_crds(Api(kubeconfig))
        node = running.enter_context(RunningNode(kubeconfig, folder / "node", images()))
        metrics = _start_operator(running, kubeconfig, folder / "operator.log")
        address = StackAddress(
            kubeconfig=str(kubeconfig),
            metrics=metrics,
            operator_log=str(folder / "operator.log"),
            node_folder=str(node.folder),
        )
        _write(folder / STACK, address)
        stop.wait()


def images() -> dict[str, Program]:
    """Our three images, as the programs they would start."""
    known = processes.frugal_environment()
    passed = ("PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL", "OPENBLAS_NUM_THREADS", MARK)
    environment = {name: known[name] for name in passed if name in known}

    def module(name: str) -> tuple[str, ...]:
        return (sys.executable, "-m", name)

    server = module("expansion_development.model_server")
    return {
        TRAINER: Program(entrypoint=module("expansion_trainer"), environment=environment),
        MODEL_SYNC: Program(entrypoint=module("model_sync"), environment=environment),
        SERVING: Program(environment=environment, programs={"/usr/bin/tensorflow_model_server": server}),
    }


def install_crds(api: Api) -> None:
    """And waits until the API server serves them."""
    for file in sorted(_CRDS.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            api.apply("customresourcedefinitions", "", document)
            _wait_for_crd(api, document["metadata"]["name"])


def _wait_for_crd(api: Api, name: str) -> None:
    def is_established() -> bool:
        status = api.get("customresourcedefinitions", "", name).get("status") or {}
        conditions = status.get("conditions") or ()
        return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

    if not processes.wait_until(is_established, 30):
        raise TimeoutError(f"The API server does not serve {name} after 30 s.")


def _start_operator(running: ExitStack, kubeconfig: Path, log: Path) -> str:
    metrics, health = (f"127.0.0.1:{processes.free_port()}" for _ in range(2))
    arguments = [
        *(sys.executable, "-m", "expansion_operator", "--all-namespaces"),
        *("--trainer-image", TRAINER, "--model-sync-image", MODEL_SYNC),
        *("--metrics-address", metrics, "--health-address", health),
    ]
    environment = {**processes.python_environment(), "KUBECONFIG": str(kubeconfig)}
    operator = processes.start(arguments, log, environment)
    running.callback(processes.stop, operator, 10)
    return f"http://{metrics}/metrics"


def store_address(store: ObjectStore) -> StoreAddress:
    keys = store.credentials
    return StoreAddress(
        endpoint=store.endpoint,
        access_key_id=keys.access_key_id,
        secret_access_key=keys.secret_access_key,
    )


def _write(file: Path, value: Any) -> None:
    partial = file.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(asdict(value)))
    partial.replace(file)


def main() -> int:
    parser = argparse.ArgumentParser(prog="expansion_development.stack", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run(folder)
    except Exception as problem:
        (folder / PROBLEM).write_text(str(problem))
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
