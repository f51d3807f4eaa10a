"""Turns what was found into the list of conditions, as kstatus, Argo CD and people read it. Pure.

`Ready` is always there. `Reconciling` and `Stalled` are there only while true, and never both. A condition's time
changes only when its status does, so that nothing happening writes nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from expansion_contract.resource import Condition
from expansion_operator.observed import Announce

EVENT_LIMIT = 1000
"""Characters of an Event's message; the API server takes 1024."""
MESSAGE_LIMIT = 8192
"""Characters of a condition's message: enough for all words of an admission webhook, and etcd stays small."""
TEXT_LIMIT = 4000
"""Characters of every other text of status; the schema's limit is 4096."""
WAITING = "Waiting"
TOLD = {"Running", "Queued", "Evicted", "BudgetSpent"}
"""What becomes of a run on its way that is worth an Event."""


class Stage(StrEnum):
    """The way to Ready, in order. Four stages have a condition of their own."""

    RESOURCE = "Resource"
    DATASET = "DatasetResolved"
    TRAINING = "Trained"
    GATE = "Accepted"
    PUBLICATION = "Published"
    ROLLOUT = "Rollout"

    def is_before(self, other: "Stage") -> bool:
        order = tuple(Stage)
        return order.index(self) < order.index(other)


SHOWN = (Stage.DATASET, Stage.TRAINING, Stage.GATE, Stage.PUBLICATION)


class Next(StrEnum):
    """What the operator does about a finding."""

    WAIT = "Wait"
    START = "Start"
    STOP = "Stop"
    PUBLISH = "Publish"
    WRITE_SERVING = "WriteServing"
    RELIST = "Relist"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why the resource is not ready: how far it came, one word, a sentence, and what follows.

    `stuck`: only an edit or a person helps (Stalled), else it is being worked on (Reconciling).
    `ends_run`: the run's failure, recorded so that it is never started again.
    `sees_nothing_later`: later stages could not be looked at, so their conditions stay as they are.
    `moves_on`: another run follows by itself, so nobody needs to act.
    `polls`: only other images, or an event, change it.
    `heard`: an event, storage or a model server tells of its end; in between Kubernetes need not be asked each time.
    `retry_at`: the same run is started again then, after so many `failures`.
    """

    stage: Stage
    reason: str
    message: str
    phase: str
    stuck: bool = False
    then: Next = Next.WAIT
    requeue_after: float | None = None
    ends_run: bool = False
    sees_nothing_later: bool = False
    moves_on: bool = False
    polls: bool = False
    heard: bool = False
    failures: int | None = None
    retry_at: datetime | None = None

    @property
    def needs_somebody(self) -> bool:
        return self.stuck and not self.moves_on


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A condition before it has a time."""

    type: str
    status: str
    reason: str
    message: str = ""


def stage_facts(finding: Finding | None, achieved: Mapping[Stage, Fact]) -> Iterator[Fact]:
    """One for each stage that has a condition. None is yielded for what could not be looked at."""
    for stage in SHOWN:
        if finding is None or stage.is_before(finding.stage):
            yield achieved[stage]
        elif stage is finding.stage:
            status = "False" if finding.stuck else "Unknown"
            yield Fact(type=stage, status=status, reason=finding.reason, message=finding.message)
        elif not finding.sees_nothing_later:
            yield waiting(stage, finding)


def waiting(stage: Stage, finding: Finding) -> Fact:
    of = "the resource to be corrected" if finding.stage is Stage.RESOURCE else finding.stage
    return Fact(type=stage, status="Unknown", reason=WAITING, message=f"Waits for {of}.")


def suspension(suspended: bool) -> Fact:
    if suspended:
        message = "spec.suspend is true: no run is started, what is served stays served."
        return Fact(type="Suspended", status="True", reason="Suspended", message=message)
    return Fact(type="Suspended", status="False", reason="NotSuspended")


def verdict(finding: Finding | None, suspended: bool, ready_message: str) -> tuple[Fact, ...]:
    """`Ready`, and the one abnormal condition that says why not. Suspended is neither work nor failure."""
    if finding is None:
        return (Fact(type="Ready", status="True", reason="Ready", message=ready_message),)
    if suspended and finding.stage is not Stage.RESOURCE:
        message = f"spec.suspend is true. {finding.message}"
        return (Fact(type="Ready", status="False", reason="Suspended", message=message),)
    ready = Fact(type="Ready", status="False", reason=finding.reason, message=finding.message)
    abnormal = "Stalled" if finding.needs_somebody else "Reconciling"
    return ready, Fact(type=abnormal, status="True", reason=finding.reason, message=finding.message)


def dated(
    facts: Iterable[Fact], previous: Iterable[Condition], generation: int, now: datetime
) -> list[Condition]:
    """The conditions of this generation; what no fact speaks of but was not looked at is kept by the caller."""
    before = {condition.type: condition for condition in previous}
    return [_dated(fact, before.get(fact.type), generation, now) for fact in facts]


def _dated(fact: Fact, before: Condition | None, generation: int, now: datetime) -> Condition:
    same = before is not None and before.status == fact.status
    return Condition(
        type=fact.type,
        status=fact.status,
        reason=word(fact.reason),
        message=clipped(fact.message, MESSAGE_LIMIT),
        last_transition_time=before.last_transition_time if before and same else stamp(now),
        observed_generation=generation,
    )


def announcements(previous: Iterable[Condition], current: Iterable[Condition]) -> tuple[Announce, ...]:
    """One Event for each thing that came true or stopped being true, none for what is merely still so."""
    before = {condition.type: condition for condition in previous}
    return tuple(
        Announce(
            kind="Warning" if _is_bad(condition) else "Normal",
            reason=condition.reason,
            message=clipped(condition.message, EVENT_LIMIT),
        )
        for condition in current
        if _is_news(condition, before.get(condition.type))
    )


def _is_bad(condition: Condition) -> bool:
    return condition.type == "Stalled" or condition.status == "False"


def _is_news(condition: Condition, before: Condition | None) -> bool:
    if condition.type == "Stalled" or (condition.type == "Trained" and condition.reason in TOLD):
        return before is None or before.reason != condition.reason
    if before is not None and before.status == condition.status:
        return False
    if condition.status == "True":
        return condition.type != "Reconciling"
    return condition.type == "Serving" and before is not None and condition.status == "False"


def word(reason: str) -> str:
    """Reasons of other programs may be no word; kubectl wait and the conventions need one."""
    return re.sub(r"[^A-Za-z0-9]", "", reason)[:256] or "Failed"


def clipped(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str | None) -> datetime | None:
    """A time as Kubernetes or the trainer wrote it; None if there is none."""
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
