"""The Job that trains one run. It is created once and never applied again: its template is immutable and may be Kueue's.

Only its limits may be edited while it is there.
"""

from typing import Any

from expansion_contract import environment, layout
from expansion_contract.exit_codes import PERMANENT
from expansion_contract.resource import ClassifierExpansion, Compute
from expansion_operator.asked import asked, limits, written
from expansion_operator.manifests import pod
from expansion_operator.observed import Settings
from expansion_operator.queueing import QUEUE_LABEL

Body = dict[str, Any]

TERMINATION_LOG = "/dev/termination-log"
GRACE_SECONDS = 60
"""From SIGTERM to SIGKILL: enough to write the segment of bottlenecks at hand."""


def training_job(expansion: ClassifierExpansion, run_id: str, settings: Settings) -> Body:
    compute = expansion.spec.compute
    labels = {**pod.labels(expansion, environment.TRAINER), environment.RUN_LABEL: run_id}
    # All there is to queueing: Kueue's webhook suspends the Job, and from then on suspend and placement are Kueue's.
    queue = {QUEUE_LABEL: compute.queue_name} if compute.queue_name else {}
    name = pod.job_name(expansion.metadata.name, run_id)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **pod.metadata(expansion, name, {**labels, **queue}),
            "annotations": {
                environment.ASKED_ANNOTATION: asked(expansion),
                **_limits_annotation(limits(expansion)),
            },
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            **limits(expansion),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": _template(expansion, run_id, labels, settings),
        },
    }


def other_limits(asked_for: dict[str, int]) -> Body:
    """A merge patch."""
    return {"metadata": {"annotations": _limits_annotation(asked_for)}, "spec": asked_for}


def _limits_annotation(asked_for: dict[str, int]) -> dict[str, str]:
    return {environment.LIMITS_ANNOTATION: written(asked_for)}


def _failure_rules() -> list[Body]:
    """What fails again with the same inputs ends the Job; an eviction or a drained node costs no attempt."""
    permanent = {
        "containerName": environment.TRAINER,
        "operator": "In",
        "values": [int(code) for code in PERMANENT],
    }
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    return [
        {"action": "FailJob", "onExitCodes": permanent},
        {"action": "Ignore", "onPodConditions": [disrupted]},
    ]


def _template(
    expansion: ClassifierExpansion, run_id: str, labels: dict[str, str], settings: Settings
) -> Body:
    template = expansion.spec.compute.pod_template
    metadata: Body = {"labels": {**template.labels, **labels}}
    if template.annotations:
        metadata["annotations"] = template.annotations
    return {
        "metadata": metadata,
        "spec": {
            **pod.restricted_pod(),
            **pod.pull_secrets(expansion),
            **_placement(expansion.spec.compute),
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "containers": [_trainer(expansion, run_id, settings)],
            "volumes": [pod.scratch_volume(), *pod.ca_volumes(expansion.spec.storage)],
        },
    }


def _placement(compute: Compute) -> Body:
    template = compute.pod_template
    wanted = {
        "nodeSelector": template.node_selector,
        "tolerations": [toleration.to_wire() for toleration in template.tolerations],
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
    }
    return {field: value for field, value in wanted.items() if value}


def _trainer(expansion: ClassifierExpansion, run_id: str, settings: Settings) -> Body:
    storage = expansion.spec.storage
    return {
        "name": environment.TRAINER,
        "image": settings.trainer_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["--run", run_document(expansion, run_id)],
        "env": _variables(expansion),
        **pod.keys(storage),
        "resources": _resources(expansion.spec.compute),
        "securityContext": pod.restricted_container(),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [pod.scratch_mount(), *pod.ca_mounts(storage)],
    }


def run_document(expansion: ClassifierExpansion, run_id: str) -> str:
    return f"{expansion.spec.output.models.rstrip('/')}/{layout.run(run_id, layout.RUN)}"


def _variables(expansion: ClassifierExpansion) -> list[Body]:
    own = {environment.TERMINATION_LOG: TERMINATION_LOG, "KERAS_HOME": f"{pod.SCRATCH}/keras"}
    return [*pod.storage_variables(expansion), *pod.scratch_variables(), *pod.variables(**own)]


def _resources(compute: Compute) -> Body:
    """GPUs stand in limits and requests: an extended resource must be the same in both."""
    wanted = compute.pod_template.resources
    gpus = {compute.gpu_resource: str(compute.gpus_per_worker)} if compute.gpus_per_worker > 0 else {}
    return {"requests": {**wanted.requests, **gpus}, "limits": {**wanted.limits, **gpus}}
