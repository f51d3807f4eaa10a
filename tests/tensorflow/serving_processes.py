"""Starts model-sync and the stand-in for TensorFlow Serving as processes, with a tiny classifier, for whoever tests serving."""

import base64
import hashlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expansion_contract import layout
from expansion_contract.report import File
from expansion_contract.run import Owner
from expansion_contract.version import Golden, GoldenImage, ServingDocument, VersionManifest
from expansion_storage import Prefix

HOUSE = Path(__file__).parents[2]
REST_PORT, AGENT_PORT = 8501, 8502
NAME = "flowers"
OWNER = Owner(namespace="team", name=NAME)
_numbers = itertools.count(1)


def own_address() -> str:
    """A loopback address that no other process of these tests uses, as the process node gives one to every pod."""
    number = os.getpid() * 64 + next(_numbers)
    return f"127.{64 + (number >> 16) % 128}.{(number >> 8) % 256}.{number % 253 + 1}"


@dataclass
class Running:
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


@contextmanager
def running(module: str, *arguments: str, variables: Mapping[str, str], log: Path) -> Iterator[Running]:
    paths = os.pathsep.join(str(HOUSE / name) for name in ("operator", "trainer", "development"))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": paths, **variables}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", module, *arguments], env=environment, stdout=output, stderr=output
        )
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()


def model_server(host: str, log: Path, *flags: str) -> Any:
    return running(
        "expansion_development.model_server",
        f"--rest_api_port={REST_PORT}",
        *flags,
        variables={"EXPANSION_BIND": host},
        log=log,
    )


def ask(
    host: str, port: int, path: str, body: object = None, method: str | None = None, raw: bytes | None = None
) -> tuple[int, Any]:
    """HTTP status and the JSON answered, or its text if it is none."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection.request(method or ("GET" if content is None else "POST"), path, content)
        response = connection.getresponse()
        text = response.read().decode("utf-8", "surrogateescape")
    finally:
        connection.close()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, text


def rest(host: str, path: str, body: object = None) -> tuple[int, Any]:
    return ask(host, REST_PORT, path, body)


def predict(host: str, *images: bytes, where: str = "") -> tuple[int, Any]:
    instances = [{"b64": base64.b64encode(image).decode()} for image in images]
    return rest(host, f"/v1/models/{NAME}{where}:predict", {"instances": instances})


def state(host: str, version: int, name: str = NAME) -> str:
    """Of one version in the model server; "" if nobody listens or knows it."""
    try:
        status, answer = rest(host, f"/v1/models/{name}/versions/{version}")
    except OSError:
        return ""
    return str(answer["model_version_status"][0]["state"]) if status == 200 else ""


def until(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"not within {seconds:g} seconds: {what}"
        time.sleep(0.05)
    return value


def tiny_classifier(folder: Path, names: list[str], key: float = 1.0) -> None:
    """A SavedModel with the product's signature, in which an image's length decides. `key` changes the scores."""
    import tensorflow as tf

    module = tf.Module()
    module.centres = tf.Variable([[float(place) for place in range(len(names))]])
    module.names, many = tf.constant(names), min(5, len(names))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes):
        lengths = tf.cast(tf.strings.length(image_bytes), tf.float32)
        scores = tf.nn.softmax(-key * tf.abs(lengths[:, None] - module.centres))
        best, places = tf.math.top_k(scores, k=many)
        return {"names": tf.gather(module.names, places), "scores": best}

    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


def golden_of(folder: Path, images: tuple[bytes, ...] = (b"a", b"abc")) -> Golden:
    """What the model in `folder` answers, by TensorFlow's Python loader: another way than the one that is checked with it."""
    import tensorflow as tf

    answer = tf.saved_model.load(str(folder)).signatures["serving_default"](image_bytes=tf.constant(images))
    rows = zip(images, answer["names"].numpy(), answer["scores"].numpy(), strict=True)
    return Golden(
        tolerance=0.001,
        images=[
            GoldenImage(
                image=base64.b64encode(image).decode(),
                names=[name.decode() for name in names],
                scores=[float(score) for score in scores],
            )
            for image, names, scores in rows
        ],
    )


def put_version(store: Prefix, folder: Path, version: int, golden: Golden | None = None) -> VersionManifest:
    """Publishes a folder as a version, the manifest last."""
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / layout.GOLDEN).write_bytes((golden or golden_of(folder)).to_json())
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        store.upload(layout.version(version, path.relative_to(folder).as_posix()), path)
    manifest = VersionManifest(
        version=version,
        run_id=f"run-{version}",
        owner=OWNER,
        published_at="2026-11-22T00:00:00Z",
        categories=6,
        files=[
            File(
                path=path.relative_to(folder).as_posix(),
                size=path.stat().st_size,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in paths
        ],
    )
    store.write(layout.version(version, layout.MANIFEST), manifest.to_json())
    return manifest


def want(store: Prefix, version: int, sha256: str | None = None) -> ServingDocument:
    """Writes serving.json for a version that is there."""
    key = layout.version(version, layout.MANIFEST)
    document = ServingDocument(
        owner=OWNER,
        model_name=NAME,
        version=version,
        run_id=f"run-{version}",
        manifest_sha256=sha256 or hashlib.sha256(store.read(key)).hexdigest(),
        last_version=version,
    )
    store.write(layout.SERVING, document.to_json())
    return document
