"""The Deployment and the Service of the model servers.

No version stands in them: publishing changes serving.json, which model-sync reads, and restarts nothing.
"""

from typing import Any

from expansion_contract import environment
from expansion_contract.resource import ClassifierExpansion
from expansion_operator.manifests import pod
from expansion_operator.observed import Settings

Body = dict[str, Any]

MODELS = "/models"
POLL_SECONDS = 2
"""How often the model server reads its config again; model-sync changes it only when a version is complete."""
START_SECONDS = 3600
"""A model of gigabytes may take this long to arrive before the model server starts."""
PROBE_SECONDS = 5
DRAIN_SECONDS = 5
"""Endpoints hear of a pod's end later than the pod does; until then it goes on answering."""
GRACE_SECONDS = 60


def deployment(expansion: ClassifierExpansion, settings: Settings) -> Body:
    labels = pod.labels(expansion, environment.MODEL_SERVER_COMPONENT)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": pod.metadata(expansion, pod.serving_name(expansion.metadata.name), labels),
        "spec": {
            **_replicas(expansion),
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels}, "spec": _pod(expansion, settings)},
        },
    }


def _replicas(expansion: ClassifierExpansion) -> Body:
    """Nothing where others decide: what is not applied is not ours, and stays as they set it."""
    given = expansion.spec.serving.replicas
    return {} if given is None else {"replicas": given}


def service(expansion: ClassifierExpansion) -> Body:
    labels = pod.labels(expansion, environment.MODEL_SERVER_COMPONENT)
    ports = {
        "http": environment.REST_PORT,
        "grpc": environment.GRPC_PORT,
        "agent": environment.AGENT_PORT,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": pod.metadata(expansion, pod.serving_name(expansion.metadata.name), labels),
        "spec": {
            "selector": labels,
            "ports": [
                {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
                for name, port in ports.items()
            ],
        },
    }


def _pod(expansion: ClassifierExpansion, settings: Settings) -> Body:
    return {
        **pod.restricted_pod(),
        **pod.pull_secrets(expansion),
        # As process 1 of its own container a server without a handler would never hear SIGTERM, and end with the grace period.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "initContainers": [_model_sync(expansion, settings)],
        "containers": [_model_server(expansion)],
        "volumes": [
            {"name": "models", "emptyDir": {}},
            pod.scratch_volume(),
            *pod.ca_volumes(expansion.spec.storage),
        ],
    }


def _model_sync(expansion: ClassifierExpansion, settings: Settings) -> Body:
    """A native sidecar: the model server starts when it has brought the current version, and ends before it."""
    storage = expansion.spec.storage
    return {
        "name": environment.MODEL_SYNC,
        "image": settings.model_sync_image,
        "imagePullPolicy": settings.image_pull_policy,
        "restartPolicy": "Always",
        "env": [*_address(), *_sync_variables(expansion)],
        **pod.keys(storage),
        "ports": [_port("agent", environment.AGENT_PORT)],
        "startupProbe": {
            **_probe("/started", "agent"),
            "failureThreshold": START_SECONDS // PROBE_SECONDS,
        },
        "readinessProbe": _probe("/ready", "agent"),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": pod.restricted_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [_models_mount(), pod.scratch_mount(), *pod.ca_mounts(storage)],
    }


def _model_server(expansion: ClassifierExpansion) -> Body:
    serving, name = expansion.spec.serving, expansion.metadata.name
    return {
        "name": environment.MODEL_SERVER_COMPONENT,
        "image": serving.image,
        "command": ["/usr/bin/tensorflow_model_server"],
        "args": _flags(),
        "env": [*_address(), *pod.scratch_variables()],
        "ports": [_port("http", environment.REST_PORT), _port("grpc", environment.GRPC_PORT)],
        "readinessProbe": _probe(f"/v1/models/{name}/metadata", "http"),
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "resources": {"requests": serving.resources.requests, "limits": serving.resources.limits},
        "securityContext": pod.restricted_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [_models_mount(), pod.scratch_mount()],
    }


def _flags() -> list[str]:
    """One load thread, so that a version that does not load never holds up its successor; retries are model-sync's."""
    return [
        f"--port={environment.GRPC_PORT}",
        f"--rest_api_port={environment.REST_PORT}",
        f"--model_config_file={MODELS}/{environment.MODEL_CONFIG_FILE}",
        f"--model_config_file_poll_wait_seconds={POLL_SECONDS}",
        f"--monitoring_config_file={MODELS}/{environment.MONITORING_CONFIG_FILE}",
        "--num_load_threads=1",
        "--num_unload_threads=1",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=2000000",
    ]


def _address() -> list[Body]:
    """POD_IP first: Kubernetes expands only what stands before."""
    pod_ip = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return [pod_ip, *pod.variables(**{environment.BIND: "$(POD_IP)"})]


def _sync_variables(expansion: ClassifierExpansion) -> list[Body]:
    own = {
        environment.OUTPUT: expansion.spec.output.models,
        environment.MODEL_NAME: expansion.metadata.name,
        environment.MODELS_FOLDER: MODELS,
        environment.MODEL_SERVER: f"http://$(POD_IP):{environment.REST_PORT}",
    }
    return [*pod.variables(**own), *pod.storage_variables(expansion), *pod.scratch_variables()]


def _models_mount() -> Body:
    return {"name": "models", "mountPath": MODELS}


def _port(name: str, number: int) -> Body:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _probe(path: str, port: str) -> Body:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": PROBE_SECONDS,
        "timeoutSeconds": PROBE_SECONDS,
    }
