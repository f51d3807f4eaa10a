"""`make demo`: the whole product on one machine, on real parts, in about two minutes.

A real API server, an S3 server, the operator and a process node start; a real network with ImageNet's thousand categories
learns ten more; and the model that is then served is asked whether a cat is still a cat.
"""

import argparse
import os
import signal
import sys
import time
import urllib.request
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expansion_contract import layout
from expansion_contract.report import RunReport
from expansion_contract.resource import PLURAL
from expansion_development import demo_local, demo_stack, pictures, processes, programs, served
from expansion_development.demo_parts import (
    FOLDER,
    Answer,
    Asked,
    Before,
    DemoFailed,
    Seconds,
    empty,
    open_store,
    output_of,
    resource,
    say,
    upload,
)
from expansion_development.demo_stack import Stack, StackFailed
from expansion_development.demo_summary import Outcome, summary, table, write
from expansion_development.kubernetes_api import Api, Manifest
from expansion_development.programs import ControlPlaneUnavailable, Places
from expansion_development.served import NotServed
from expansion_development.stack import MARK, StackAddress, StoreAddress
from expansion_development.watching import GaveUp, Watching

NAMESPACE = "demo"
SCANS = 1200
"""Of the 1796, about 120 of each digit: the second run should take two minutes on two cores."""
_READY_SECONDS = 600.0
_ENDPOINT_SECONDS = 30.0
_METRICS = (
    "expansion_categories",
    "expansion_new_category_accuracy_ratio",
    "expansion_base_accuracy_drop_ratio",
    "expansion_served_version",
    "expansion_ready",
)


@dataclass
class Demo:
    keep: bool
    started: float = field(default_factory=time.monotonic)
    seconds: Seconds = field(default_factory=Seconds)

    def run(self) -> Outcome:
        binaries = self._binaries()
        scans, digit, truth = pictures.digits()
        images = scans[:SCANS]
        asked = Asked(photographs=pictures.photographs(), digit=digit, truth=truth)
        with ExitStack() as running:
            before = Before(asked, FOLDER)
            running.callback(before.stop)
            if binaries is None:
                return demo_local.run(asked, before, images, self.seconds)
            try:
                stack = running.enter_context(Stack(FOLDER, self.keep))
                store = stack.store()
                example = self._upload(store, images)
                with self.seconds.of("start"):
                    up = stack.ready()
            except StackFailed as problem:
                _go_local(problem)
                return demo_local.run(asked, before, images, self.seconds)
            outcome = self._grow(binaries["kubectl"], store, up, example, asked, before)
            stack.leave_up()
            return outcome

    def _binaries(self) -> dict[str, Path] | None:
        try:
            with self.seconds.of("programs"):
                return programs.obtain(programs.ALL, Places.of(dict(os.environ)), say)
        except ControlPlaneUnavailable as problem:
            _go_local(problem)
            return None

    def _upload(self, store: StoreAddress, images: list[pictures.Picture]) -> Manifest:
        example = resource(store, FOLDER / "expansion.yaml")
        address = example["spec"]["categories"]["images"]
        say(f"Putting {len(images)} scans of handwritten digits, ten folders, into {address} ...")
        with self.seconds.of("upload"):
            upload(store, example, images)
        return example

    def _grow(
        self,
        kubectl: Path,
        store: StoreAddress,
        up: StackAddress,
        example: Manifest,
        asked: Asked,
        before: Before,
    ) -> Outcome:
        api, name = Api(Path(up.kubeconfig)), str(example["metadata"]["name"])
        _prepare(api, store)
        _kubectl(kubectl, up, "apply", "-f", str(FOLDER / "expansion.yaml"))
        with self.seconds.of("ready"):
            self._watch(api, name, up)
        with self.seconds.of("ask"):
            after = _asked_of_served(api, name, asked)
        count, answered = before.answers()
        found = api.get(PLURAL, NAMESPACE, name)
        report = _report(store, example, found)
        _kubectl(kubectl, up, "get", "clx")
        _show_metrics(up.metrics)
        return Outcome(
            control_plane=True,
            report=report,
            asked=asked,
            categories_before=count,
            categories_after=found["status"]["model"]["categories"],
            before=answered,
            after=after,
            served_version=found["status"]["serving"]["version"],
            ready=True,
        )

    def _watch(self, api: Api, name: str, up: StackAddress) -> None:
        watching = Watching(lambda: api.get(PLURAL, NAMESPACE, name), sys.stdout, self.started)
        try:
            watching.until_ready(_READY_SECONDS)
        except GaveUp as problem:
            raise DemoFailed(f"{problem}\n{_logs(up)}") from None


