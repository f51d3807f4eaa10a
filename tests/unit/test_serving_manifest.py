"""The model servers' Deployment and Service as Kubernetes will read them."""

import json
from typing import Any

import contract_values
import pytest
from kubernetes import client
from operator_values import SETTINGS
from pod_security import violations

from expansion_contract import environment
from expansion_operator.manifests.serving import deployment, service


def made(**spec: Any) -> dict[str, Any]:
    return deployment(contract_values.expansion(**spec), SETTINGS)


def pod(**spec: Any) -> dict[str, Any]:
    return dict(made(**spec)["spec"]["template"]["spec"])


def model_server(**spec: Any) -> dict[str, Any]:
    (container,) = pod(**spec)["containers"]
    return dict(container)


def model_sync(**spec: Any) -> dict[str, Any]:
    (container,) = pod(**spec)["initContainers"]
    return dict(container)


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


@pytest.mark.parametrize(
    ("manifest", "kind"),
    [
        (made(storage={"secretName": "keys", "caSecretName": "ca"}), "V1Deployment"),
        (service(contract_values.expansion()), "V1Service"),
    ],
)
def test_kubernetes_own_types_take_the_manifest(manifest: dict[str, Any], kind: str) -> None:
    api = client.ApiClient()
    parsed = api.deserialize(json.dumps(manifest), kind, "application/json")
    assert api.sanitize_for_serialization(parsed) == manifest


def test_both_have_the_name_by_which_they_are_found_and_belong_to_the_resource() -> None:
    for manifest in (made(), service(contract_values.expansion())):
        assert manifest["metadata"]["name"] == "flowers-serving"
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("u1", True, True)


def test_the_manifest_knows_no_version_so_publishing_restarts_nothing() -> None:
    """It is a function of the resource's name, spec and the installation; status is no argument that matters."""
    served = contract_values.expansion()
    status = served.status.model_copy(update={"phase": "Ready"})
    assert deployment(served.model_copy(update={"status": status}), SETTINGS) == made()


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"acceptance": {"minimumAccuracy": 0.9}}, id="threshold"),
        pytest.param({"retrain": {"revision": 7}}, id="revision"),
        pytest.param({"suspend": True}, id="suspend"),
        pytest.param({"training": {"seed": 3}}, id="training"),
    ],
)
def test_an_edit_that_does_not_concern_serving_restarts_nothing(spec: dict[str, Any]) -> None:
    assert made(**spec) == made()


def test_scaling_does_not_touch_the_pods() -> None:
    assert made(serving={"replicas": 5})["spec"]["replicas"] == 5
    assert made(serving={"replicas": 5})["spec"]["template"] == made()["spec"]["template"]
    assert made(serving={"replicas": 0})["spec"]["replicas"] == 0


def test_a_number_of_replicas_that_is_left_out_is_left_to_others() -> None:
    assert "replicas" not in made(serving={"replicas": None})["spec"]


def test_a_rollout_never_goes_below_what_is_wanted() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert made()["spec"]["strategy"] == rolling


def test_the_service_finds_the_pods_and_all_three_ports() -> None:
    wanted = service(contract_values.expansion())["spec"]
    labels = made()["spec"]["template"]["metadata"]["labels"]
    assert made()["spec"]["selector"]["matchLabels"] == labels == wanted["selector"]
    ports = {port["name"]: port["port"] for port in wanted["ports"]}
    assert ports == {"http": 8501, "grpc": 8500, "agent": 8502}
    named = {p["name"]: p["containerPort"] for c in (model_server(), model_sync()) for p in c["ports"]}
    assert ports == named == {port["targetPort"]: port["port"] for port in wanted["ports"]}


