"""The demo without a control plane: the same resource, store and trainer through the command line, and what is therefore not shown."""

import json
import subprocess
import sys
from pathlib import Path

from expansion_contract import layout
from expansion_contract.report import RunReport
from expansion_development import object_store, pictures
from expansion_development.demo_parts import (
    FOLDER,
    Answer,
    Asked,
    Before,
    DemoFailed,
    Seconds,
    open_store,
    output_of,
    resource,
    say,
    store_environment,
    upload,
)
from expansion_development.demo_summary import Outcome
from expansion_development.stack import StoreAddress, store_address

_COMMAND = [sys.executable, "-m", "expansion_trainer.command_line"]
_NOT_SHOWN = (
    "kubectl apply and the conditions of the resource",
    "the operator: the Job, retries, the watch on the bucket, /metrics",
    "the model server, model-sync and a rollout",
)


def run(asked: Asked, before: Before, images: list[pictures.Picture], seconds: Seconds) -> Outcome:
    with object_store.moto() as running:
        store = store_address(running)
        file = FOLDER / "expansion.yaml"
        example = resource(store, file)
        with seconds.of("upload"):
            upload(store, example, images)
        say(f"$ expansion run -f {file}")
        with seconds.of("train"):
            _train(file, store)
        models = str(example["spec"]["output"]["models"])
        report = _report(store, models)
        with seconds.of("ask"):
            after = _answers(store, models, asked)
        count, answered = before.answers()
        return Outcome(
            control_plane=False,
            report=report,
            asked=asked,
            categories_before=count,
            categories_after=report.categories,
            before=answered,
            after=after,
            served_version=None,
            ready=False,
        )


def confess() -> None:
    say("Not shown, for want of a control plane:")
    for one in _NOT_SHOWN:
        say(f"  - {one}")


def _train(file: Path, store: StoreAddress) -> None:
    done = subprocess.run([*_COMMAND, "run", "-f", str(file)], env=store_environment(store), check=False)
    if done.returncode != 0:
        raise DemoFailed(f"The run ended with {done.returncode}; its words stand above.")


def _report(store: StoreAddress, models: str) -> RunReport:
    place = open_store(store, models)
    (found,) = [entry.key for entry in place.list("runs/") if entry.key.endswith(f"/{layout.REPORT}")]
    folder = found.removesuffix(layout.REPORT)
    place.download(f"{folder}{layout.REPORT_PAGE}", FOLDER / layout.REPORT_PAGE)
    return RunReport.model_validate_json(place.read(found))


def _answers(store: StoreAddress, models: str, asked: Asked) -> list[Answer]:
    files = [FOLDER / "asked" / picture.name for picture in asked.all]
    environment = {**store_environment(store), "EXPANSION_ENDPOINT_URL": store.endpoint}
    command = [*_COMMAND, "label", "--json", "--model", models, *map(str, files)]
    told = json.loads(output_of(command, environment))
    best = [one["answers"][0] for one in told]
    return [Answer(name=answer["name"], score=answer["score"]) for answer in best]
