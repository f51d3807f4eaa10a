"""What `diff` shows of one resource: the fields that change, what follows, and the exit code that stands for it. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from expansion_contract.report import RunReport
from kubectl_clx.applied import after_applying
from kubectl_clx.difference import Difference, Effect, difference
from kubectl_clx.exits import Exit
from kubectl_clx.manifests import Refusal, resource
from kubectl_clx.problem import Problem
from kubectl_clx.remembered import Told

Body = dict[str, Any]
_EXITS = {
    Effect.NOTHING: Exit.DONE,
    Effect.SERVING: Exit.SERVING,
    Effect.GATE: Exit.GATE,
    Effect.PUBLISH: Exit.PUBLISH,
    Effect.TRAIN: Exit.TRAIN,
    Effect.STOP: Exit.STOP,
    Effect.REFUSED: Exit.REFUSED,
    Effect.UNKNOWN: Exit.UNKNOWN,
}


@dataclass(frozen=True, kw_only=True)
class Preview:
    text: str
    exit: Exit


def of(file: Body, live: Body | None, namespace: str, report: RunReport | None, now: datetime) -> Preview:
    """`live`: as the API server gives it; None if there is none yet."""
    title = f"{namespace}/{file['metadata']['name']}"
    try:
        if live is None:
            return _created(file, title)
        edited = resource(after_applying(file, live))
    except Refusal as refusal:
        return Preview(text=f"{title}: {Effect.REFUSED}\n{refusal}", exit=Exit.REFUSED)
    return _told(title, difference(Told(live=_live(live), edited=edited, report=report), now))


def _live(body: Body) -> Any:
    try:
        return resource(body)
    except Refusal as refusal:
        raise Problem(
            f"The live resource cannot be read by this release of kubectl-clx: {refusal} Use the release of the operator."
        ) from None


def _created(file: Body, title: str) -> Preview:
    resource(file)
    says = "There is none yet: applying the file makes it. Its images are listed, a Job trains, the gate decides."
    return Preview(text=f"{title}: {Effect.TRAIN}\n{says}", exit=Exit.TRAIN)


def _told(title: str, found: Difference) -> Preview:
    lines = [f"{title}: {found.effect}", *(f"  {change}" for change in found.changes), found.says]
    lines += [f"Or {other.effect}, which status does not tell: {other.says}" for other in found.otherwise]
    lines += [f"Later {coming.effect}: {coming.says}" for coming in found.later]
    return Preview(text="\n".join(lines), exit=_EXITS[found.effect])
