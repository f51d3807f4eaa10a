"""One installation for the whole tier: the chart by helm, an object store with TLS and checked signatures, one expansion of digits.

Any cluster with KUBECONFIG will do, if its nodes have the four images (images.sh) and its pods reach this machine.

  EXPANSION_IMAGE_OPERATOR, _TRAINER, _MODEL_SYNC, _MODEL_SERVER   default localhost/expansion-…:dev
  EXPANSION_S3_HOST    this machine's address as pods see it; default 10.245.0.1 where this machine has it
"""

import os
from collections.abc import Iterator

import pytest
from cluster_digits import put_digits
from cluster_store import Store, serving_store
from cluster_tools import (
    RELEASE,
    SYSTEM,
    VISION,
    Body,
    Images,
    apply,
    install,
    kubectl,
    kubectl_json,
    run,
    wait_for,
)

NAME = "digits"
READY_SECONDS = 600
GPU = "nvidia.com/gpu"
SECRETS = ("--set", f"rbac.secretNamespaces={{{VISION}}}")


@pytest.fixture(scope="session")
def cluster() -> None:
    """Fails, and never skips, where there is no cluster; gives its first node a pretended GPU if none has one."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail(
            "KUBECONFIG is not set. It names the cluster that this tier installs into: kind, k3d or any other will do.",
            pytrace=False,
        )
    nodes = kubectl_json("get", "nodes")["items"]
    if not any(GPU in node["status"]["capacity"] for node in nodes):
        patch = '[{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "1"}]'
        name = nodes[0]["metadata"]["name"]
        kubectl("patch", "node", name, "--subresource=status", "--type=json", "--patch", patch)


@pytest.fixture(scope="session")
def images() -> Images:
    return Images.of(os.environ)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serving_store(tmp_path_factory.mktemp("store"), os.environ.get("EXPANSION_S3_HOST")) as running:
        put_digits(running.s3, "photos", "digits/")
        running.s3.create_bucket(Bucket="models")
        yield running


@pytest.fixture(scope="session")
def release(cluster: None, images: Images) -> Iterator[str]:
    """The chart as a user installs it, in a namespace that admits only restricted pods."""
    namespace(SYSTEM)
    namespace(VISION)
    try:
        install(images, *SECRETS)
        yield RELEASE
    finally:
        run("helm", "uninstall", RELEASE, "--namespace", SYSTEM, "--ignore-not-found", "--wait")
        kubectl("delete", "crd", "classifierexpansions.classifierexpansion.dev", "--ignore-not-found")
        kubectl("delete", "namespace", SYSTEM, VISION, "--ignore-not-found", seconds=180)


@pytest.fixture(scope="session")
def vision(release: str, store: Store) -> str:
    """The namespace of a team, with the Secrets that its resources name."""
    apply(store.keys_secret("s3-credentials", VISION), store.authority_secret("s3-authority", VISION))
    return VISION


def namespace(name: str) -> None:
    restricted = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    }
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted}})


@pytest.fixture(scope="session")
def expansion(vision: str, store: Store, images: Images) -> Body:
    """Digits beside the thousand categories of ImageNet: a small, quick, real expansion."""
    return digits(NAME, store, images)


@pytest.fixture(scope="session")
def ready(expansion: Body) -> str:
    """Trained by a Job with a GPU, published, served: what `kubectl wait` waits for."""
    apply(expansion)
    wait_for("Ready", NAME, READY_SECONDS)
    return NAME


def digits(name: str, store: Store, images: Images) -> Body:
    small = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}}
    return {
        "apiVersion": "classifierexpansion.dev/v1alpha1",
        "kind": "ClassifierExpansion",
        "metadata": {"name": name, "namespace": VISION},
        "spec": {
            "base": {"pretrained": {"architecture": "EfficientNetLite0", "weights": {"name": "imagenet"}}},
            "categories": {"images": "s3://photos/digits/"},
            "acceptance": {"minimumNewCategoryAccuracy": 0.5, "maximumBaseAccuracyDrop": 0.05},
            "compute": {"gpusPerWorker": 1, "podTemplate": {"resources": small}},
            "output": {"models": f"s3://models/{name}/"},
            "serving": {"replicas": 1, "image": images.model_server, "resources": small},
            "storage": {
                "secretName": "s3-credentials",
                "caSecretName": "s3-authority",
                "endpointUrl": store.endpoint,
            },
        },
    }
