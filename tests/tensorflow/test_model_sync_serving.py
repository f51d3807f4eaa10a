"""The agent and the model server's stand-in as processes, a bucket between them and whoever publishes."""

import hashlib
import json
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from serving_processes import (
    AGENT_PORT,
    NAME,
    Running,
    ask,
    golden_of,
    model_server,
    own_address,
    predict,
    put_version,
    running,
    state,
    tiny_classifier,
    until,
    want,
)

from expansion_contract import layout
from expansion_contract.run import StorageAccess
from expansion_contract.version import AgentStatus
from expansion_storage import Credentials, Prefix, open_prefix
from model_sync.model_server import ServerConfig, config_text, second_name

pytestmark = pytest.mark.tensorflow

CHECKED = second_name(NAME)
NAMES = ["daisy", "rose", "tulip", "cat", "dog", "panda"]
OTHER_NAMES = ["DAISY", "ROSE", "TULIP", "CAT", "DOG", "PANDA"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two SavedModels that answer differently: first and second."""
    folder = tmp_path_factory.mktemp("models")
    tiny_classifier(folder / "first", NAMES)
    tiny_classifier(folder / "second", OTHER_NAMES)
    return folder


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address=own_address(), port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@dataclass
class Pod:
    """What one serving pod has: an address, a folder of models, and the two processes."""

    host: str
    folder: Path
    variables: dict[str, str]
    store: Prefix
    stack: ExitStack

    def start_agent(self) -> Running:
        log = self.folder / "agent.log"
        return self.stack.enter_context(running("model_sync", variables=self.variables, log=log))

    def start_server(self) -> Running:
        config = f"--model_config_file={self.folder / 'models.config'}"
        flags = [config, "--model_config_file_poll_wait_seconds=1", "--port=8500", "--max_num_load_retries=0"]
        monitoring = f"--monitoring_config_file={self.folder / 'monitoring.config'}"
        return self.stack.enter_context(
            model_server(self.host, self.folder / "server.log", *flags, monitoring)
        )

    def start(self) -> tuple[Running, Running]:
        agent = self.start_agent()
        until(lambda: self.code("/started") == 200, "started")
        return agent, self.start_server()

    def code(self, path: str) -> int:
        try:
            return ask(self.host, AGENT_PORT, path)[0]
        except OSError:
            return 0

    @property
    def status(self) -> AgentStatus:
        return AgentStatus.model_validate(ask(self.host, AGENT_PORT, "/status")[1])

    def until_live(self, version: int) -> None:
        until(lambda: self.code("/ready") == 200 and self.status.live_version == version, f"{version} live")

    def until_failed(self) -> str:
        until(lambda: self.status.state == "Failed", "failed")
        return self.status.message

    def on_disk(self) -> set[str]:
        """All that lies beside the versions, too."""
        return {path.name for path in (self.folder / NAME).iterdir()}

    @property
    def config(self) -> str:
        return (self.folder / "models.config").read_text()

    def answer(self) -> str:
        status, answer = predict(self.host, b"abc")
        assert status == 200, answer
        return str(answer["predictions"][0]["names"][0])


@pytest.fixture
def pod(endpoint: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pod]:
    bucket = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    access, keys = StorageAccess(endpoint_url=endpoint), Credentials(access_key_id="k", secret_access_key="s")
    boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    ).create_bucket(Bucket=bucket)
    uri, host = f"s3://{bucket}/flowers/", own_address()
    variables = {
        "EXPANSION_OUTPUT": uri,
        "EXPANSION_MODEL_NAME": NAME,
        "EXPANSION_MODELS": str(tmp_path),
        "EXPANSION_MODEL_SERVER": f"http://{host}:8501",
        "EXPANSION_BIND": host,
        "EXPANSION_ENDPOINT_URL": endpoint,
        "EXPANSION_POLL_SECONDS": "0.2",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    with ExitStack() as stack:
        yield Pod(host, tmp_path, variables, open_prefix(uri, access, keys), stack)


def serve_first(pod: Pod, models: Path) -> tuple[Running, Running]:
    put_version(pod.store, models / "first", 1)
    want(pod.store, 1)
    processes = pod.start()
    pod.until_live(1)
    return processes


def test_a_published_version_goes_live(pod: Pod, models: Path):
    serve_first(pod, models)
    assert pod.answer() == "cat"
    assert pod.status == AgentStatus(model_name=NAME, live_version=1, desired_version=1, state="Live")
    assert pod.on_disk() == {"1"}
    page = ask(pod.host, AGENT_PORT, "/metrics")[1]
    assert "model_sync_live_version 1.0" in page
    assert "model_sync_golden_mismatches_total 0.0" in page


def test_the_agent_starts_before_anything_is_published_and_then_follows(pod: Pod, models: Path):
    pod.start()
    assert pod.code("/ready") == 503
    assert pod.status.state == "Waiting"
    put_version(pod.store, models / "first", 1)
    want(pod.store, 1)
    pod.until_live(1)


@contextmanager
def hammered(pod: Pod) -> Iterator[list[tuple[int, str]]]:
    """Requests that name no version, one after the other while the block runs: what was answered to each. 600 at most."""
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set() and len(answers) < 600:
            status, answer = predict(pod.host, b"abc")
            answers.append((status, str(answer.get("predictions", [answer])[0])))
            stop.wait(0.05)

    thread = threading.Thread(target=hammer)
    thread.start()
    yield answers
    stop.set()
    thread.join()


def test_no_request_fails_while_a_version_is_exchanged(pod: Pod, models: Path):
    serve_first(pod, models)
    put_version(pod.store, models / "second", 2)
    with hammered(pod) as answers:
        want(pod.store, 2)
        pod.until_live(2)
        until(lambda: state(pod.host, 1) == "END", "the old one unloaded")
        many = len(answers)
        until(lambda: len(answers) > many, "one more answer")
    assert {status for status, _ in answers} == {200}
    assert "'cat'" in answers[0][1]
    assert "'CAT'" in answers[-1][1]
    assert "versions: 2 }" in pod.config


def test_a_version_that_answers_wrongly_never_answers_who_names_no_version(pod: Pod, models: Path):
    serve_first(pod, models)
    put_version(pod.store, models / "second", 2, golden=golden_of(models / "first"))
    with hammered(pod) as answers:
        want(pod.store, 2)
        until(lambda: CHECKED in pod.config, "loaded under the second name")
        pod.until_failed()
        until(lambda: state(pod.host, 2, CHECKED) == "END", "unloaded")
    assert 20 < len(answers) < 600
    assert {(status, "'cat'" in answer) for status, answer in answers} == {(200, True)}
    assert state(pod.host, 2) == ""
    assert pod.config == config_text(NAME, pod.folder / NAME, ServerConfig(versions=(1,)))


def test_a_version_that_cannot_be_loaded_never_gets_the_models_name(pod: Pod, models: Path, tmp_path: Path):
    serve_first(pod, models)
    shutil.copytree(models / "second", tmp_path / "broken")
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no model")
    put_version(pod.store, tmp_path / "broken", 2, golden=golden_of(models / "second"))
    want(pod.store, 2)
    message = pod.until_failed()
    assert "The model server cannot load version 2" in message
    assert "Version 1 stays live." in message
    assert state(pod.host, 2) == ""
    put_version(pod.store, models / "second", 3)
    want(pod.store, 3)
    pod.until_live(3)


def test_versions_that_nobody_waits_for_any_more_do_not_keep_the_server_from_the_next(pod: Pod, models: Path):
    """A folder that goes while the server was just told to load it under a new name would stop it from reading its config."""
    serve_first(pod, models)
    for version in (2, 3, 4):
        put_version(pod.store, models / "second", version)
        want(pod.store, version)
        until(lambda now=version: f"versions: {now} " in pod.config, "told")
    pod.until_live(4)
    until(lambda: pod.on_disk() == {"1", "4"}, "the others removed")


def test_a_corrupted_file_is_refused_and_the_old_version_stays(pod: Pod, models: Path):
    serve_first(pod, models)
    put_version(pod.store, models / "second", 2)
    data = layout.version(2, "variables/variables.data-00000-of-00001")
    content = bytearray(pod.store.read(data))
    content[3] ^= 1
    pod.store.write(data, bytes(content))
    want(pod.store, 2)
    message = pod.until_failed()
    assert "variables.data-00000-of-00001 is corrupted" in message
    assert "Version 1 stays live." in message
    assert pod.code("/ready") == 200
    assert pod.answer() == "cat"
    assert "2" not in pod.on_disk()


def test_a_half_published_version_is_never_seen(pod: Pod, models: Path):
    serve_first(pod, models)
    manifest = put_version(pod.store, models / "second", 2)
    want(pod.store, 2)
    pod.store.delete(layout.version(2, layout.MANIFEST))
    pod.store.delete(layout.version(2, "variables/variables.index"))
    want(pod.store, 2, hashlib.sha256(manifest.to_json()).hexdigest())
    assert "manifest.json does not exist, so version 2 is not published" in pod.until_failed()
    pod.store.write(layout.version(2, layout.MANIFEST), manifest.to_json())
    until(
        lambda: "variables.index does not exist although the manifest names it" in pod.status.message, "told"
    )
    assert state(pod.host, 2) == ""
    assert pod.answer() == "cat"


def test_a_model_that_answers_otherwise_than_when_it_was_trained_is_refused(pod: Pod, models: Path):
    serve_first(pod, models)
    put_version(pod.store, models / "second", 2, golden=golden_of(models / "first"))
    want(pod.store, 2)
    message = pod.until_failed()
    assert "golden image 1 of 2 should be answered 'rose'" in message
    assert "is answered 'ROSE'" in message
    assert "Version 1 stays live." in message
    until(lambda: state(pod.host, 2, CHECKED) == "END", "unloaded")
    assert pod.code("/ready") == 200
    assert pod.answer() == "cat"
    assert "model_sync_golden_mismatches_total 1.0" in ask(pod.host, AGENT_PORT, "/metrics")[1]


def test_a_model_published_without_its_variables_loads_and_is_refused_all_the_same(
    pod: Pod, models: Path, tmp_path: Path
):
    serve_first(pod, models)
    shutil.copytree(models / "second", tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "variables")
    put_version(pod.store, tmp_path / "bare", 2, golden=golden_of(models / "second"))
    want(pod.store, 2)
    message = pod.until_failed()
    assert "Version 2 cannot be asked its golden images" in message
    assert "answered 400" in message
    assert "Version 1 stays live." in message
    until(lambda: state(pod.host, 2, CHECKED) == "END", "unloaded")
    assert pod.answer() == "cat"


def test_what_was_refused_is_tried_again_when_something_else_is_wanted(pod: Pod, models: Path):
    serve_first(pod, models)
    put_version(pod.store, models / "second", 2, golden=golden_of(models / "first"))
    want(pod.store, 2)
    pod.until_failed()
    put_version(pod.store, models / "second", 3)
    want(pod.store, 3)
    pod.until_live(3)


def test_a_roll_back_needs_no_download(pod: Pod, models: Path):
    serve_first(pod, models)
    put_version(pod.store, models / "second", 2)
    want(pod.store, 2)
    pod.until_live(2)
    want(pod.store, 1)
    for file in json.loads(pod.store.read(layout.version(1, layout.MANIFEST)))["files"]:
        pod.store.delete(layout.version(1, file["path"]))
    pod.until_live(1)
    until(lambda: state(pod.host, 2) == "END", "unloaded")
    assert pod.answer() == "cat"


def test_a_pod_whose_model_server_restarts_is_not_ready_until_it_is_loaded_again(pod: Pod, models: Path):
    _, server = serve_first(pod, models)
    server.stop(signal.SIGKILL)
    until(lambda: pod.code("/ready") == 503, "not ready")
    assert pod.status.state == "Loading"
    assert "log of the container model-server" in pod.status.message
    pod.start_server()
    pod.until_live(1)


def test_an_agent_that_restarts_while_storage_is_away_stays_live(pod: Pod, models: Path):
    agent, _ = serve_first(pod, models)
    assert agent.stop() == 0
    pod.variables["EXPANSION_ENDPOINT_URL"] = "http://127.0.0.1:9"
    pod.start_agent()
    pod.until_live(1)
    assert pod.code("/started") == 200
    until(lambda: "127.0.0.1:9 cannot be reached" in pod.status.message, "the trouble shown")


def test_an_agent_killed_in_the_middle_of_a_download_leaves_nothing_half_visible(pod: Pod, models: Path):
    large = models / "second" / "assets.extra" / "large"
    large.parent.mkdir(exist_ok=True)
    large.write_bytes(b"0123456789abcdef" * (2**21))
    try:
        agent, _ = serve_first(pod, models)
        put_version(pod.store, models / "second", 2)
    finally:
        large.unlink()
    want(pod.store, 2)
    until(lambda: ".2.partial" in pod.on_disk(), "a download under way")
    agent.stop(signal.SIGKILL)
    assert "2" not in pod.on_disk()
    assert pod.answer() == "cat"
    pod.start_agent()
    pod.until_live(2)
    assert pod.on_disk() == {"1", "2"}
    assert len(list((pod.folder / NAME / "2" / "assets.extra").iterdir())) == 2
