"""A team with images, a bucket and a namespace, as the operator's tests need one; nothing here is patched or pretended but the trainer."""

import json
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any, Self

import yaml
from apiserver_waiting import condition_of, wait_for
from chart_account import ChartAccount, let_operators_read_secrets

from expansion_contract import layout
from expansion_development import processes
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.object_store import ObjectStore
from expansion_development.process_node.images import Program
from expansion_development.process_node.running import RunningNode
from expansion_storage import open_prefix
from expansion_storage.prefix import Prefix

CRD = processes.REPOSITORY / "crds" / "classifierexpansion.dev_classifierexpansions.yaml"
EXPANSIONS = "classifierexpansions"
SECRET = "s3-credentials"
TRAINER, AGENT, MODEL_SERVER = "instant-trainer:1", "instant-agent:1", "instant-model-server:1"
SERVED = {"mode": "Managed", "replicas": 1, "image": MODEL_SERVER}
"""spec.serving with one model server."""
_HERE = Path(__file__).parent


def install_definition(api: Api) -> None:
    """Our kind, ready to be used."""
    manifest = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    name = manifest["metadata"]["name"]
    api.apply("customresourcedefinitions", "", manifest)
    wait_for(
        lambda: (
            condition_of(api.find("customresourcedefinitions", "", name), "Established").get("status")
            == "True"
        ),
        "the definition of our kind",
    )
    wait_for(lambda: _is_served(api), "our kind to be served")


def _is_served(api: Api) -> bool:
    try:
        return api.list(EXPANSIONS) is not None
    except Exception:
        return False


def instant_trainer() -> Program:
    return Program(entrypoint=(sys.executable, str(_HERE / "instant_trainer.py")), environment=_python_path())


def add_images(node: RunningNode) -> None:
    path = _python_path()
    servers = (sys.executable, str(_HERE / "instant_servers.py"))
    node.add_image(TRAINER, instant_trainer())
    node.add_image(AGENT, Program(entrypoint=(*servers, "agent"), environment=path))
    programs = {"/usr/bin/tensorflow_model_server": (*servers, "model-server")}
    node.add_image(MODEL_SERVER, Program(environment=path, programs=programs))


def _python_path() -> dict[str, str]:
    return {"PYTHONPATH": processes.python_environment()["PYTHONPATH"]}


class Operator:
    """The operator as a process, with the permissions that the chart gives it; it may be killed and started again.

    No namespace: all of them.
    """

    def __init__(
        self, kubeconfig: Path, log: Path, *namespaces: str, trainer: str = TRAINER, **flags: str
    ) -> None:
        self._admin, self.log = kubeconfig, log
        self.account = ChartAccount(api=Api(kubeconfig), namespaces=namespaces, lease=flags.get("lease", ""))
        self.metrics, self.health = processes.free_port(), processes.free_port()
        where = [word for name in namespaces for word in ("--namespace", name)] or ["--all-namespaces"]
        self._program = [
            *(sys.executable, "-m", "expansion_operator"),
            *("--trainer-image", trainer, "--model-sync-image", AGENT),
            *("--metrics-address", f"127.0.0.1:{self.metrics}"),
            *("--health-address", f"127.0.0.1:{self.health}"),
            *where,
            *(word for name, value in flags.items() for word in (f"--{name}", value)),
        ]
        self.process: Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.kubeconfig = self.account.kubeconfig(self._admin, self.log.with_suffix(".kubeconfig"))
        environment = {**processes.python_environment(), "KUBECONFIG": str(self.kubeconfig)}
        self.process = processes.start(self._program, self.log, environment)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        print(f"--- {self.log.name} (last lines)\n{processes.tail(self.log, 60)}")

    def stop(self) -> int | None:
        """SIGTERM; the exit status."""
        return processes.stop(self.process, grace_seconds=25) if self.process else None

    def kill(self) -> None:
        """SIGKILL: nothing can be saved."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def healthy(self, question: str) -> bool:
        """`healthz` or `readyz`."""
        return self.says(question)[0] == 200

    def says(self, question: str) -> tuple[int, str]:
        """Status and words; 0 if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}/{question}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return 0, ""

    def is_up(self, kind: str) -> bool:
        """Is this kind being watched, by its own metrics?"""
        return f'expansion_operator_watcher_up{{kind="{kind}"}} 1.0' in self.scrape()


