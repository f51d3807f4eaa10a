"""`expansion`: the whole job on one machine, from the same resource file and by the same code as in a cluster.

Nothing here imports TensorFlow until a model is trained or asked: `validate`, `report` and `--help` answer at once.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from expansion_contract import environment, layout
from expansion_contract.dataset import Listing
from expansion_contract.report import RunReport
from expansion_contract.resource import ClassifierExpansion
from expansion_contract.run import Owner, TrainingRun, storage_access
from expansion_storage import Prefix, StorageError, open_prefix
from expansion_trainer import published_model, publishing, resource_file
from expansion_trainer.errors import TrainerError
from expansion_trainer.progress import Listener, Tracker, rfc3339, utc_now
from expansion_trainer.report.page import summary
from expansion_trainer.resource_file import Refused
from expansion_trainer.starts import judged
from expansion_trainer.stores import stores_of
from expansion_trainer.terminal import ProgressLine, import_tensorflow_quietly

_DEFAULT_FILE = Path("expansion.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done, and what was trained is published. 1: not done, or refused by the gate, and said why. 2: wrong usage."""
    asked = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = asked.command
    try:
        return command(asked)
    except (Refused, TrainerError, StorageError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was computed is kept; the same command goes on from there.", file=sys.stderr)
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="expansion", description="Grows an image classifier by new categories, on this machine."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="train, check against spec.acceptance, and publish")
    run.add_argument(
        "-f", dest="file", type=Path, required=True, metavar="FILE", help="a ClassifierExpansion"
    )
    run.add_argument("--output", metavar="ADDRESS", help="instead of spec.output.models: a folder or s3://…")
    run.set_defaults(command=_run)

    validate = commands.add_parser(
        "validate", help="say what is wrong with a resource and its images, without training"
    )
    validate.add_argument(
        "-f", dest="file", type=Path, required=True, metavar="FILE", help="a ClassifierExpansion"
    )
    validate.set_defaults(command=_validate)

    label = commands.add_parser("label", help="ask a model what is on images")
    label.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    label.add_argument(
        "--model",
        metavar="ADDRESS",
        help="a version, a run, or an output with its serving.json; default:"
        f" ${environment.OUTPUT}, or the output of {_DEFAULT_FILE}",
    )
    label.add_argument("--top", type=_positive, default=5, metavar="K", help="answers for each image (5)")
    label.add_argument("--json", action="store_true", help="for programs")
    label.set_defaults(command=_label)

    report = commands.add_parser("report", help="sum up a run")
    report.add_argument("run", metavar="RUN", help=f"its folder or address: <output>/{layout.run('<id>')}")
    report.set_defaults(command=_report)

    _add_pack(commands)
    return parser


def _add_pack(commands: Any) -> None:
    pack = commands.add_parser("pack", help="make what lets a network grow without its old images")
    actions = pack.add_subparsers(required=True, metavar="ACTION")
    build = actions.add_parser(
        "build",
        help="statistics and ten real bottlenecks of each category of a pretrained network, for spec.base.pack",
        description="Reads images of a pretrained network's own categories once and keeps at most 60 KiB of each category and"
        " 32 MiB. Stopped, it goes on where it was.",
    )
    build.add_argument(
        "--architecture",
        required=True,
        metavar="NAME",
        help="as in spec.base.pretrained, for example InceptionV3",
    )
    build.add_argument("--weights", metavar="ADDRESS", help="a weights file; default: the published ones")
    build.add_argument("--sha256", metavar="DIGEST", help="of that file")
    build.add_argument(
        "--images",
        required=True,
        metavar="ADDRESS",
        help="one folder per category, named by its WordNet id or its name; as few as one image of each help",
    )
    build.add_argument(
        "--out", required=True, metavar="ADDRESS", help="a folder or s3://…, for this pack alone"
    )
    build.add_argument(
        "--cache",
        metavar="ADDRESS",
        help="keep the bottlenecks, too, where runs find them: spec.storage.cache",
    )
    build.set_defaults(command=_build_pack)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _run(asked: argparse.Namespace) -> int:
    expansion = resource_file.read(asked.file, asked.output)
    output = open_prefix(expansion.spec.output.models, storage_access(expansion))
    publishing.must_own(output, Owner(namespace=expansion.metadata.namespace, name=expansion.metadata.name))
    listing = _usable(judged(expansion, resource_file.listing(expansion)))
    run = publishing.written_run(expansion, listing, output)
    report = publishing.succeeded(output, run.run_id) or _trained(run)
    outcome = publishing.publish_if_accepted(expansion, run, report, output, rfc3339(utc_now()))
    folder = output.below(layout.run(run.run_id))
    print(summary(report))
    print(f"Page: {folder.address(layout.REPORT_PAGE)}")
    if outcome.version is None:
        print(f"Not published: {outcome.verdict.message}", file=sys.stderr)
        return 1
    print(f"Accepted: {outcome.verdict.message}")
    print(f"Published: {output.address(layout.version(outcome.version))}")
    return 0


