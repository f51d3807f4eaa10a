"""The training Job as Kubernetes and its admission will read it."""

import json
from typing import Any

import contract_values
import pytest
from kubernetes import client
from operator_values import RUN, SETTINGS
from pod_security import violations

from expansion_contract import environment
from expansion_contract.resource import MAX_NAME
from expansion_operator.manifests.job import training_job


def made(name: str = "flowers", **spec: Any) -> dict[str, Any]:
    return training_job(contract_values.expansion(name, **spec), RUN, SETTINGS)


def pod(**spec: Any) -> dict[str, Any]:
    return dict(made(**spec)["spec"]["template"]["spec"])


def trainer(**spec: Any) -> dict[str, Any]:
    (container,) = pod(**spec)["containers"]
    return dict(container)


def variables(**spec: Any) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in trainer(**spec)["env"]}


def test_the_job_is_named_by_its_run_and_fits_the_longest_name() -> None:
    assert made()["metadata"]["name"] == f"flowers-{RUN[:10]}"
    longest = made("f" * MAX_NAME)["metadata"]["name"]
    assert len(f"{longest}-xxxxx") <= 63


def test_kubernetes_own_types_take_the_manifest() -> None:
    spec = {"storage": {"secretName": "keys", "caSecretName": "ca"}}
    api = client.ApiClient()
    job = api.deserialize(json.dumps(made(**spec)), "V1Job", "application/json")
    assert api.sanitize_for_serialization(job) == made(**spec)


def test_the_job_belongs_to_its_resource() -> None:
    (owner,) = made()["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "classifierexpansion.dev/v1alpha1",
        "kind": "ClassifierExpansion",
        "name": "flowers",
        "uid": "u1",
        "controller": True,
        "blockOwnerDeletion": True,
    }


def test_only_our_labels_are_on_the_job_never_the_parents() -> None:
    body = contract_values.body()
    body["metadata"] |= {"labels": {"app.kubernetes.io/instance": "argo"}, "annotations": {"a": "b"}}
    job = training_job(contract_values.parsed(body), RUN, SETTINGS)
    ours = {
        "app.kubernetes.io/managed-by": "classifier-expansion",
        "app.kubernetes.io/component": "trainer",
        "classifierexpansion.dev/name": "flowers",
        "classifierexpansion.dev/run": RUN,
    }
    assert job["metadata"]["labels"] == ours
    assert job["spec"]["template"]["metadata"] == {"labels": ours}
    assert set(job["metadata"]["annotations"]) == {
        environment.ASKED_ANNOTATION,
        environment.LIMITS_ANNOTATION,
    }


def test_the_trainer_is_told_where_its_run_lies() -> None:
    assert trainer()["args"] == ["--run", f"s3://models/flowers/runs/{RUN}/run.json"]
    assert (trainer()["name"], trainer()["image"]) == ("trainer", "registry.example/trainer:1")
    assert "command" not in trainer()


def test_gpus_stand_in_limits_and_requests_under_the_resources_name() -> None:
    resources = trainer(compute={"gpusPerWorker": 2, "gpuResource": "amd.com/gpu"})["resources"]
    assert resources["limits"]["amd.com/gpu"] == resources["requests"]["amd.com/gpu"] == "2"
    assert resources["limits"]["memory"] == "8Gi"


def test_without_gpus_none_is_asked_for() -> None:
    resources = trainer(compute={"gpusPerWorker": 0})["resources"]
    assert not [name for values in resources.values() for name in values if "/" in name]


def test_permanent_exit_codes_fail_the_job_at_once_and_disruptions_cost_nothing() -> None:
    spec = made()["spec"]
    fail, ignore = spec["podFailurePolicy"]["rules"]
    assert fail == {
        "action": "FailJob",
        "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [10, 11, 12, 13, 14, 15, 16]},
    }
    assert ignore == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert (spec["podReplacementPolicy"], pod()["restartPolicy"]) == ("Failed", "Never")


def test_the_limits_of_the_spec_are_the_jobs() -> None:
    spec = made(compute={"backoffLimit": 5, "activeDeadlineSeconds": 7200})["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (5, 7200)


def test_what_kueue_owns_is_never_set() -> None:
    assert "suspend" not in made()["spec"]
    assert not {"nodeSelector", "tolerations"} & set(pod())


def test_the_pod_template_of_the_spec_is_merged_and_cannot_take_our_labels() -> None:
    template = {
        "labels": {"team": "bees", "classifierexpansion.dev/run": "forged"},
        "annotations": {"sidecar.istio.io/inject": "false"},
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "batch",
        "runtimeClassName": "nvidia",
        "imagePullSecrets": ["registry"],
        "resources": {"requests": {"cpu": "8"}, "limits": {"memory": "32Gi"}},
    }
    job = made(compute={"podTemplate": template})
    metadata, spec = job["spec"]["template"]["metadata"], job["spec"]["template"]["spec"]
    assert metadata["labels"]["team"] == "bees"
    assert metadata["labels"][environment.RUN_LABEL] == RUN
    assert metadata["annotations"] == {"sidecar.istio.io/inject": "false"}
    assert spec["nodeSelector"] == {"gpu": "h100"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("batch", "nvidia")
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    resources = spec["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "8", "nvidia.com/gpu": "1"}
    assert resources["limits"] == {"memory": "32Gi", "nvidia.com/gpu": "1"}


def test_keys_come_from_the_secret_only_if_there_is_one() -> None:
    assert "envFrom" not in trainer()
    assert trainer(storage={"secretName": "keys"})["envFrom"] == [{"secretRef": {"name": "keys"}}]


def test_a_private_authority_is_mounted_and_named() -> None:
    storage = {"caSecretName": "authority"}
    (mount,) = [m for m in trainer(storage=storage)["volumeMounts"] if m["name"] == "ca"]
    (volume,) = [v for v in pod(storage=storage)["volumes"] if v["name"] == "ca"]
    assert variables(storage=storage)["AWS_CA_BUNDLE"] == f"{mount['mountPath']}/ca.crt"
    assert volume["secret"]["secretName"] == "authority"
    assert mount["readOnly"]
    assert "AWS_CA_BUNDLE" not in variables()


def test_the_way_to_storage_is_read_back_as_it_was_written() -> None:
    storage = {"endpointUrl": "https://minio:9000", "region": "eu-1", "checksums": "WhenSupported"}
    access = environment.storage_access(variables(storage=storage))
    assert (access.endpoint_url, access.region, access.checksums) == (
        "https://minio:9000",
        "eu-1",
        "WhenSupported",
    )


@pytest.mark.parametrize("name", ["HOME", "TMPDIR", "KERAS_HOME", "EXPANSION_SCRATCH"])
def test_everything_that_is_written_goes_to_the_one_folder_that_can_be_written(name: str) -> None:
    (scratch,) = [m["mountPath"] for m in trainer()["volumeMounts"] if m["name"] == "scratch"]
    assert variables()[name].startswith(scratch)
    assert {"name": "scratch", "emptyDir": {}} in pod()["volumes"]


def test_last_words_are_kept_even_if_the_trainer_had_none() -> None:
    assert trainer()["terminationMessagePath"] == variables()["EXPANSION_TERMINATION_LOG"]
    assert trainer()["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_the_trainer_has_no_kubernetes_token_and_is_restricted() -> None:
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["enableServiceLinks"] is False
    assert violations(pod()) == []
    assert trainer()["securityContext"]["readOnlyRootFilesystem"] is True
