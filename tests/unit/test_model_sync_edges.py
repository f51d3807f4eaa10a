"""How the agent reads its settings, serving.json and the model server, and what it writes for the server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from expansion_contract import environment, layout
from expansion_contract.run import Owner
from expansion_contract.version import ServingDocument
from expansion_storage.folder import FolderPrefix
from model_sync import desired
from model_sync.desired import DesiredError
from model_sync.metrics import Numbers
from model_sync.model_server import (
    ModelServer,
    ModelServerError,
    ServerConfig,
    ServerSeen,
    VersionState,
    config_text,
    write_config,
)
from model_sync.settings import SettingsError, settings

VARIABLES = {
    environment.OUTPUT: "s3://models/flowers/",
    environment.MODEL_NAME: "flowers",
    environment.MODELS_FOLDER: "/models",
    environment.MODEL_SERVER: "http://127.0.0.1:8501",
}
DOCUMENT = ServingDocument(
    owner=Owner(namespace="team", name="flowers"),
    model_name="flowers",
    version=7,
    run_id="r",
    manifest_sha256="s",
    last_version=7,
)


def test_settings_come_from_the_environment():
    told = settings({**VARIABLES, "EXPANSION_POLL_SECONDS": "0.5"})
    assert (told.output, told.poll_seconds, told.load_seconds) == ("s3://models/flowers/", 0.5, 600)


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_a_variable_that_is_missing_is_named(name: str):
    with pytest.raises(SettingsError, match=name):
        settings({**VARIABLES, name: ""})


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_seconds_that_are_none_are_refused(value: str):
    with pytest.raises(SettingsError, match=f"must be a number of seconds above 0, got '{value}'"):
        settings({**VARIABLES, "EXPANSION_LOAD_SECONDS": value})


def test_nothing_published_is_nothing_to_serve(tmp_path: Path):
    assert desired.read(FolderPrefix(tmp_path), "flowers") is None


def test_the_document_is_read_as_it_was_written(tmp_path: Path):
    store = FolderPrefix(tmp_path)
    store.write(layout.SERVING, DOCUMENT.to_json())
    assert desired.read(store, "flowers") == DOCUMENT


def test_another_leader_that_says_the_same_wants_nothing_else(tmp_path: Path):
    store = FolderPrefix(tmp_path)
    store.write(layout.SERVING, DOCUMENT.model_copy(update={"term": 3}).to_json())
    assert desired.read(store, "flowers") == DOCUMENT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"{", "cannot be read: the document: Invalid JSON", id="half a document"),
        pytest.param(b'{"version": 7}', "cannot be read: owner: Field required", id="fields missing"),
        pytest.param(
            DOCUMENT.model_copy(update={"model_name": "cars"}).to_json(),
            "is for the model 'cars', this pod serves 'flowers'",
            id="somebody else's",
        ),
    ],
)
def test_a_document_that_cannot_be_followed_says_why(tmp_path: Path, content: bytes, said: str):
    store = FolderPrefix(tmp_path)
    store.write(layout.SERVING, content)
    with pytest.raises(DesiredError, match=said):
        desired.read(store, "flowers")


def test_the_config_names_specific_versions():
    text = config_text("flowers", Path("/models/flowers"), ServerConfig(versions=(8, 7)))
    assert 'name: "flowers"' in text
    assert 'base_path: "/models/flowers"' in text
    assert "specific { versions: 7 versions: 8 }" in text
    assert text.count("config {") == 1


def test_a_version_that_is_checked_has_a_name_of_its_own_over_the_same_folder():
    text = config_text("flowers", Path("/models/flowers"), ServerConfig(versions=(7,), aside=8))
    own, second = text.split('name: "flowers-check"')
    assert "versions: 7 }" in own
    assert "versions: 8 }" in second
    assert text.count('base_path: "/models/flowers"') == 2


def test_with_nothing_to_serve_the_config_names_no_model():
    assert config_text("flowers", Path("/models/flowers"), ServerConfig()) == "model_config_list {\n}\n"


def test_an_unchanged_config_is_not_written_again(tmp_path: Path):
    file = tmp_path / "models.config"
    write_config(file, "one")
    before = file.stat().st_ino
    write_config(file, "one")
    assert file.stat().st_ino == before
    write_config(file, "two")
    assert file.read_text() == "two"
    assert list(tmp_path.iterdir()) == [file]


class _Scripted(BaseHTTPRequestHandler):
    """Answers as a model server would; what, the test says."""

    def do_GET(self) -> None:
        status, document = self.server.script  # type: ignore[attr-defined]
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Scripted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def client(server: HTTPServer) -> ModelServer:
    return ModelServer(f"http://127.0.0.1:{server.server_port}", "flowers")


def test_nobody_listening_is_no_error():
    assert ModelServer("http://127.0.0.1:9", "flowers").look() == ServerSeen(answers=False)


def test_a_server_that_knows_no_version_answers_all_the_same(scripted: HTTPServer):
    scripted.script = (404, {"error": "Could not find any versions of model flowers"})  # type: ignore[attr-defined]
    assert client(scripted).look() == ServerSeen(answers=True)


def test_states_are_read_from_the_body_since_the_http_status_is_always_200(scripted: HTTPServer):
    bad = {"error_code": "DATA_LOSS", "error_message": "not an sstable"}
    rows = [
        {"version": "8", "state": "END", "status": bad},
        {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
    ]
    scripted.script = (200, {"model_version_status": rows})  # type: ignore[attr-defined]
    seen = client(scripted).look()
    assert seen.versions[8] == VersionState(state="END", error="DATA_LOSS: not an sstable")
    assert seen.is_available(7)
    assert not seen.is_available(8)
    assert seen.held == {7}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param(
            (400, {"error": "uninitialized value"}), "answered 400: uninitialized value", id="an error"
        ),
        pytest.param((200, {"predictions": [[0.1]]}), "without names and scores", id="another signature"),
        pytest.param(
            (200, {"predictions": [{"names": ["a"], "scores": []}]}), "1 names and 0 scores", id="uneven"
        ),
    ],
)
def test_an_answer_that_is_none_is_told_in_the_servers_words(
    scripted: HTTPServer, script: tuple[int, Any], said: str
):
    scripted.script = script  # type: ignore[attr-defined]
    with pytest.raises(ModelServerError, match=said):
        client(scripted).answer(7, "aGk=")


def test_a_version_that_is_not_live_has_no_series():
    assert b"\nmodel_sync_live_version " not in Numbers().page()
    assert b"\nmodel_sync_live_version 7.0" in Numbers(live_version=7).page()
    assert b"model_sync_golden_mismatches_total 0.0" in Numbers().page()
    assert b"model_sync_errors_total 0.0" in Numbers().page()