def _usable(listing: Listing) -> Listing:
    if listing.errors:
        raise Refused(*(problem.message for problem in listing.errors))
    return listing


def _trained(run: TrainingRun) -> RunReport:
    with tempfile.TemporaryDirectory(prefix="expansion-", dir=os.environ.get(environment.SCRATCH)) as scratch:
        stores = stores_of(run, Path(scratch))
        line = ProgressLine(sys.stderr)
        tracker = Tracker(run.run_id, utc_now, (Listener(line.show, 0.5),))
        import_tensorflow_quietly()
        from expansion_trainer.pipeline import train

        with line:
            return train(run, stores, tracker)


def _validate(asked: argparse.Namespace) -> int:
    expansion = resource_file.read(asked.file)
    listing = judged(expansion, resource_file.listing(expansion))
    for problem in listing.problems:
        print(f"{'error' if problem.is_error else 'note'}: {problem.message}", file=sys.stderr)
    if listing.errors:
        return 1
    _check_output(expansion)
    print(f"{asked.file} can be trained: {listing.images} images in {len(listing.counts)} new categories.")
    return 0


def _check_output(expansion: ClassifierExpansion) -> None:
    output = open_prefix(expansion.spec.output.models, storage_access(expansion))
    publishing.must_own(output, Owner(namespace=expansion.metadata.namespace, name=expansion.metadata.name))


def _label(asked: argparse.Namespace) -> int:
    images = [(path, _content(path)) for path in asked.images]
    address, access = _model_address(asked.model)
    with tempfile.TemporaryDirectory(prefix="expansion-", dir=os.environ.get(environment.SCRATCH)) as scratch:
        folder = published_model.local_copy(address, access, Path(scratch))
        import_tensorflow_quietly()
        from expansion_trainer.labelling import label

        labelled = label(folder, images, asked.top)
    print(json.dumps(labelled, ensure_ascii=False, indent=1) if asked.json else _as_text(labelled))
    return 1 if any("error" in one for one in labelled) else 0


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from None


def _model_address(given: str | None) -> tuple[str, Any]:
    """An address and the way to it: as given, from the environment, or from the resource in this folder."""
    address = given or os.environ.get(environment.OUTPUT)
    if address:
        return address, environment.storage_access(os.environ)
    if not _DEFAULT_FILE.exists():
        raise Refused(
            f"Which model? Give --model, or set {environment.OUTPUT}; there is no {_DEFAULT_FILE} here."
        )
    expansion = resource_file.read(_DEFAULT_FILE)
    return expansion.spec.output.models, storage_access(expansion)


def _as_text(labelled: Sequence[dict[str, Any]]) -> str:
    lines = []
    for one in labelled:
        lines.append(f"{one['image']}{': ' + one['error'] if 'error' in one else ''}")
        lines += [f"  {answer['score']:.3f}  {answer['name']}" for answer in one.get("answers", ())]
        if "outcome" in one:
            lines.append(f"  {one['outcome']} (known score {one['known_score']:.3f})")
    return "\n".join(lines)


def _report(asked: argparse.Namespace) -> int:
    address = asked.run.removesuffix(layout.REPORT).removesuffix(layout.REPORT_PAGE)
    folder = open_prefix(address, environment.storage_access(os.environ))
    report = publishing.read_report(folder)
    if report is None:
        raise Refused(
            f"There is no {layout.REPORT} at {folder.uri}: give a run's folder, <output>/{layout.run('<id>')}."
        )
    print(summary(report))
    print(f"Page: {_page(folder)}")
    return 0


def _build_pack(asked: argparse.Namespace) -> int:
    pretrained = resource_file.pretrained(asked.architecture, asked.weights, asked.sha256)
    line = ProgressLine(sys.stderr)
    with tempfile.TemporaryDirectory(prefix="expansion-", dir=os.environ.get(environment.SCRATCH)) as scratch:
        import_tensorflow_quietly()
        from expansion_trainer.packs import command

        request = command.Asked(
            pretrained=pretrained,
            images=resource_file.local(asked.images),
            out=resource_file.local(asked.out),
            cache=resource_file.local(asked.cache) if asked.cache else None,
        )
        access = environment.storage_access(os.environ)
        with line:
            summary = command.answered(request, access, Path(scratch), line.show, utc_now)
    print(*summary, sep="\n")
    return 0


def _page(folder: Prefix) -> str:
    return folder.address(layout.REPORT_PAGE)


if __name__ == "__main__":
    sys.exit(main())
