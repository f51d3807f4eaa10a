"""When a run that failed for a reason that passes is started again: later each time, and not for ever. Pure.

The Job tries its pod again by itself (spec.compute.backoffLimit); this is for what lasts longer, such as a store that is away.
The count stands in status, so that an operator that is started again goes on counting.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from expansion_contract.exit_codes import REASONS, ExitCode
from expansion_contract.resource import RunStatus
from expansion_operator.conditions import moment, stamp
from expansion_operator.observed import JobPhase, JobSeen

KILLED = "Killed"
TRANSIENT = frozenset(
    {
        REASONS[ExitCode.STORAGE_UNAVAILABLE],
        REASONS[ExitCode.WEIGHTS_UNAVAILABLE],
        REASONS[ExitCode.TERMINATED],
        KILLED,
    }
)
MOST = 6
FIRST, LONGEST = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Retry:
    number: int
    """1 for the first."""
    at: datetime

    @property
    def words(self) -> str:
        return f"The run is started again at {stamp(self.at)} (retry {self.number} of {MOST})."


def retry_of(latched: RunStatus | None, job: JobSeen, reason: str, now: datetime) -> Retry | None:
    """Of a run whose Job has failed. None if only a person can help, or it was tried often enough."""
    if reason not in TRANSIENT or job.phase is not JobPhase.FAILED:
        return None
    known = planned(latched, job)
    if known is not None:
        return known
    number = (latched.failures or 0 if latched else 0) + 1
    delay = min(LONGEST, FIRST * 2.0 ** (number - 1))
    return Retry(number=number, at=now + delay) if number <= MOST else None


def planned(latched: RunStatus | None, job: JobSeen | None) -> Retry | None:
    """What status says of this very Job's failure, or of one whose Job is gone already."""
    at = moment(latched.retry_at) if latched else None
    if latched is None or at is None or (job is not None and job.created_at != latched.started_at):
        return None
    return Retry(number=latched.failures or 1, at=at)
