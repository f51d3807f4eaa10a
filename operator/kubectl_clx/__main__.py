"""`kubectl clx`: reads the arguments, asks the API, prints, and ends with a code of exits.py."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from expansion_contract.report import RunReport
from kubectl_clx import asking, gitops, logs, manifests, preview
from kubectl_clx.api import Api, Where
from kubectl_clx.drawing import Paper, drawn
from kubectl_clx.exits import Exit
from kubectl_clx.problem import Problem
from kubectl_clx.tree import tree


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    where = Where(kubeconfig=given.kubeconfig, context=given.context, namespace=given.namespace)
    try:
        return int(given.command(Api.at(where), given))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return Exit.PROBLEM
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def _status(api: Api, given: argparse.Namespace) -> Exit:
    body = api.expansion(given.name)
    print(drawn(tree(body, api.pods(given.name), datetime.now(UTC)), _paper(given.color)))
    return Exit.DONE


def _logs(api: Api, given: argparse.Namespace) -> Exit:
    terminal = logs.Terminal(line=_line, note=lambda text: print(text, file=sys.stderr, flush=True))
    if not given.follow:
        logs.show(api, given.name, given.tail, terminal)
        return Exit.DONE
    return Exit.DONE if logs.follow(api, given.name, given.tail, terminal) else Exit.RUN_FAILED


def _retrain(api: Api, given: argparse.Namespace) -> Exit:
    asked = asking.retrain(api.expansion(given.name), datetime.now(UTC))
    api.patch(given.name, asked.changes)
    print(asked.says)
    return Exit.DONE


def _rollback(api: Api, given: argparse.Namespace) -> Exit:
    body = api.expansion(given.name)
    asked = asking.rollback(body, given.to)
    api.patch(given.name, asked.changes)
    print(asked.says)
    if advice := gitops.advice(body, asked.changes, asking.VERSION_PATH):
        print(f"\n{advice}")
    return Exit.DONE


def _diff(api: Api, given: argparse.Namespace) -> Exit:
    report = _report(given.report) if given.report else None
    worst = Exit.DONE
    for file in manifests.expansions(_content(given.filename), given.filename):
        there = api.within(manifests.namespace_of(file, given.namespace, api.namespace))
        told = preview.of(
            file, there.find(file["metadata"]["name"]), there.namespace, report, datetime.now(UTC)
        )
        print(told.text)
        worst = max(worst, told.exit)
    return worst


def _report(file: str) -> RunReport:
    try:
        return RunReport.model_validate_json(_content(file))
    except ValidationError as error:
        raise Problem(f"{file} is no report.json of a run: {error.errors()[0]['msg']}.") from None


def _content(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file} cannot be read: {error}.") from None


def _line(text: str) -> None:
    print(text, flush=True)


def _paper(colour: str) -> Paper:
    terminal = sys.stdout.isatty()
    wanted = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return Paper(
        colour=colour == "always" or (colour == "auto" and wanted),
        lines="utf" in (sys.stdout.encoding or "").lower(),
        width=shutil.get_terminal_size().columns if terminal else 0,
    )


# Arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kubectl clx", description=__doc__, parents=[_places()])
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    status = _command(commands, "status", _status, "data, run, gate, version and pods, with the reasons")
    status.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    log = _command(commands, "logs", _logs, "what the trainer of the current run says")
    log.add_argument("-f", "--follow", action="store_true", help="until the run ends, from pod to pod")
    log.add_argument("--tail", type=int, metavar="LINES", help="only the last lines of what was said before")
    _command(commands, "retrain", _retrain, "train once more with nothing changed")
    rollback = _command(commands, "rollback", _rollback, "serve an earlier published version, without a Job")
    rollback.add_argument(
        "--to", metavar="VERSION", help=f"its number, or `{asking.NEWEST}`; default: the one before"
    )
    diff = _command(commands, "diff", _diff, "what an edit in a file would do; applies nothing", named=False)
    diff.add_argument(
        "-f", "--filename", required=True, metavar="FILE", help="the edited manifest; - for stdin"
    )
    diff.add_argument("--report", metavar="FILE", help="a run's report.json, for the gate's exact verdict")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[Api, argparse.Namespace], Exit],
    does: str,
    *,
    named: bool = True,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=does, description=does, parents=[_places(inner=True)])
    if named:
        parser.add_argument("name", metavar="NAME", help="of the ClassifierExpansion")
    parser.set_defaults(command=run)
    return parser


def _places(*, inner: bool = False) -> argparse.ArgumentParser:
    """kubectl's own flags, before the command and behind it."""
    default = argparse.SUPPRESS if inner else None
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument("-n", "--namespace", default=default)
    places.add_argument("--context", default=default)
    places.add_argument("--kubeconfig", default=default, metavar="FILE")
    return places


if __name__ == "__main__":
    sys.exit(main())
