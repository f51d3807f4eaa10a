"""A trainer that answers at once, for tests of the operator: reads run.json, writes what a trainer writes, and ends.

What it does stands in the object `behaviour` below the output: words, one for each attempt; the last one counts for all others.
`succeed[:accuracy]`, `fail:<exit code>`, `killed`, `out-of-memory`, `slow:<seconds>` (and silent), `busy:<seconds>` (and
says how far it is), `images-changed`, `overlap`, `no-report`, `future-report`.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256

from expansion_contract import environment, layout
from expansion_contract.dataset import category_of
from expansion_contract.exit_codes import ExitCode
from expansion_contract.report import (
    BaseDrop,
    Category,
    CategoryScore,
    DatasetReport,
    File,
    HeadReport,
    Metrics,
    Progress,
    Proportion,
    RunReport,
)
from expansion_contract.run import TrainingRun
from expansion_storage import ObjectMissing, open_prefix
from expansion_storage.prefix import Prefix


def main() -> int:
    address = sys.argv[sys.argv.index("--run") + 1]
    folder, _, name = address.rpartition("/")
    access = environment.storage_access(os.environ)
    run = TrainingRun.model_validate_json(open_prefix(folder, access).read(name))
    place = partial(open_prefix, access=access)
    output = place(run.output)
    behaviour, _, detail = _behaviour(output, run).partition(":")
    print(f"attempt of run {run.run_id}: {behaviour} {detail}", flush=True)
    _progress(output, run, 10)
    code = _behave(place, run, behaviour, detail)
    print(f"it ends with {code}")
    return code


def _behave(place: Callable[[str], Prefix], run: TrainingRun, behaviour: str, detail: str) -> int:
    output = place(run.output)
    match behaviour:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "out-of-memory":
            _use_memory()
        case "fail":
            return fail(output, run, int(detail))
        case "images-changed":
            return fail(output, run, ExitCode.DATASET_CHANGED)
        case "overlap":
            return fail(output, run, ExitCode.BAD_DATASET, "CategoryOverlap")
        case "no-report":
            return 0
        case "future-report":
            output.write(layout.run(run.run_id, layout.REPORT), b'{"formatVersion": 2, "verdict": "fine"}')
            return 0
        case "slow":
            time.sleep(float(detail))
        case "busy":
            _work(output, run, float(detail))
    return succeed(place, run, float(detail) if behaviour == "succeed" and detail else 0.95)


def _behaviour(output: Prefix, run: TrainingRun) -> str:
    """This attempt's word. Attempts are counted in storage, as objects: a killed attempt counts too."""
    attempt = sum(1 for _ in output.list("attempts/"))
    output.write(f"attempts/{attempt}-{run.run_id}", b"")
    try:
        words = output.read("behaviour").decode().split()
    except ObjectMissing:
        words = ["succeed"]
    return words[min(attempt, len(words) - 1)]


def _use_memory() -> None:
    held = []
    while True:
        held.append(os.urandom(2**20) * 8)
        time.sleep(0.01)


def _work(output: Prefix, run: TrainingRun, seconds: float) -> None:
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        _progress(output, run, round(100 * passed / seconds))
        time.sleep(2)


def _progress(output: Prefix, run: TrainingRun, percent: int) -> None:
    progress = Progress(
        run_id=run.run_id, stage="bottlenecks", percent=percent, eta_seconds=5, updated_at=_now()
    )
    output.write(layout.run(run.run_id, layout.PROGRESS), progress.to_json())


def fail(output: Prefix, run: TrainingRun, code: int, reason: str = "") -> int:
    """As the trainer does: it reports what it knows to be permanent."""
    if 10 <= code < 20:
        from expansion_contract.exit_codes import REASONS

        message = "The images are not what they should be. Replace them."
        report = RunReport(
            run_id=run.run_id,
            outcome="Failed",
            reason=reason or REASONS[ExitCode(code)],
            message=message,
            started_at=_now(),
            finished_at=_now(),
        )
        output.write(layout.run(run.run_id, layout.REPORT), report.to_json())
    return code


def succeed(place: Callable[[str], Prefix], run: TrainingRun, accuracy: float) -> int:
    """`place`: the way to an address."""
    output, categories = place(run.output), _categories(place, run)
    listed = json.dumps([category.to_wire() for category in categories])
    files = {"saved_model.pb": b"a model", layout.CATEGORIES: listed.encode()}
    for path, content in files.items():
        output.write(layout.candidate(run.run_id, path), content)
    report = _report(run, accuracy, categories, files)
    output.write(layout.run(run.run_id, layout.REPORT), report.to_json())
    return 0


def _categories(place: Callable[[str], Prefix], run: TrainingRun) -> list[Category]:
    """Those of the base that is grown, else a thousand; then the new ones at the indices that the run keeps for them."""
    if run.model is None:
        base = [Category(index=index, name=f"base {index}", group="base") for index in range(1000)]
    else:
        listed = json.loads(place(run.model.uri).read(layout.CATEGORIES))
        base = [Category.model_validate({**one, "group": "base"}) for one in listed]
    folders = {category_of(entry.key) for entry in place(run.categories.images).list()}
    today = {folder for folder in folders if folder}
    new = [*run.given, *sorted(today - set(run.given))]
    return base + [
        Category(index=len(base) + i, name=name, group="new", state="active" if name in today else "retired")
        for i, name in enumerate(new)
    ]


def _report(
    run: TrainingRun, accuracy: float, categories: list[Category], contents: dict[str, bytes]
) -> RunReport:
    files = [
        File(path=path, size=len(content), sha256=sha256(content).hexdigest())
        for path, content in contents.items()
    ]
    new = [category for category in categories if category.group == "new"]
    return RunReport(
        run_id=run.run_id,
        outcome="Succeeded",
        started_at=_now(),
        finished_at=_now(),
        dataset=DatasetReport(
            digest=run.dataset_digest,
            images=200,
            new_categories=2,
            training_images=160,
            validation_images=20,
            test_images=20,
        ),
        head=HeadReport(
            solver="Softmax",
            l2=0.1,
            offset=0,
            temperature=1,
            evidence=["procedural"],
            base_rows_identical=True,
        ),
        metrics=_metrics(accuracy),
        categories=len(categories),
        new_categories=new,
        given=[category.name for category in new],
        files=files,
    )


def _metrics(accuracy: float) -> Metrics:
    measured = Proportion.of(round(accuracy * 1000), 1000)
    score = CategoryScore(
        name="tulip", training_images=80, validation_images=10, test_images=10, recall=Proportion.of(9, 10)
    )
    return Metrics(
        overall=measured,
        new=measured,
        new_closed=measured,
        new_top5=measured,
        base_before=measured,
        base_after=measured,
        base_drop=BaseDrop(measured=True, source="replay", lost=1, n=1000, value=0.001, low=0, high=0.005),
        categories=[score],
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    sys.exit(main())
