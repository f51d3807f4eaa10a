"""What the operator is started with: flags or environment variables, and how it writes its log."""

import argparse
import json
import logging
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from expansion_operator.observed import Settings

SHORTEST_FULL_LOOK = 10


@dataclass(frozen=True, kw_only=True)
class Options:
    settings: Settings
    namespaces: tuple[str, ...]
    metrics_address: tuple[str, int]
    health_address: tuple[str, int]
    workers: int
    full_look_seconds: float
    log_level: str
    lease: tuple[str, str] | None  # namespace and name; None: there is only one operator
    identity: str
    resync: float  # seconds


def options(arguments: list[str], environment: Mapping[str, str]) -> Options:
    """Flags, or the environment: --trainer-image is EXPANSION_TRAINER_IMAGE."""
    given = _parser(environment).parse_args(arguments)
    missing = [
        f"--{name.replace('_', '-')}"
        for name in ("trainer_image", "model_sync_image")
        if not getattr(given, name)
    ]
    if missing:
        _parser(environment).error(f"{' and '.join(missing)}: required")
    namespaces = tuple(name for text in given.namespace or () for name in text.split(",") if name)
    if bool(namespaces) == given.all_namespaces:
        _parser(environment).error("give either --namespace or --all-namespaces")
    return Options(
        settings=Settings(
            trainer_image=given.trainer_image,
            model_sync_image=given.model_sync_image,
            image_pull_policy=given.image_pull_policy,
            cluster_domain=given.cluster_domain,
        ),
        namespaces=namespaces,
        metrics_address=_address(given.metrics_address),
        health_address=_address(given.health_address),
        workers=given.workers,
        full_look_seconds=_full_look(given.full_look_seconds, environment),
        lease=_lease(given.lease, environment),
        identity=given.identity or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}",
        log_level=given.log_level,
        resync=float(given.resync),
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="expansion_operator", description=__doc__)

    def flag(name: str, default: str | None, text: str) -> None:
        variable = f"EXPANSION_{name.upper().replace('-', '_')}"
        parser.add_argument(
            f"--{name}", default=environment.get(variable, default), help=f"{text} [{variable}]"
        )

    flag("trainer-image", None, "image of the training Jobs")
    flag("model-sync-image", None, "image of the agent beside each model server")
    flag("image-pull-policy", "IfNotPresent", "pull policy of both")
    flag("cluster-domain", "cluster.local", "DNS domain of the cluster")
    flag("metrics-address", "0.0.0.0:8080", "where /metrics is served")
    flag("health-address", "0.0.0.0:8081", "where /healthz and /readyz are served")
    flag(
        "lease",
        None,
        "namespace/name of the Lease that one of several operators holds; empty: there is only one",
    )
    flag("identity", None, "who holds the Lease; empty: the host's name and a random part")
    flag("resync", "300", "seconds after which all resources are listed, in case an event was lost")
    flag(
        "full-look-seconds",
        "3600",
        "after which everything about a resource is looked at although no event came",
    )
    flag("log-level", "INFO", "DEBUG, INFO, WARNING or ERROR")
    namespaces = [environment["EXPANSION_NAMESPACE"]] if environment.get("EXPANSION_NAMESPACE") else None
    everywhere = environment.get("EXPANSION_ALL_NAMESPACES", "").lower() == "true"
    parser.add_argument(
        "--namespace", action="append", default=namespaces, help="repeat it, or separate by commas"
    )
    parser.add_argument("--all-namespaces", action="store_true", default=everywhere, help="the whole cluster")
    parser.add_argument("--workers", type=int, default=int(environment.get("EXPANSION_WORKERS", "4")))
    return parser


def _full_look(text: str, environment: Mapping[str, str]) -> float:
    if not text.isdecimal() or int(text) < SHORTEST_FULL_LOOK:
        least = f"{SHORTEST_FULL_LOOK} or more"
        _parser(environment).error(f"--full-look-seconds {text}: give a whole number, {least}")
    return float(text)


def _lease(text: str | None, environment: Mapping[str, str]) -> tuple[str, str] | None:
    if not text:
        return None
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        _parser(environment).error(f"--lease {text}: give it as namespace/name")
    return namespace, name


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host or "0.0.0.0", int(port)  # noqa: S104


class OneLine(logging.Formatter):
    """`time=… level=… logger=… message="…"`, a traceback inside the message."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        said = json.dumps(message, ensure_ascii=False)
        return f"time={at} level={record.levelname.lower()} logger={record.name} message={said}"


def log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("kopf", "botocore", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
