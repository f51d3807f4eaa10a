"""A report in the making: what is known of a run so far, so that one that fails can still say all of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from expansion_contract.report import Finding, RunReport
from expansion_contract.run import TrainingRun
from expansion_trainer.progress import Tracker, rfc3339


@dataclass
class Draft:
    run: TrainingRun
    tracker: Tracker
    _known: dict[str, Any] = field(default_factory=dict)
    _started_at: str = ""

    def __post_init__(self) -> None:
        self._started_at = rfc3339(self.tracker.clock())

    def note(self, **fields: Any) -> None:
        """Fields of RunReport; a later value replaces an earlier one."""
        self._known.update(fields)

    def add_findings(self, findings: Iterable[Finding]) -> None:
        self.note(findings=[*self._known.get("findings", ()), *findings])

    def finished(self, outcome: Literal["Succeeded", "Failed"], **fields: Any) -> RunReport:
        known = {
            "run_id": self.run.run_id,
            "outcome": outcome,
            "started_at": self._started_at,
            "finished_at": rfc3339(self.tracker.clock()),
            "seconds": self.tracker.seconds(),
        }
        return RunReport(**known | self._known | fields)
