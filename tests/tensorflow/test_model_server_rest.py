"""The REST interface of the stand-in, as a client sees it: TensorFlow Serving's answers, each test with its source.

Paths are below tensorflow_serving/ in github.com/tensorflow/serving.
"""

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_processes import (
    REST_PORT,
    Running,
    ask,
    model_server,
    own_address,
    rest,
    running,
    tiny_classifier,
    until,
)

pytestmark = pytest.mark.tensorflow


def calculator(folder: Path) -> None:
    """Signatures for every shape of question."""
    import tensorflow as tf

    module = tf.Module()
    module.half = tf.Variable(0.5)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half_plus_three(x):
        return {"y": module.half * x + 3.0}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int64, name="a"),
            tf.TensorSpec([None], tf.string, name="b"),
        ]
    )
    def pair(a, b):
        return {"sums": tf.reduce_sum(a, axis=1), "raw_bytes": b}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def uneven(x):
        return {"labels": tf.constant(["a", "b", "c"]), "y": x}

    signatures = {"serving_default": half_plus_three, "pair": pair, "uneven": uneven}
    tf.saved_model.save(module, str(folder), signatures=signatures)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    calculator(folder / "calc" / "00000123")
    tiny_classifier(folder / "flowers" / "1", ["daisy", "rose"])
    return folder


def config(folder: Path, *versions: int, name: str = "calc", labels: str = "") -> str:
    named = " ".join(f"versions: {version}" for version in versions)
    return (
        f'config {{ name: "{name}" base_path: "{folder}" model_platform: "tensorflow"'
        f" model_version_policy {{ specific {{ {named} }} }} {labels} }}"
    )


def write(file: Path, *configs: str) -> None:
    partial = file.with_suffix(".new")
    partial.write_text(f"model_config_list {{ {' '.join(configs)} }}")
    partial.replace(file)


@pytest.fixture(scope="module")
def host(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, host = tmp_path_factory.mktemp("server"), own_address()
    write(folder / "config", config(models / "calc", 123), config(models / "flowers", 1, name="flowers"))
    (folder / "monitoring").write_text('prometheus_config { enable: true path: "/metrics-here" }')
    flags = [f"--model_config_file={folder / 'config'}", f"--monitoring_config_file={folder / 'monitoring'}"]
    with model_server(host, folder / "log", *flags):
        until(lambda: listens(host), "listening")
        yield host


def listens(host: str) -> bool:
    try:
        return bool(rest(host, "/v1/models/any")[0])
    except OSError:
        return False


CALC = "/v1/models/calc:predict"


def pair(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"signature_name": "pair", "instances": list(rows)}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param({"instances": [1.0, 2.0, 5.0]}, {"predictions": [3.5, 4.0, 5.5]}, id="rows, one input"),
        pytest.param({"instances": [{"x": 1}, {"x": 2}]}, {"predictions": [3.5, 4.0]}, id="rows, named"),
        pytest.param({"inputs": [1.0, 2]}, {"outputs": [3.5, 4.0]}, id="columns, one input"),
        pytest.param({"inputs": {"x": [1.0]}}, {"outputs": [3.5]}, id="columns, named"),
        pytest.param(
            pair({"a": [1, 2], "b": {"b64": "AP8="}}, {"a": [3, 4], "b": "text"}),
            {
                "predictions": [
                    {"raw_bytes": {"b64": "AP8="}, "sums": 3},
                    {"raw_bytes": {"b64": "dGV4dA=="}, "sums": 7},
                ]
            },
            id="several inputs and outputs",
        ),
        pytest.param(
            {"signature_name": "pair", "inputs": {"a": [[1, 2]], "b": ["t"]}},
            {"outputs": {"raw_bytes": [{"b64": "dA=="}], "sums": [3]}},
            id="several columns",
        ),
        pytest.param(
            {"signature_name": "uneven", "inputs": [1.0]},
            {"outputs": {"labels": ["a", "b", "c"], "y": [1.0]}},
            id="columns may differ in length",
        ),
    ],
)
def test_predictions_come_in_the_format_they_were_asked_in(host: str, body: object, answer: object):
    """util/json_tensor.cc; model_servers/tensorflow_model_server_test.py: testPredictREST, testPredictColumnarREST."""
    assert rest(host, CALC, body) == (200, answer)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param({}, "Missing 'inputs' or 'instances' key", id="no key"),
        pytest.param(
            {"instances": [1], "inputs": [1]}, "expecting only one of 'inputs' or 'instances'", id="both"
        ),
        pytest.param({"instances": []}, "No values in 'instances' array", id="empty"),
        pytest.param({"instances": 1}, "Expecting 'instances' to be an list/array", id="no list"),
        pytest.param({"instances": ["a"]}, "Type: String is not of expected type: float", id="a string"),
        pytest.param({"instances": [{"z": 1}]}, "does not have named input: z", id="unknown input"),
        pytest.param({"instances": [1.0, [1.0]]}, "Expecting shape [] but got: [1]", id="ragged"),
        pytest.param(pair({"a": [1]}), "keys must be equal to: a,b", id="an input missing"),
        pytest.param(
            pair({"a": [1.5], "b": "x"}), "is not of expected type: int64", id="a float for an integer"
        ),
        pytest.param(pair({"a": [1], "b": {"b64": "!"}}), "Unable to base64 decode", id="not base64"),
        pytest.param(
            pair({"a": [1], "b": {"b64": "AA==", "c": 1}}),
            "not formatted correctly for base64",
            id="b64 and more",
        ),
        pytest.param(
            {"signature_name": "other", "instances": [1]},
            'Serving signature name: "other" not found in signature def',
            id="no such signature",
        ),
        pytest.param(
            {"signature_name": 1}, "'signature_name' key must be a string value", id="signature no text"
        ),
        pytest.param(
            {"signature_name": "uneven", "instances": [1.0]},
            "inconsistent batch size: ",
            id="rows of different number",
        ),
    ],
)
def test_a_request_that_cannot_be_understood_is_400_and_says_why(host: str, body: object, said: str):
    """util/json_tensor.cc; model_servers/http_rest_api_handler.cc: GetInfoMap."""
    status, answer = rest(host, CALC, body)
    assert status == 400
    assert said in answer["error"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{]", "JSON Parse error: "),
        (b"[1]", "Is not object"),
    ],
)
def test_a_body_that_is_no_json_object_is_400(host: str, raw: bytes, said: str):
    """util/json_tensor.cc: ParseJson."""
    status, answer = ask(host, REST_PORT, CALC, method="POST", raw=raw)
    assert status == 400
    assert said in answer["error"]


