"""When spec.retrain.schedule asks for a run, and which of its times was the last to do so. Pure: the time comes in.

Times are counted from the moment the schedule was first seen, never backwards. However many have passed unseen (the operator
was down, the resource suspended), the newest alone asks: one run, not many.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from expansion_contract.resource import ClassifierExpansion, Retrain, ScheduleStatus
from expansion_operator.conditions import moment, stamp

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_MONTH = 3


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One that is known to fire."""

    cron: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime:
        """The first time after it. A time that a change of clocks skips comes right after the change, one that it repeats comes once."""
        times = CronSim(self.cron, moment.astimezone(self.zone))
        found = next(times)
        # In the hour that is repeated the library may name a time of its first pass.
        while found.astimezone(UTC) <= moment:
            found = next(times)
        return found.astimezone(UTC)

    def latest(self, now: datetime) -> datetime:
        """The last time that is not after `now`."""
        local = (now + timedelta(seconds=1)).astimezone(self.zone)
        found = next(CronSim(self.cron, local, reverse=True)).astimezone(UTC)
        while (following := self.after(found)) <= now:
            found = following
        return found


def problem_with(retrain: Retrain) -> str | None:
    """What only the arithmetic of calendars can refuse; the form is the resource's own rule."""
    if not retrain.schedule:
        return None
    zone = _zone(retrain.time_zone)
    if zone is None:
        near = get_close_matches(retrain.time_zone, sorted(available_timezones()), n=1)
        return f"spec.retrain.timeZone {retrain.time_zone!r} is no known time zone; use an IANA name such as {[*near, 'Europe/Berlin'][0]}."
    cron = _NICKNAMES.get(retrain.schedule, retrain.schedule)
    try:
        Schedule(cron=cron, zone=zone).after(_ANY_TIME)
    except (CronSimError, StopIteration) as error:
        return f"spec.retrain.schedule {retrain.schedule!r} {_why(cron, str(error))}"
    return None


def schedule_of(retrain: Retrain) -> Schedule | None:
    """None if there is none, or one that is refused."""
    zone = _zone(retrain.time_zone)
    if not retrain.schedule or zone is None or problem_with(retrain):
        return None
    return Schedule(cron=_NICKNAMES.get(retrain.schedule, retrain.schedule), zone=zone)


def last(expansion: ClassifierExpansion) -> str:
    """The time that the current run answers. Kept in status, so that taking the schedule away takes nothing back."""
    known = expansion.status.schedule
    return (known.last_at if known else None) or ""


def due(expansion: ClassifierExpansion, now: datetime) -> datetime | None:
    """The newest time that has come and has not been taken up; None while there is none, and while suspended."""
    retrain, known = expansion.spec.retrain, expansion.status.schedule
    if expansion.spec.suspend or known is None or known.asked != _asked(retrain):
        return None
    schedule, following = schedule_of(retrain), moment(known.next_at)
    if schedule is None or following is None or now < following:
        return None
    return schedule.latest(now)


def remembered(expansion: ClassifierExpansion, scheduled: str, now: datetime) -> ScheduleStatus | None:
    """For status. `scheduled`: the time that the current run answers, empty if it could not be looked at."""
    retrain, known = expansion.spec.retrain, expansion.status.schedule
    answered, schedule = scheduled or last(expansion) or None, schedule_of(retrain)
    if schedule is None:
        return ScheduleStatus(last_at=answered) if answered else None
    is_same = known is not None and known.asked == _asked(retrain)
    if is_same and answered == (last(expansion) or None):
        return known
    since = (moment(answered) if is_same else None) or now
    return ScheduleStatus(asked=_asked(retrain), last_at=answered, next_at=stamp(schedule.after(since)))


def wait(expansion: ClassifierExpansion, status: ScheduleStatus | None, now: datetime) -> float | None:
    """Seconds until the next time, none or less if it has come and waits; None if no time is waited for."""
    following = moment(status.next_at) if status else None
    if following is None or expansion.spec.suspend:
        return None
    return (following - now).total_seconds()


def _asked(retrain: Retrain) -> str:
    return f"{retrain.schedule} {retrain.time_zone}"


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _why(cron: str, error: str) -> str:
    fields = cron.split()
    any_month = " ".join([*fields[:_MONTH], "*", *fields[_MONTH + 1 :]])
    try:
        Schedule(cron=any_month, zone=ZoneInfo("UTC")).after(_ANY_TIME)
    except (CronSimError, StopIteration):
        where = error.removeprefix("Bad ") or "day-of-month"
        return f"has a range in its {where} that runs backwards; use the smaller value first."
    return "never fires: no month that it names has such a day; use another day-of-month or month."
