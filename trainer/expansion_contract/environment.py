"""The environment variables and names by which the operator's manifests and our containers find each other.

Paths reach a container only through its arguments and these variables, so that it also runs where it cannot mount anything.
"""

from collections.abc import Mapping

from expansion_contract.resource import Addressing, Checksums
from expansion_contract.run import StorageAccess

ENDPOINT_URL = "EXPANSION_ENDPOINT_URL"
REGION = "EXPANSION_REGION"
ADDRESSING = "EXPANSION_ADDRESSING"
CHECKSUMS = "EXPANSION_CHECKSUMS"
CA_BUNDLE = "AWS_CA_BUNDLE"
"""A file; boto3 reads the variable itself. The keys come as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY from the Secret."""
SCRATCH = "EXPANSION_SCRATCH"
"""The only folder a container may write to."""
TERMINATION_LOG = "EXPANSION_TERMINATION_LOG"
"""Where the trainer leaves its last words for the pod's status."""

OUTPUT = "EXPANSION_OUTPUT"
"""spec.output.models, for model-sync."""
MODEL_NAME = "EXPANSION_MODEL_NAME"
MODELS_FOLDER = "EXPANSION_MODELS"
"""Shared by model-sync and the model server."""
MODEL_SERVER = "EXPANSION_MODEL_SERVER"
"""Base address of the model server's REST interface."""
BIND = "EXPANSION_BIND"
"""The address our servers listen on; default 0.0.0.0."""

MODEL_CONFIG_FILE = "models.config"
"""Below MODELS_FOLDER; written by model-sync, read by the model server."""
MONITORING_CONFIG_FILE = "monitoring.config"
"""Beside it and written by model-sync too; it turns the model server's Prometheus metrics on."""
GRPC_PORT = 8500
REST_PORT = 8501
AGENT_PORT = 8502
"""model-sync: /started, /ready, /status, /metrics."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "classifier-expansion"
COMPONENT_LABEL = "app.kubernetes.io/component"
NAME_LABEL = "classifierexpansion.dev/name"
RUN_LABEL = "classifierexpansion.dev/run"
ASKED_ANNOTATION = "classifierexpansion.dev/asked"
"""On a Job: a digest of the parts of the spec that it was made from and that are not in its run's id."""
LIMITS_ANNOTATION = "classifierexpansion.dev/limits"
"""On a Job: what the spec says of how long and how often it may try. An edit reaches the Job that is there."""
TRAINER = "trainer"
MODEL_SERVER_COMPONENT = "model-server"
MODEL_SYNC = "model-sync"


def of_storage(access: StorageAccess) -> dict[str, str]:
    return {
        ENDPOINT_URL: access.endpoint_url,
        REGION: access.region,
        ADDRESSING: access.addressing.value,
        CHECKSUMS: access.checksums.value,
    }


def storage_access(environment: Mapping[str, str]) -> StorageAccess:
    """The way to storage as `of_storage` wrote it; without variables, Amazon's."""
    return StorageAccess(
        endpoint_url=environment.get(ENDPOINT_URL, ""),
        region=environment.get(REGION, ""),
        addressing=Addressing(environment.get(ADDRESSING) or Addressing.PATH),
        checksums=Checksums(environment.get(CHECKSUMS) or Checksums.WHEN_REQUIRED),
    )