def test_decimals_are_the_shortest_that_give_the_same_number(host: str):
    """util/json_tensor.cc: WriteDecimal."""
    body = {"signature_name": "uneven", "inputs": [0.1, 3, 1e20, 1 / 3, 16777216]}
    connection = ask(host, REST_PORT, CALC, body)
    assert connection[1]["outputs"]["y"] == [0.1, 3.0, 1e20, 0.333333343, 16777216.0]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/models/none:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/calc/versions/9:predict", {"instances": [1]}, 404, "request: Specific(calc, 9)"),
        (
            "/v1/models/calc/labels/x:predict",
            {"instances": [1]},
            400,
            "Unrecognized servable version label: x",
        ),
        (
            "/v1/models/calc:explain",
            {"instances": [1]},
            400,
            "Malformed request: POST /v1/models/calc:explain",
        ),
        ("/v1/models/calc", {"instances": [1]}, 400, "Malformed request: POST /v1/models/calc"),
        ("/v1/models/none", None, 404, "Could not find any versions of model none"),
        ("/v1/models/calc/versions/9", None, 404, "Could not find version 9 of model calc"),
        ("/v1/models/none/metadata", None, 404, "Servable not found for request: Latest(none)"),
        ("/v1/models", None, 400, "Missing model name in request."),
        ("/v1/other", None, 400, "Malformed request: GET /v1/other"),
    ],
)
def test_what_is_not_there_is_told_in_the_documented_words(
    host: str, path: str, body: object, status: int, said: str
):
    """model_servers/{http_rest_api_handler,http_rest_api_util,get_model_status_impl,server_core}.cc, core/basic_manager.cc."""
    answered, answer = rest(host, path, body)
    assert answered == status
    assert said in answer["error"]


def test_paths_that_are_not_the_interface_are_404(host: str):
    """model_servers/http_server.cc: RestApiRequestDispatcher::Dispatch."""
    assert rest(host, "/")[0] == 404
    assert rest(host, "/healthz")[0] == 404