def test_the_agent_is_a_native_sidecar_and_the_pod_is_ready_by_its_word() -> None:
    sync = model_sync()
    assert (sync["name"], sync["image"], sync["restartPolicy"]) == (
        "model-sync",
        "registry.example/model-sync:1",
        "Always",
    )
    assert sync["startupProbe"]["httpGet"] == {"path": "/started", "port": "agent"}
    assert sync["startupProbe"]["failureThreshold"] * sync["startupProbe"]["periodSeconds"] >= 3600
    assert sync["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "agent"}


def test_the_agent_knows_what_to_bring_where_and_whom_to_ask() -> None:
    assert variables(model_sync(storage={"endpointUrl": "https://minio:9000"})) == {
        "POD_IP": "",
        "EXPANSION_BIND": "$(POD_IP)",
        "EXPANSION_OUTPUT": "s3://models/flowers/",
        "EXPANSION_MODEL_NAME": "flowers",
        "EXPANSION_MODELS": "/models",
        "EXPANSION_MODEL_SERVER": "http://$(POD_IP):8501",
        "EXPANSION_ENDPOINT_URL": "https://minio:9000",
        "EXPANSION_ADDRESSING": "Path",
        "EXPANSION_CHECKSUMS": "WhenRequired",
        "HOME": "/scratch",
        "TMPDIR": "/scratch",
        "EXPANSION_SCRATCH": "/scratch",
    }


@pytest.mark.parametrize("container", [model_sync(), model_server()])
def test_the_pods_address_stands_before_what_is_made_of_it(container: dict[str, Any]) -> None:
    assert container["env"][0] == {
        "name": "POD_IP",
        "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
    }


def test_only_the_agent_has_the_keys() -> None:
    storage = {"secretName": "keys", "caSecretName": "authority"}
    assert model_sync(storage=storage)["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert variables(model_sync(storage=storage))["AWS_CA_BUNDLE"] == "/etc/expansion/ca/ca.crt"
    assert "envFrom" not in model_server(storage=storage)
    assert "ca" not in [mount["name"] for mount in model_server(storage=storage)["volumeMounts"]]


def test_the_model_server_reads_what_the_agent_writes() -> None:
    server = model_server(serving={"image": "tensorflow/serving:2.20.0"})
    assert (server["name"], server["image"]) == ("model-server", "tensorflow/serving:2.20.0")
    assert server["command"] == ["/usr/bin/tensorflow_model_server"]
    flags = dict(flag.removeprefix("--").split("=") for flag in server["args"])
    assert (flags["port"], flags["rest_api_port"]) == ("8500", "8501")
    assert flags["model_config_file"] == f"/models/{environment.MODEL_CONFIG_FILE}"
    assert flags["monitoring_config_file"] == f"/models/{environment.MONITORING_CONFIG_FILE}"
    assert int(flags["model_config_file_poll_wait_seconds"]) > 0
    shared = {"name": "models", "mountPath": "/models"}
    assert shared in server["volumeMounts"]
    assert shared in model_sync()["volumeMounts"]


def test_the_model_server_is_ready_when_a_model_answers() -> None:
    """/v1/models/<name> answers 200 in any state, its metadata only when a version is available."""
    probe = model_server()["readinessProbe"]
    assert probe["httpGet"] == {"path": "/v1/models/flowers/metadata", "port": "http"}
    assert "livenessProbe" not in model_server()


def test_a_pod_that_ends_answers_until_the_endpoints_know() -> None:
    sleep = model_server()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep == 5
    assert pod()["terminationGracePeriodSeconds"] > sleep


def test_the_resources_of_the_spec_are_the_model_servers() -> None:
    resources = {"requests": {"cpu": "2"}, "limits": {"memory": "9Gi"}}
    assert model_server(serving={"resources": resources})["resources"] == resources
    assert model_sync(serving={"resources": resources}) == model_sync()


def test_the_pod_is_restricted_and_has_no_token() -> None:
    spec = pod(storage={"secretName": "keys", "caSecretName": "authority"})
    assert violations(spec) == []
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in (model_sync(), model_server()))


def test_a_private_registry_serves_both_kinds_of_pods() -> None:
    compute = {"podTemplate": {"imagePullSecrets": ["registry"]}}
    assert pod(compute=compute)["imagePullSecrets"] == [{"name": "registry"}]
    assert "imagePullSecrets" not in pod()


def test_a_server_that_handles_no_signals_still_hears_sigterm():
    assert pod()["shareProcessNamespace"] is True