@dataclass(frozen=True)
class Team:
    api: Api
    namespace: str
    store: ObjectStore
    bucket: str

    def put_images(self, **counts: int) -> None:
        """`tulip=30`: that many objects in the folder photos/tulip/."""
        for category, count in counts.items():
            self.put(*(f"photos/{category}/{number}.jpg" for number in range(count)))

    def put(self, *keys: str) -> None:
        for key in keys:
            self.place.write(key, key.encode())

    def behave(self, *words: str) -> None:
        """What the trainer does at each attempt, see instant_trainer."""
        self.place.write("models/behaviour", " ".join(words).encode())

    @property
    def place(self) -> Prefix:
        return open_prefix(f"s3://{self.bucket}/", self.store.access, self.store.credentials)

    def create_secret(self, name: str = SECRET, **changes: str | None) -> None:
        """For the operators, too: whoever owns the namespace lets them read its Secrets."""
        let_operators_read_secrets(self.api, self.namespace)
        values = {**self.store.secret(), **changes}
        data = {key: b64encode(value.encode()).decode() for key, value in values.items() if value is not None}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        self.api.apply("secrets", self.namespace, manifest)

    def spec(self, **changes: Any) -> dict[str, Any]:
        """A good one: a pod without GPUs, no model servers; images that were put a moment ago are complete."""
        storage = {"secretName": SECRET, "endpointUrl": self.store.endpoint, **changes.pop("storage", {})}
        return {
            "categories": {"images": f"s3://{self.bucket}/photos/"},
            "output": {"models": f"s3://{self.bucket}/models/"},
            "compute": {"gpusPerWorker": 0, "backoffLimit": 1},
            "serving": {"mode": "None"},
            "storage": storage,
            "retrain": {"settle": "0s", **changes.pop("retrain", {})},
            **changes,
        }

    def apply(self, name: str = "flowers", manager: str = "development", **spec: Any) -> Manifest:
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {
            "apiVersion": "classifierexpansion.dev/v1alpha1",
            "kind": "ClassifierExpansion",
            "metadata": metadata,
            "spec": self.spec(**spec),
        }
        return self.api.apply(EXPANSIONS, self.namespace, manifest, manager)

    def get(self, name: str = "flowers") -> Manifest:
        return self.api.get(EXPANSIONS, self.namespace, name)

    def patch(self, name: str = "flowers", **spec: Any) -> Manifest:
        return self.api.patch(EXPANSIONS, self.namespace, name, {"spec": spec})

    def jobs(self) -> list[Manifest]:
        return self.api.list("jobs", self.namespace)

    def attempts(self) -> int:
        """How often a trainer was started."""
        return sum(1 for _ in self.place.list("models/attempts/"))

    def versions(self) -> list[int]:
        """Committed ones."""
        keys = (entry.key.removeprefix("models/") for entry in self.place.list("models/versions/"))
        return sorted(number for key in keys if (number := layout.version_of(key)) is not None)

    def half_published(self) -> list[str]:
        """Files of versions without a manifest."""
        keys = [entry.key.removeprefix("models/") for entry in self.place.list("models/versions/")]
        committed = {layout.version(number) for number in self.versions()}
        return [key for key in keys if key.rsplit("/", 1)[0].split("/assets")[0] not in committed]

    def served(self) -> int | None:
        found = self.place.find("models/serving.json")
        return json.loads(self.place.read("models/serving.json"))["version"] if found else None


def message(resource: Manifest, kind: str) -> str:
    return str(condition_of(resource, kind).get("message", ""))