def test_paths_may_be_in_any_case_and_name_a_version(host: str):
    """model_servers/http_rest_api_util.cc: kPredictionApiGegex."""
    assert rest(host, "/V1/Models/calc/Versions/123:PREDICT", {"instances": [1]}) == (
        200,
        {"predictions": [3.5]},
    )


def test_the_status_names_every_version_with_its_state(host: str):
    """model_servers/get_model_status_impl.cc; apis/get_model_status.proto: the version is a string in JSON."""
    ok = {"error_code": "OK", "error_message": ""}
    row = {"version": "123", "state": "AVAILABLE", "status": ok}
    assert rest(host, "/v1/models/calc") == (200, {"model_version_status": [row]})
    assert rest(host, "/v1/models/calc/versions/123") == (200, {"model_version_status": [row]})


def test_the_metadata_show_the_signature(host: str):
    """model_servers/get_model_metadata_impl.cc; model_servers/http_rest_api_util.cc: ToJsonString."""
    status, answer = rest(host, "/v1/models/flowers/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "flowers", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert signature["inputs"]["image_bytes"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert set(signature["outputs"]) == {"names", "scores"}
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_one_bad_example_fails_the_whole_batch(host: str):
    """Batches run as one: tensorflow/core/common_runtime/direct_session.cc through servables/tensorflow/predict_util.cc."""
    body = pair({"a": [1], "b": "x"}, {"a": ["y"], "b": "x"})
    assert rest(host, CALC, body)[0] == 400


def test_requests_are_counted_for_prometheus(host: str):
    """util/prometheus_exporter.cc; model_servers/http_server.cc: names keep their leading colon."""
    rest(host, CALC, {"instances": [1]})
    status, page = rest(host, "/metrics-here")
    assert status == 200
    assert ':tensorflow:serving:request_count{model_name="calc",status="OK"} ' in page
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert rest(host, "/monitoring/prometheus/metrics")[0] == 404


class Reloading:
    """A server of its own whose config and files change."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.host, self.config, self.base = own_address(), folder / "config", folder / "calc"
        self.log = folder / "log"
        self.source = models / "calc" / "00000123"
        self.base.mkdir()

    def add(self, version: int) -> None:
        shutil.copytree(self.source, self.base / f".{version}.tmp")
        (self.base / f".{version}.tmp").rename(self.base / str(version))

    def start(self, *flags: str) -> Any:
        fast = ["--max_num_load_retries=1", "--load_retry_interval_micros=1000"]
        polling = [f"--model_config_file={self.config}", "--model_config_file_poll_wait_seconds=1"]
        return model_server(self.host, self.log, *polling, *fast, *flags)

    def states(self, name: str = "calc") -> dict[str, str]:
        rows = rest(self.host, f"/v1/models/{name}")[1].get("model_version_status", [])
        return {row["version"]: row["state"] for row in rows}

    def until_states(self, **states: str) -> None:
        wanted = {name.removeprefix("v"): state for name, state in states.items()}
        until(lambda: self.states() == wanted, f"states {wanted}")


@pytest.fixture
def server(tmp_path: Path, models: Path) -> Reloading:
    return Reloading(tmp_path, models)


def test_a_changed_config_loads_the_new_before_it_unloads_the_old(server: Reloading):
    """model_servers/tensorflow_model_server_test.py: testModelConfigReload; ended versions stay listed."""
    server.add(7)
    server.add(8)
    write(server.config, config(server.base, 7))
    with server.start():
        until(lambda: listens(server.host), "listening")
        write(server.config, config(server.base, 7, 8))
        server.until_states(v7="AVAILABLE", v8="AVAILABLE")
        write(server.config, config(server.base, 8))
        server.until_states(v7="END", v8="AVAILABLE")
        write(server.config, config(server.base, 7))
        server.until_states(v7="AVAILABLE", v8="END")


def test_a_config_that_cannot_be_parsed_is_logged_and_the_old_one_kept(server: Reloading):
    """model_servers/server.cc: PollFilesystemAndReloadConfig."""
    server.add(7)
    write(server.config, config(server.base, 7))
    with server.start() as process:
        until(lambda: listens(server.host), "listening")
        server.config.write_text("model_config_list {")
        until(lambda: "failed to ReloadConfig" in process.output, "logged")
        assert rest(server.host, CALC, {"instances": [1]}) == (200, {"predictions": [3.5]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("model_config_list {", "Error parsing text-format", id="not parseable"),
        pytest.param(
            'model_config_list { config { name: "a" base_path: "x" } }', "absolute path", id="relative"
        ),
        pytest.param(
            'model_config_list { config { name: "a" base_path: "/x" } }', "model_platform", id="no platform"
        ),
        pytest.param(None, "NOT_FOUND", id="no file"),
    ],
)
def test_a_first_config_that_is_wrong_keeps_the_server_from_starting(
    server: Reloading, text: str | None, said: str
):
    """model_servers/tensorflow_model_server_test.py: testBadModelConfig; model_servers/server_core.cc."""
    if text is not None:
        server.config.write_text(text)
    with server.start() as process:
        assert process.process.wait(timeout=30) == 255
        assert "Failed to start server" in process.output
        assert said in process.output


def test_a_first_model_that_cannot_be_loaded_keeps_the_server_from_starting(server: Reloading):
    """model_servers/server_core.cc: ConnectAdaptersToManagerAndAwaitModelLoads."""
    (server.base / "7").mkdir()
    write(server.config, config(server.base, 7))
    with server.start() as process:
        assert process.process.wait(timeout=30) == 255
        assert "did not become available" in process.output


def test_with_an_empty_list_the_server_starts_at_once_and_takes_models_later(server: Reloading):
    """model_servers/server_core.cc: ReloadConfig."""
    write(server.config)
    with server.start():
        until(lambda: listens(server.host), "listening")
        server.add(7)
        write(server.config, config(server.base, 7))
        server.until_states(v7="AVAILABLE")


def test_a_later_version_that_cannot_be_loaded_ends_with_its_error_and_http_200(server: Reloading):
    """core/loader_harness.cc, core/aspired_versions_manager.cc: after the retries END, and no other try while it is asked for."""
    server.add(7)
    write(server.config, config(server.base, 7))
    with server.start() as process:
        until(lambda: listens(server.host), "listening")
        server.add(8)
        (server.base / "8" / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
        write(server.config, config(server.base, 7, 8))
        server.until_states(v7="AVAILABLE", v8="END")
        status, answer = rest(server.host, "/v1/models/calc/versions/8")
        assert status == 200
        assert answer["model_version_status"][0]["status"]["error_code"] == "OUT_OF_RANGE"
        assert process.output.count("Loading servable version {name: calc version: 8}") == 1


def test_a_base_path_that_becomes_empty_unloads_everything(server: Reloading):
    """sources/storage_path/file_system_storage_path_source.cc: an empty list of versions is passed on."""
    server.add(7)
    write(server.config, f'config {{ name: "calc" base_path: "{server.base}" model_platform: "tensorflow" }}')
    with server.start():
        until(lambda: listens(server.host), "listening")
        assert server.states() == {"7": "AVAILABLE"}
        shutil.rmtree(server.base / "7")
        server.until_states(v7="END")
        assert rest(server.host, CALC, {"instances": [1]})[0] == 404


def test_a_base_path_that_disappears_changes_nothing(server: Reloading):
    """sources/storage_path/file_system_storage_path_source.cc: PollFileSystemForServable."""
    server.add(7)
    write(server.config, f'config {{ name: "calc" base_path: "{server.base}" model_platform: "tensorflow" }}')
    with server.start() as process:
        until(lambda: listens(server.host), "listening")
        server.base.rename(server.base.with_name("away"))
        until(lambda: "Could not find base path" in process.output, "logged")
        assert rest(server.host, CALC, {"instances": [1]})[0] == 200


def test_a_half_copied_version_drives_the_good_one_out(server: Reloading):
    """github.com/tensorflow/serving issue 1086: with the policy `latest` an incomplete folder is available, and useless."""
    server.add(7)
    write(server.config, f'config {{ name: "calc" base_path: "{server.base}" model_platform: "tensorflow" }}')
    with server.start():
        until(lambda: listens(server.host), "listening")
        half = server.base / ".8.tmp"
        half.mkdir()
        shutil.copy(server.source / "saved_model.pb", half)
        half.rename(server.base / "8")
        server.until_states(v7="END", v8="AVAILABLE")
        assert rest(server.host, CALC, {"instances": [1]})[0] == 400


def test_two_names_over_one_folder_are_two_models(server: Reloading):
    """model_servers/server_core.cc: names, not folders, tell models apart; each name has its versions and its highest one."""
    server.add(7)
    server.add(8)
    write(server.config, config(server.base, 7), config(server.base, 8, name="second"))
    with server.start():
        until(lambda: listens(server.host), "listening")
        assert server.states() == {"7": "AVAILABLE"}
        assert server.states("second") == {"8": "AVAILABLE"}
        write(server.config, config(server.base, 7))
        until(lambda: server.states("second") == {"8": "END"}, "the second one unloaded")
        assert server.states() == {"7": "AVAILABLE"}


def test_a_new_name_holds_up_every_later_config_until_it_is_available(server: Reloading):
    """model_servers/server_core.cc: AddModelsViaModelConfigList waits, without a limit, for names the config before did not have."""
    server.add(7)
    write(server.config, config(server.base, 7))
    with server.start() as process:
        until(lambda: listens(server.host), "listening")
        write(server.config, config(server.base, 7), config(server.base, 9, name="second"))
        time.sleep(2.5)
        server.add(8)
        write(server.config, config(server.base, 7, 8))
        time.sleep(2.5)
        assert server.states() == {"7": "AVAILABLE"}
        server.add(9)
        server.until_states(v7="AVAILABLE", v8="AVAILABLE")
        assert process.output.count("version: 9}") >= 2


def test_a_name_that_was_gone_is_new_again_and_its_version_is_tried_again(server: Reloading):
    """model_servers/server_core.cc: a fresh state monitor; sources/storage_path: a name that is gone asks for no version."""
    server.add(7)
    server.add(8)
    (server.base / "8" / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    write(server.config, config(server.base, 7))
    with server.start() as process:
        until(lambda: listens(server.host), "listening")
        for attempt in (1, 2):
            write(server.config, config(server.base, 7), config(server.base, 8, name="second"))
            until(
                lambda now=attempt: process.output.count("failed to ReloadConfig") == now,
                "told that it failed",
            )
            assert process.output.count("Loading servable version {name: second version: 8}") == attempt
            write(server.config, config(server.base, 7))
            time.sleep(2.5)


def test_a_label_may_only_point_to_an_available_version(server: Reloading):
    """model_servers/server_core.cc: UpdateModelVersionLabelMap; the new policy is not applied either."""
    server.add(7)
    server.add(8)
    write(server.config, config(server.base, 7))
    label = 'version_labels {{ key: "canary" value: {} }}'
    with server.start() as process:
        until(lambda: listens(server.host), "listening")
        write(server.config, config(server.base, 7, 8, labels=label.format(8)))
        until(lambda: "Request to assign label to version 8" in process.output, "logged")
        assert server.states() == {"7": "AVAILABLE"}
        write(server.config, config(server.base, 7, 8))
        server.until_states(v7="AVAILABLE", v8="AVAILABLE")
        write(server.config, config(server.base, 7, 8, labels=label.format(8)))
        until(
            lambda: rest(server.host, "/v1/models/calc/labels/canary:predict", {"instances": [1]})[0] == 200,
            "labelled",
        )


def start_with(host: str, log: Path, *flags: str) -> Running:
    variables = {"EXPANSION_BIND": host}
    with running("expansion_development.model_server", *flags, variables=variables, log=log) as process:
        assert process.process.wait(timeout=30) == 255
        return process


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--model_config=/x", "unknown argument: --model_config=/x"),
        ("model_config_file", "unknown argument: model_config_file"),
        ("--rest_api_port=many", "Couldn't interpret value many for flag rest_api_port."),
        ("--ssl_config_file=/x", "does not offer"),
    ],
)
def test_flags_that_are_not_known_are_refused(tmp_path: Path, flag: str, said: str):
    """model_servers/main.cc: tensorflow::Flags::Parse; what the stand-in cannot do it says by name."""
    assert said in start_with(own_address(), tmp_path / "log", flag, "--model_base_path=/x").output


def test_the_first_line_says_that_it_is_a_stand_in(tmp_path: Path):
    """Ours."""
    assert start_with(own_address(), tmp_path / "log", "--none").output.startswith(
        "This is a stand-in for TensorFlow Serving, for development and tests only"
    )


def test_it_ends_when_it_is_told_to(server: Reloading):
    """model_servers/main.cc sets no handler: the signal ends it."""
    write(server.config)
    with server.start() as process:
        until(lambda: listens(server.host), "listening")
        assert process.stop(signal.SIGTERM) == -signal.SIGTERM