def _go_local(problem: Exception) -> None:
    say(
        "No control plane can be had on this machine, so the same resource is run in local mode, without one."
    )
    say(f"Why: {problem}")


def _prepare(api: Api, store: StoreAddress) -> None:
    """What the resource's owner has already: a namespace, and a Secret with the keys of the bucket."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    keys = {"AWS_ACCESS_KEY_ID": store.access_key_id, "AWS_SECRET_ACCESS_KEY": store.secret_access_key}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s3-credentials"},
        "stringData": keys,
    }
    api.apply("namespaces", "", namespace)
    api.apply("secrets", NAMESPACE, secret)


def _kubectl(binary: Path, up: StackAddress, *words: str) -> None:
    """The real kubectl, with its words shown."""
    say(f"\n$ kubectl -n {NAMESPACE} {' '.join(_short(word) for word in words)}")
    own = ["--kubeconfig", up.kubeconfig, "--cache-dir", str(FOLDER / "kubectl-cache"), "-n", NAMESPACE]
    say(output_of([str(binary), *own, *words], dict(os.environ)).rstrip())


def _short(word: str) -> str:
    path = Path(word)
    return str(path.relative_to(processes.REPOSITORY)) if path.is_relative_to(processes.REPOSITORY) else word


def _asked_of_served(api: Api, name: str, asked: Asked) -> list[Answer]:
    try:
        address = served.wait_for_endpoint(api, NAMESPACE, f"{name}-serving", _ENDPOINT_SECONDS)
        answers = served.predict(address, name, [picture.content for picture in asked.all])
    except (NotServed, OSError) as problem:
        raise DemoFailed(f"The served model does not answer: {problem}") from None
    return [Answer(name=best, score=score) for best, score in answers]


def _report(store: StoreAddress, example: Manifest, found: Manifest) -> RunReport:
    place = open_store(store, example["spec"]["output"]["models"])
    run_id = found["status"]["model"]["runId"]
    for file in (layout.REPORT, layout.REPORT_PAGE):
        place.download(layout.run(run_id, file), FOLDER / file)
    return RunReport.model_validate_json((FOLDER / layout.REPORT).read_bytes())


def _show_metrics(address: str) -> None:
    say(f"\n$ curl {address}")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    for line in lines:
        if line.startswith(tuple(f"{name}{{" for name in _METRICS)):
            say(line)


def _logs(up: StackAddress) -> str:
    logs = [Path(up.operator_log), *sorted((Path(up.node_folder) / "logs").rglob("*.log"))]
    return "\n".join(f"--- {log}\n{processes.tail(log, 15)}" for log in logs)


def _tell(outcome: Outcome, demo: Demo) -> dict[str, Any]:
    say(f"\nThe same pictures before (1000 categories) and after ({outcome.categories_after}):")
    for line in table(outcome):
        say(line)
    content = summary(outcome, demo.seconds)
    new = content["new_accuracy"]
    say(
        f"\nNew categories: {new['value']:.1%} of {new['n']} test images (95 % interval {new['low']:.1%} to {new['high']:.1%})."
        f" The thousand old rows of the head are {'bit-identical' if content['base_rows_identical'] else 'CHANGED'}."
    )
    say(
        f"Report: {_short(str(FOLDER / layout.REPORT_PAGE))}   Summary: {_short(str(FOLDER / 'summary.json'))}"
    )
    write(content, FOLDER / "summary.json")
    return content


def run(keep: bool) -> int:
    if demo_stack.kept(FOLDER):
        say("A demo is up already. `make demo-stop` stops it.")
        return 1
    empty(FOLDER)
    os.environ[MARK] = uuid.uuid4().hex
    say("Growing a real image classifier: EfficientNet-Lite0, 1000 ImageNet categories, learns ten more.")
    demo = Demo(keep)
    try:
        outcome = demo.run()
    except DemoFailed as problem:
        say(f"\n{problem}")
        return 1
    content = _tell(outcome, demo)
    if not outcome.control_plane:
        demo_local.confess()
    if keep and outcome.control_plane:
        demo_stack.explain(FOLDER, NAMESPACE)
    elif left := demo_stack.left_running(os.environ[MARK]):
        say(f"Still running, which is a mistake: {', '.join(left)}")
        return 1
    say(f"Took {content['seconds']['total']:.0f} s." + ("" if keep else " Nothing is left running."))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="expansion_development.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything up")
    parser.add_argument("--stop", action="store_true", help="stop what --keep left up")
    given = parser.parse_args()
    if given.stop:
        say(demo_stack.stop_kept(FOLDER))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is stopped and removed
    try:
        return run(given.keep)
    except KeyboardInterrupt:
        say("\nStopped.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
