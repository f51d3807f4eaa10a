"""What the demo does in both of its modes: pictures into the bucket, the base model's own answers, the time each part takes."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from expansion_contract.run import StorageAccess
from expansion_development import pictures
from expansion_development.processes import REPOSITORY, frugal_environment, start, stop, tail
from expansion_development.stack import StoreAddress
from expansion_storage import Credentials, Prefix, open_prefix
from expansion_storage.s3 import client

FOLDER = REPOSITORY / "build" / "demo"
EXAMPLE = REPOSITORY / "examples" / "digits" / "expansion.yaml"
_UPLOADS_AT_ONCE = 8


class DemoFailed(Exception):
    """The demo could not show what it should; the message says what happened and what to look at."""


def say(line: str = "") -> None:
    print(line, flush=True)


@dataclass
class Seconds:
    """Wall seconds of each part of the demo."""

    parts: dict[str, float] = field(default_factory=dict)
    _begun: float = field(default_factory=time.monotonic)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.parts[part] = round(time.monotonic() - begun, 1)

    @property
    def total(self) -> float:
        return round(time.monotonic() - self._begun, 1)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The pictures that the models are asked about: photographs, and a digit nobody trained on."""

    photographs: list[pictures.Picture]
    digit: pictures.Picture
    truth: str

    @property
    def all(self) -> list[pictures.Picture]:
        return [*self.photographs, self.digit]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best answer to one picture."""

    name: str
    score: float


class Before:
    """Asks the pretrained network in a process of its own, while other things happen."""

    def __init__(self, asked: Asked, folder: Path) -> None:
        files = pictures.save(asked.all, folder / "asked")
        self._out, self._log = folder / "before.json", folder / "before.log"
        program = [sys.executable, "-m", "expansion_development.base_answers", "--out", str(self._out)]
        self._process = start([*program, *map(str, files)], self._log, frugal_environment())

    def answers(self) -> tuple[int, list[Answer]]:
        """How many categories the network has, and its answers."""
        if self._process.wait(timeout=300) != 0:
            raise DemoFailed(f"The pretrained network could not be asked:\n{tail(self._log)}")
        told = json.loads(self._out.read_text())
        return told["categories"], [Answer(name=name, score=score) for name, score in told["answers"]]

    def stop(self) -> None:
        stop(self._process, grace_seconds=0)


def empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def open_store(store: StoreAddress, uri: str) -> Prefix:
    return open_prefix(uri, StorageAccess(endpoint_url=store.endpoint), _credentials(store))


def _credentials(store: StoreAddress) -> Credentials:
    return Credentials(access_key_id=store.access_key_id, secret_access_key=store.secret_access_key)


def resource(store: StoreAddress, file: Path) -> dict[str, Any]:
    """The example with this machine's store in it; also written to `file`."""
    read: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    read["spec"]["storage"]["endpointUrl"] = store.endpoint
    file.write_text(yaml.safe_dump(read, sort_keys=False))
    return read


def upload(store: StoreAddress, example: dict[str, Any], images: list[pictures.Picture]) -> None:
    """Makes the buckets that the resource names and puts the images where it expects them."""
    spec = example["spec"]
    s3 = client(StorageAccess(endpoint_url=store.endpoint), _credentials(store), None)
    for address in (spec["categories"]["images"], spec["output"]["models"]):
        s3.create_bucket(Bucket=address.removeprefix("s3://").partition("/")[0])
    place = open_store(store, spec["categories"]["images"])
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
        for _ in pool.map(lambda one: place.write(one.name, one.content, "image/png"), images):
            pass


def store_environment(store: StoreAddress) -> dict[str, str]:
    """For our command line: the keys as boto3 reads them."""
    keys = {"AWS_ACCESS_KEY_ID": store.access_key_id, "AWS_SECRET_ACCESS_KEY": store.secret_access_key}
    return {**frugal_environment(), **keys}


def output_of(command: list[str], environment: dict[str, str]) -> str:
    """What it prints. Raises DemoFailed with its complaint."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise DemoFailed(f"{' '.join(command[:4])} … failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
