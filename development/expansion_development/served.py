"""Asks a served model, as a client in the cluster would: through the Service's EndpointSlice, by TensorFlow Serving's REST interface."""

import base64
import http.client
import json
import time
from collections.abc import Sequence

from expansion_development.kubernetes_api import Api


class NotServed(Exception):
    """No model server answers; the message says what was found instead."""


def endpoint(api: Api, namespace: str, service: str, port: str = "http") -> tuple[str, int]:
    """Host and port of a ready model server."""
    label = f"kubernetes.io/service-name={service}"
    for found in api.list("endpointslices", namespace, labelSelector=label):
        numbers = [one["port"] for one in found.get("ports") or () if one["name"] == port]
        ready = [one for one in found.get("endpoints") or () if one["conditions"].get("ready")]
        if numbers and ready:
            return ready[0]["addresses"][0], numbers[0]
    raise NotServed(f"The Service {namespace}/{service} has no ready endpoint with a port {port!r}.")


def wait_for_endpoint(api: Api, namespace: str, service: str, seconds: float) -> tuple[str, int]:
    """A pod's readiness probe may say it a few seconds after the operator has seen the version live."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return endpoint(api, namespace, service)
        except NotServed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def predict(address: tuple[str, int], model: str, images: Sequence[bytes]) -> list[tuple[str, float]]:
    """Each image's best answer and its score."""
    body = json.dumps({"instances": [{"b64": base64.b64encode(image).decode()} for image in images]})
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request("POST", f"/v1/models/{model}:predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read().decode(errors="replace")
    finally:
        connection.close()
    if answer.status != 200:
        raise NotServed(f"The model server answered {answer.status}: {content[:300]}")
    return [(one["names"][0], one["scores"][0]) for one in json.loads(content)["predictions"]]
